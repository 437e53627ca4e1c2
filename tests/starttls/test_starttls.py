"""From plaintext to TLS as bytes: `ptunnel.starttls`, what all protocols have in common."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import ClassVar, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.starttls import UPGRADES, Ready, UpgradeRefused
from ptunnel.starttls.upgrade import MAX_EXCHANGE, MAX_LINE, MAX_LINES, MAX_QUOTED
from tests.support.fakes import Counted

EARLY = "answers before it was asked"
BEHIND = "sends more behind its last answer before TLS"


class Outcome(NamedTuple):
    """All that can be told from outside about how an exchange ends.

    `said` is what the server got to read. `ending` is Ready(), the words of a refusal, or None.
    `greeting` is what the client gets to see, once TLS stands.
    """

    said: list[bytes]
    ending: Ready | str | None
    greeting: bytes


def talk(name: str, *turns: bytes | list[bytes]) -> Outcome:
    """A server that says each turn, whole or in pieces, whatever it is told."""
    upgrade = UPGRADES[name]("server.example")
    said = [upgrade.begin()] if upgrade.begin() else []
    ending: Ready | str | None = None
    try:
        for turn in turns:
            for piece in turn if isinstance(turn, list) else [turn]:
                reaction = upgrade.feed(piece)
                if isinstance(reaction, bytes):
                    said.append(reaction)
                elif reaction is not None:
                    ending = reaction
    except UpgradeRefused as e:
        return Outcome(said, str(e), b"")
    return Outcome(said, ending, upgrade.greeting if ending else b"")


def bytewise(turn: bytes) -> list[bytes]:
    return [turn[i : i + 1] for i in range(len(turn))]


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(data) + 1) for p in positions), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


class Script(NamedTuple):
    """A dialogue that leads to TLS, the server's turns and ours one after the other."""

    name: str
    turns: list[bytes]
    said: list[bytes]
    greeting: bytes = b""


# Recorded from Dovecot 2.3, Postfix 3.7, OpenLDAP 2.5 and PostgreSQL 15. Those of vsftpd,
# Pure-FTPd, Active Directory, Prosody and ejabberd are written by hand, in the shape of theirs.
EHLO = b"EHLO [127.0.0.1]\r\n"
POSTFIX_GREETING = b"220 mail.example.com ESMTP Postfix\r\n"
POSTFIX_OFFER = (
    b"250-mail.example.com\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n"
    b"250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n"
    b"250 CHUNKING\r\n"
)
START_TLS = b"0\x1d\x02\x01\x01w\x18\x80\x161.3.6.1.4.1.1466.20037"
STREAM = (
    b"<?xml version='1.0'?><stream:stream to='server.example' version='1.0' xml:lang='en' "
    b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
TLS = b"urn:ietf:params:xml:ns:xmpp-tls"

DOVECOT_IMAP = Script(
    "imap",
    [
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS "
        b"AUTH=PLAIN] Dovecot (Debian) ready.\r\n",
        b"ptunnel1 OK Begin TLS negotiation now.\r\n",
    ],
    [b"ptunnel1 STARTTLS\r\n"],
    b"* OK ready\r\n",
)
DOVECOT_POP3 = Script(
    "pop3",
    [b"+OK Dovecot (Debian) ready.\r\n", b"+OK Begin TLS negotiation now.\r\n"],
    [b"STLS\r\n"],
    b"+OK ready\r\n",
)
POSTFIX = Script(
    "smtp",
    [POSTFIX_GREETING, POSTFIX_OFFER, b"220 2.0.0 Ready to start TLS\r\n"],
    [EHLO, b"STARTTLS\r\n"],
    b"220 server.example ESMTP ready\r\n",
)
VSFTPD = Script(
    "ftp",
    [b"220 (vsFTPd 3.0.3)\r\n", b"234 Proceed with negotiation.\r\n"],
    [b"AUTH TLS\r\n"],
    b"220 ready\r\n",
)
PUREFTPD_GREETING = (
    b"220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------\r\n"
    b"220-You are user number 1 of 50 allowed.\r\n"
    b" 150 of these are spare\r\n"
    b"331 of them too\r\n"
    b"\r\n"
    b"220 You will be disconnected after 15 minutes of inactivity.\r\n"
)
PUREFTPD = Script(
    "ftp", [PUREFTPD_GREETING, b"234 AUTH TLS OK.\r\n"], [b"AUTH TLS\r\n"], VSFTPD.greeting
)
POSTGRESQL = Script("postgres", [b"S"], [b"\0\0\0\x08\x04\xd2\x16\x2f"])
OPENLDAP = Script("ldap", [b"0\x0c\x02\x01\x01x\x07\x0a\x01\0\x04\0\x04\0"], [START_TLS])
ACTIVE_DIRECTORY = Script(
    "ldap",
    [
        b"0\x84\0\0\0\x28\x02\x01\x01x\x84\0\0\0\x1f\x0a\x01\0\x04\0\x04\0"
        b"\x8a\x161.3.6.1.4.1.1466.20037"
    ],
    [START_TLS],
)
STARTTLS = b"<starttls xmlns='" + TLS + b"'/>"
PROSODY = Script(
    "xmpp",
    [
        b"<?xml version='1.0'?><stream:stream xml:lang='en' id='5b4d' version='1.0' "
        b"xmlns:stream='http://etherx.jabber.org/streams' from='server.example' "
        b"xmlns='jabber:client'><stream:features><starttls xmlns='" + TLS + b"'><required/>"
        b"</starttls></stream:features>",
        b"<proceed xmlns='" + TLS + b"'/>",
    ],
    [STREAM, STARTTLS],
)
EJABBERD = Script(
    "xmpp",
    [
        b"<?xml version='1.0'?><stream:stream id='1234' version='1.0' xml:lang='en' "
        b"xmlns:stream='http://etherx.jabber.org/streams' from='server.example' "
        b"xmlns='jabber:client'>"
        b"<stream:features><starttls xmlns='" + TLS + b"'/><mechanisms "
        b"xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
        b"<c hash='sha-1' node='http://www.process-one.net/en/ejabberd/' ver='a&gt;b>='/>"
        b"</stream:features>\n",
        b"<proceed xmlns='" + TLS + b"'></proceed>",
    ],
    [STREAM, STARTTLS],
)
SCRIPTS = [
    DOVECOT_IMAP,
    DOVECOT_POP3,
    POSTFIX,
    VSFTPD,
    PUREFTPD,
    POSTGRESQL,
    OPENLDAP,
    ACTIVE_DIRECTORY,
    PROSODY,
    EJABBERD,
]

scripts = st.sampled_from(SCRIPTS)
names = st.sampled_from(sorted(UPGRADES))
# Words that lead somewhere, in any order, and what may stand between them.
words = st.sampled_from(
    [
        *sorted({turn for script in SCRIPTS for turn in script.turns}),
        *[
            b"* BYE\r\n",
            b"* 3 EXISTS\r\n",
            b"-ERR\r\n",
            b"250 x\r\n",
            b"250-STARTTLS\r\n",
            b"220-x\n",
        ],
        *[b"220", b"E\0\0\0\x08fat\0", b"0\x84", b"<a b='>'>", b"</stream:stream>", b"<!--x-->"],
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Script, list[bytes]]:
    """A script, and its turns with a byte, or some, missing, added or other in one of them."""
    script = draw(scripts)
    index = draw(st.integers(0, len(script.turns) - 1))
    turn = script.turns[index]
    at = draw(st.integers(0, len(turn)))
    gone = draw(st.integers(0, 3))
    come = draw(st.sampled_from([b"", b"\0", b"\r", b"\n", b" ", b">"]) | st.binary(max_size=3))
    turns = list(script.turns)
    turns[index] = turn[:at] + come + turn[at + gone :]
    return script, turns


class ScriptTests(SynchronousTestCase):
    def test_eachKnownServerIsLedToTLS(self) -> None:
        for script in SCRIPTS:
            expected = Outcome(script.said, Ready(), script.greeting)
            self.assertEqual(talk(script.name, *script.turns), expected)

    def test_eachIsLedThereByteByByte(self) -> None:
        for script in SCRIPTS:
            expected = Outcome(script.said, Ready(), script.greeting)
            self.assertEqual(talk(script.name, *map(bytewise, script.turns)), expected)

    def test_everyProtocolHasAScript(self) -> None:
        self.assertEqual({script.name for script in SCRIPTS}, set(UPGRADES))

    def test_eachIsFoundByItsName(self) -> None:
        self.assertEqual(
            sorted(UPGRADES), ["ftp", "imap", "ldap", "pop3", "postgres", "smtp", "xmpp"]
        )
        for name, kind in UPGRADES.items():
            self.assertEqual(kind.name, name)

    def test_onlyPostgresHasAPrelude(self) -> None:
        having = [name for name, kind in UPGRADES.items() if kind.prelude is not None]
        self.assertEqual(having, ["postgres"])

    def test_whatTheServerSaysBehindItsLastAnswerIsRefused(self) -> None:
        for script in SCRIPTS:
            for behind in (b"\r\n", b"\0", b" ", script.turns[-1], b"* OK injected\r\n"):
                for turn in (
                    script.turns[-1] + behind,
                    [script.turns[-1], behind],
                    bytewise(script.turns[-1] + behind),
                ):
                    outcome = talk(script.name, *script.turns[:-1], turn)
                    self.assertEqual(outcome.ending, BEHIND, script)

    def test_anAnswerThatComesWithTheOneBeforeIsRefused(self) -> None:
        for script in SCRIPTS:
            if len(script.turns) > 1:
                outcome = talk(script.name, b"".join(script.turns))
                self.assertEqual(outcome.ending, EARLY, script)

    def test_withoutTheLastByteThereIsNoTLS(self) -> None:
        for script in SCRIPTS:
            outcome = talk(script.name, *script.turns[:-1], script.turns[-1][:-1])
            self.assertEqual(outcome, Outcome(script.said, None, b""))

    def test_theTurnBeforeTheLastIsNotTheLast(self) -> None:
        for script in SCRIPTS:
            outcome = talk(script.name, *script.turns[:-1])
            self.assertEqual(outcome.ending, None)


class PlaintextTests(SynchronousTestCase):
    """Whatever is said in clear, anyone between here and the server may have said."""

    GREETINGS: ClassVar = {script.name: script.greeting for script in SCRIPTS}

    @settings(max_examples=300)
    @given(damaged())
    def test_nothingOfItReachesTheClient(self, script: tuple[Script, list[bytes]]) -> None:
        outcome = talk(script[0].name, *script[1])
        if outcome.ending == Ready():
            self.assertEqual(outcome.greeting, self.GREETINGS[script[0].name])

    def test_whatALiarPutsIntoAGreetingIsNotShown(self) -> None:
        ends = {
            "imap": [b"ptunnel1 OK go\r\n"],
            "pop3": [b"+OK go\r\n"],
            "smtp": [POSTFIX_OFFER, b"220 go\r\n"],
            "ftp": [b"234 go\r\n"],
        }
        for name, greeting in (
            ("imap", b"* OK [CAPABILITY X] [CAPABILITY LOGINDISABLED] hi\r\n"),
            ("imap", b"* OK [REFERRAL imap://evil.example/] hi\r\n"),
            ("imap", b"* OK [ALERT] call \x1b]0;evil\x07\x00\r\n"),
            ("imap", b"* OK [ALERT] first\r\n* OK [ALERT] second\r\n"),
            ("pop3", b"+OK chosen <challenge@evil.example>\r\n"),
            ("pop3", b"+OK \x1b[31m\x00\n"),
            ("smtp", b"220-call evil.example\r\n220 \x08\x08 \xff\r\n"),
            ("ftp", b"120 evil\r\n220-\x1b[2J\r\nfree\r\n220 \x00\r\n"),
        ):
            outcome = talk(name, greeting, *ends[name])
            self.assertEqual((outcome.ending, outcome.greeting), (Ready(), self.GREETINGS[name]))

    def test_thoseWhoseClientSpeaksFirstHaveNoGreeting(self) -> None:
        silent = {name for name, greeting in self.GREETINGS.items() if not greeting}
        self.assertEqual(silent, {"postgres", "ldap", "xmpp"})


class CuttingTests(SynchronousTestCase):
    """The same bytes mean the same, however the network cuts them."""

    def assertSame(self, name: str, turns: list[bytes], pieces: list[list[bytes]]) -> None:
        whole, cut = talk(name, *turns), talk(name, *pieces)
        if whole.ending == EARLY:
            return  # whether it was asked before something came is the one thing that a cut tells
        self.assertEqual(cut.ending, whole.ending)
        if not isinstance(whole.ending, str):
            # What is refused together with what led to an answer is not answered.
            self.assertEqual(cut, whole)

    @settings(max_examples=400)
    @given(damaged(), st.lists(st.integers(0, 500), max_size=5))
    def test_anyCutOfADamagedScriptGivesTheSameOutcome(
        self, script: tuple[Script, list[bytes]], positions: list[int]
    ) -> None:
        turns = script[1]
        self.assertSame(script[0].name, turns, [cut(turn, positions) for turn in turns])

    @settings(max_examples=400)
    @given(names, st.lists(words | st.binary(max_size=20), max_size=5))
    def test_anyTurnsByteByByteGiveTheSameOutcome(self, name: str, turns: list[bytes]) -> None:
        self.assertSame(name, turns, [bytewise(turn) for turn in turns])

    @given(scripts, st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
    def test_garbageInAnyPlaceGivesTheSameOutcome(
        self, script: Script, garbage: bytes, positions: list[int]
    ) -> None:
        for index in range(len(script.turns)):
            before = script.turns[:index]
            pieces = [*([turn] for turn in before), cut(garbage, positions)]
            self.assertSame(script.name, [*before, garbage], pieces)


class GarbageTests(SynchronousTestCase):
    @settings(max_examples=400)
    @given(names, st.lists(st.binary(max_size=80) | words, max_size=8))
    def test_nothingButRefusalsIsEverRaised(self, name: str, pieces: list[bytes]) -> None:
        talk(name, pieces)

    @given(scripts, st.binary(max_size=60))
    def test_garbageInsteadOfTheLastAnswerNeverLeadsToTLS(
        self, script: Script, garbage: bytes
    ) -> None:
        if script.name != "postgres":  # whose last answer is a single byte
            outcome = talk(script.name, *script.turns[:-1], garbage)
            self.assertNotEqual(outcome.ending, Ready())

    @settings(max_examples=400)
    @given(names, st.lists(words | st.binary(max_size=20), max_size=8))
    def test_nobodyIsReadyBeforeEverythingWasSaid(self, name: str, turns: list[bytes]) -> None:
        outcome = talk(name, turns)
        if outcome.ending == Ready():
            said = {tuple(script.said) for script in SCRIPTS if script.name == name}
            self.assertIn(tuple(outcome.said), said)

    def test_otherServersAreToldAtTheirFirstBytes(self) -> None:
        titles = {name: kind.title for name, kind in UPGRADES.items()}
        greetings = {script.name: script.turns[0] for script in SCRIPTS}
        others = [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x01\0\2"]
        alike = {("smtp", "ftp"), ("ftp", "smtp")}
        for name, title in titles.items():
            for other in others:
                if (name, other[:1]) != ("postgres", b"S"):
                    self.assertEqual(talk(name, other).ending, f"does not speak {title}")
            for kind, greeting in greetings.items():
                if kind != name and (name, kind) not in alike:
                    self.assertEqual(talk(name, greeting).ending, f"does not speak {title}")

    def test_anSSHServerIsNoPostgres(self) -> None:
        self.assertEqual(talk("postgres", b"SSH-2.0-OpenSSH_9.2\r\n").ending, BEHIND)


class EndingTests(SynchronousTestCase):
    def test_anEndBeforeAnyByteIsToldFromOneAfter(self) -> None:
        for script in SCRIPTS:
            kind = UPGRADES[script.name]
            upgrade = kind("server.example")
            self.assertEqual(
                str(upgrade.ended()), f"closed the connection without a word of {kind.title}"
            )
            upgrade.feed(script.turns[0][: len(script.turns[0]) - 1] or b"E")
            self.assertEqual(str(upgrade.ended()), "closed the connection before TLS began")

    def test_anEndIsARefusal(self) -> None:
        for kind in UPGRADES.values():
            self.assertIsInstance(kind("server.example").ended(), UpgradeRefused)


class CauseTests(SynchronousTestCase):
    def causeOf(self, kind: str, *said: bytes) -> Cause:
        upgrade = UPGRADES[kind]("server.example")
        upgrade.begin()
        with self.assertRaises(UpgradeRefused) as caught:
            for data in said:
                upgrade.feed(data)
        return caught.exception.cause

    def test_aServerThatDoesNotOfferItOrRefusesItHasNoStarttls(self) -> None:
        for kind, said in (
            ("smtp", (b"220 hello\r\n", b"250 SIZE 1\r\n")),
            ("smtp", (b"554 go away\r\n",)),
            ("imap", (b"* PREAUTH hello\r\n",)),
            ("postgres", (b"N",)),
        ):
            self.assertIs(self.causeOf(kind, *said), causes.NO_STARTTLS, said)

    def test_aServerThatSpeaksSomethingElseIsAnotherProtocols(self) -> None:
        for kind, said in (("smtp", b"SSH-2.0-x\r\n"), ("imap", b"220 hello\r\n")):
            self.assertIs(self.causeOf(kind, said), causes.TARGET_PROTOCOL)


class LimitTests(SynchronousTestCase):
    FILLERS = {
        "imap": b"* 1 EXISTS%s\r\n",
        "smtp": b"250-A%s\r\n",
        "ftp": b"220-%s\r\n",
        "xmpp": b"<a b='%s'>",
    }
    BEFORE = {"imap": DOVECOT_IMAP.turns[0], "smtp": POSTFIX_GREETING, "ftp": b"", "xmpp": b""}

    def before(self, name: str) -> list[bytes]:
        stream = PROSODY.turns[0][: PROSODY.turns[0].index(b"<stream:features>")]
        return [stream if name == "xmpp" else self.BEFORE[name]]

    def test_theLimitsAreThoseOfTheManual(self) -> None:
        limits = MAX_LINE, MAX_EXCHANGE, MAX_LINES, MAX_QUOTED
        self.assertEqual(limits, (8192, 65536, 500, 200))

    def test_aLineOfExactlyTheLimitIsRead(self) -> None:
        greeting = b"+OK " + b"x" * (MAX_LINE - 6) + b"\r\n"
        self.assertEqual(talk("pop3", greeting).said, [b"STLS\r\n"])

    def test_aLongerLineIsRefusedWithAndWithoutItsEnd(self) -> None:
        for name, start in (
            ("imap", b"* OK "),
            ("pop3", b"+OK "),
            ("smtp", b"220 "),
            ("ftp", b"220-"),
        ):
            for end in b"\n", b"":
                line = start + b"x" * (MAX_LINE - len(start)) + end
                for turn in line, [line], bytewise(line):
                    outcome = talk(name, turn)
                    self.assertEqual(outcome.ending, f"sends a line of more than {MAX_LINE} bytes")

    def test_aLineThatComesByteByByteIsSearchedOnce(self) -> None:
        for name, start in ("imap", b"* OK "), ("xmpp", b"<stream "), ("postgres", b"Exxxx"):
            upgrade = UPGRADES[name]("a.example")
            upgrade.begin()
            pending = upgrade._pending = Counted()
            for byte in start + b"x" * (MAX_LINE - len(start) - 1):
                upgrade.feed(bytes([byte]))
            self.assertEqual(len(pending), MAX_LINE - 1)
            self.assertLess(pending.seen, 20 * MAX_LINE, name)

    def test_aLongerTagIsRefused(self) -> None:
        tag = b"<stream " + b"x" * MAX_LINE + b">"
        self.assertEqual(talk("xmpp", tag).ending, f"sends a tag of more than {MAX_LINE} bytes")

    def test_moreLinesThanTheLimitAreRefused(self) -> None:
        for name, filler in self.FILLERS.items():
            lines = filler % b"" * (MAX_LINES + 1)
            for turn in lines, bytewise(lines):
                outcome = talk(name, *self.before(name), turn)
                self.assertEqual(outcome.ending, f"sends more than {MAX_LINES} lines before TLS")

    def test_asManyLinesAsTheLimitAreRead(self) -> None:
        answer = b"220-x\r\n" * (MAX_LINES - 2) + b"220 x\r\n"
        outcome = talk("ftp", answer, b"234 go\r\n")
        self.assertEqual(outcome, Outcome([b"AUTH TLS\r\n"], Ready(), VSFTPD.greeting))

    def test_moreBytesThanTheLimitAreRefused(self) -> None:
        for name, filler in self.FILLERS.items():
            lines = filler % (b"x" * 4000) * 17
            for turn in lines, [lines[:40000], lines[40000:]], bytewise(lines):
                outcome = talk(name, *self.before(name), turn)
                self.assertEqual(outcome.ending, f"sends more than {MAX_EXCHANGE} bytes before TLS")

    def test_whatIsQuotedIsPrintableAndCut(self) -> None:
        refusal = b"-ERR \x1b[31mno\t\xc2\x9b\xe2\x80\xae\xff way " + b"y" * 900 + b"\r\n"
        ending = talk("pop3", DOVECOT_POP3.turns[0], refusal).ending
        start = "refuses STLS: -ERR [31mno \ufffd way "
        said = start + "y" * (MAX_QUOTED + len("refuses STLS: ") - len(start))
        self.assertEqual(ending, said)


class ImportTests(SynchronousTestCase):
    def test_noParserOfXMLIsLoadedBeforeItIsNeeded(self) -> None:
        program = (
            "import sys; before = set(sys.modules); import ptunnel.starttls; "
            "print('pyexpat' in sys.modules and 'pyexpat' not in before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout, "False\n")
