"""The client's side of SOCKS5: `ptunnel.socks.client`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TargetUnreachable,
    TunnelError,
)
from ptunnel.socks import wire
from ptunnel.socks.client import ClientHandshake, Phase
from tests.socks.test_wire import hosts
from tests.support.phases import followers, holdToTable

WORD = "c4n4ry-word"
ALICE = Credentials("alice", WORD)
GRANTED = b"\5\0\0\1\0\0\0\0\0\0"


def begun(*, hasLogin: bool = False) -> ClientHandshake:
    handshake = ClientHandshake("t.example", 993, hop="p:1080", hasLogin=hasLogin)
    handshake.greeting()
    return handshake


def asked(*, login: bool = False) -> ClientHandshake:
    """One that waits for the reply."""
    handshake = begun(hasLogin=login)
    handshake.feed(b"\5\2" if login else b"\5\0")
    if login:
        handshake.login(ALICE)
        handshake.feed(b"\1\0")
    handshake.request("t.example", 993)
    return handshake


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, ClientHandshake, "a SOCKS handshake")

    def fails(
        self, handshake: ClientHandshake, data: bytes, kind: type[TunnelError]
    ) -> TunnelError:
        """It fails with an error of this kind, at the last byte at the latest."""
        error = self.assertRaises(TunnelError, handshake.feed, data)
        assert isinstance(error, TunnelError)
        self.assertIs(type(error), kind)
        self.assertEqual(error.hop, "p:1080")
        self.assertIs(handshake.phase, Phase.FAILED)
        return error


class HandshakeTests(Case):
    def test_eachPhaseHasItsRow(self) -> None:
        self.assertEqual(list(followers("a SOCKS handshake")), [phase.value for phase in Phase])

    def test_withoutCredentialsItOffersNoAuthenticationOnly(self) -> None:
        handshake = ClientHandshake("t.example", 993)
        self.assertEqual(handshake.greeting(), b"\5\1\0")
        self.assertTrue(handshake.feed(b"\5\0"))
        self.assertEqual(handshake.request("t.example", 993), b"\5\1\0\3\x09t.example\x03\xe1")
        self.assertTrue(handshake.feed(GRANTED + b"hello"))
        self.assertIs(handshake.phase, Phase.ESTABLISHED)
        self.assertEqual(handshake.leftover, b"hello")

    def test_withCredentialsItOffersBothAndSendsThemWhenTheyAreAskedFor(self) -> None:
        handshake = ClientHandshake("t.example", 993, hasLogin=True)
        self.assertEqual(handshake.greeting(), b"\5\2\0\2")
        self.assertTrue(handshake.feed(b"\5\2"))
        self.assertIs(handshake.phase, Phase.ASKED)
        self.assertEqual(handshake.login(ALICE), b"\1\5alice\x0b" + WORD.encode())
        self.assertTrue(handshake.feed(b"\1\0"))
        self.assertIs(handshake.phase, Phase.READY)

    def test_aLoginMayBeAnsweredWithTheVersionOfSocks(self) -> None:
        handshake = begun(hasLogin=True)
        handshake.feed(b"\5\2")
        handshake.login(ALICE)
        self.assertTrue(handshake.feed(b"\5\0"))

    @given(st.booleans(), hosts, st.integers(0, 65535), st.binary(max_size=40), st.data())
    def test_everyCutOfTheAnswersGivesTheSame(
        self, login: bool, host: str, port: int, behind: bytes, data: st.DataObject
    ) -> None:
        handshake = begun(hasLogin=login)
        reply = b"\5\0\0" + wire.address(host, max(port, 1))
        for answer in ([b"\5\2", b"\1\0"] if login else [b"\5\0"]) + [reply + behind]:
            cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)))))
            pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
            rest = b""
            for piece in filter(None, pieces):
                if handshake.phase is Phase.ESTABLISHED:
                    rest += piece  # which is the tunnel's by now
                else:
                    handshake.feed(piece)
            if handshake.phase is Phase.ASKED:
                handshake.login(ALICE)
            elif handshake.phase is Phase.READY:
                handshake.request("t.example", 993)
        self.assertIs(handshake.phase, Phase.ESTABLISHED)
        self.assertEqual(handshake.leftover + rest, behind)

    @given(st.booleans(), st.integers(0, 2), st.lists(st.binary(max_size=30), max_size=8))
    def test_anyBytesAreAnAnswerOrOneFailure(
        self, login: bool, stage: int, pieces: list[bytes]
    ) -> None:
        handshake = begun(hasLogin=login)
        if stage == 1:
            handshake = asked(login=login)
        elif stage == 2 and login:
            handshake.feed(b"\5\2")
            handshake.login(ALICE)
        for piece in pieces:
            try:
                if handshake.feed(piece):
                    return
            except TunnelError as e:
                self.assertIsNotNone(e.cause)
                self.assertNotIn(WORD, f"{e!r} {e}")
                self.assertIs(handshake.phase, Phase.FAILED)
                return
        self.assertIsNotNone(handshake.end().cause)

    def test_theTraceShowsEachMessageAndNoSecret(self) -> None:
        lines: list[str] = []
        handshake = ClientHandshake("t.example", 993, hasLogin=True, trace=lines.append)
        handshake.greeting()
        handshake.feed(b"\5\2")
        handshake.login(ALICE)
        handshake.feed(b"\1\0")
        handshake.request("t.example", 993)
        handshake.feed(b"\5\0\0\3\x03a\x1bb\0\1")
        self.assertEqual(
            lines,
            [
                "> SOCKS5: no authentication or user name and password",
                "< chooses user name and password",
                "> user name and password: ***",
                "< accepts them",
                "> CONNECT t.example:993",
                "< reply 0: granted, from a.b:1",
            ],
        )
        self.assertNotIn(WORD, repr(handshake))


class NoSocksTests(Case):
    """What answers is no SOCKS5 proxy."""

    def test_theFirstByteTellsWhatItIs(self) -> None:
        for first, cause, words in (
            (b"HTTP/1.0 400 Bad Request\r\n", causes.SPEAKS_HTTP, "answers as an HTTP server"),
            (b"\x15\3\1\0\2", causes.SPEAKS_TLS, "does not answer as a SOCKS5 proxy"),
            (b"SSH-2.0-x\r\n", causes.SSH_SERVER, "does not answer as a SOCKS5 proxy"),
            (b"220 hello\r\n", causes.NO_SOCKS, "does not answer as a SOCKS5 proxy"),
            (b"\0\x5b", causes.NO_SOCKS, "does not answer as a SOCKS5 proxy"),
        ):
            error = self.fails(begun(), first, ProxyFailed)
            self.assertEqual(error.message, f"the proxy p:1080 {words}")
            self.assertEqual((error.cause, error.hint), (cause, cause.hint))
            self.fails(begun(), first[:1], ProxyFailed)

    def test_aMethodThatWasNotOffered(self) -> None:
        for method in 1, 3, 0x80, 0xFE:
            error = self.fails(begun(), bytes([5, method]), ProxyFailed)
            self.assertIn(f"chose method {method}, which it was not offered", error.message)

    def test_whatComesUnaskedIsNobodys(self) -> None:
        self.fails(begun(), b"\5\0\5", ProxyFailed)
        handshake = begun(hasLogin=True)
        handshake.feed(b"\5\2")
        self.fails(handshake, b"\1\0", ProxyFailed)  # before the credentials went out

    def test_anotherProtocolBehindTheFirstAnswer(self) -> None:
        handshake = begun(hasLogin=True)
        handshake.feed(b"\5\2")
        handshake.login(ALICE)
        self.assertIs(self.fails(handshake, b"\2\0", ProxyFailed).cause, causes.BROKEN_SOCKS)
        self.assertIs(self.fails(asked(), b"\4\0", ProxyFailed).cause, causes.BROKEN_SOCKS)

    def test_anAddressOfUnknownType(self) -> None:
        error = self.fails(asked(), b"\5\0\0\2", ProxyFailed)
        self.assertIn("sent an address of type 2, which is unknown", error.message)

    def test_aServerThatSpeaksFirst(self) -> None:
        handshake = ClientHandshake("t.example", 993, hop="p:1080")
        self.assertIs(self.fails(handshake, b"220 x\r\n", ProxyFailed).cause, causes.NO_SOCKS)


class EndTests(Case):
    def test_anEndSaysWhatItCameInPlaceOf(self) -> None:
        told = begun(hasLogin=True)
        told.feed(b"\5\2")
        told.login(ALICE)
        within = asked()
        within.feed(b"\5")
        for handshake, words, cause in (
            (begun(), "closed the connection without an answer", causes.NO_SOCKS),
            (told, "closed the connection upon user name and password", causes.BROKEN_SOCKS),
            (asked(), "closed the connection upon CONNECT t.example:993", causes.BROKEN_SOCKS),
            (within, "closed the connection in the middle of its answer", causes.BROKEN_SOCKS),
        ):
            error = handshake.end()
            self.assertEqual(error.message, f"the proxy p:1080 {words}")
            self.assertIs(error.cause, cause)
            self.assertIs(handshake.phase, Phase.FAILED)

    def test_silenceSaysWhatIsMissing(self) -> None:
        told = begun(hasLogin=True)
        told.feed(b"\5\2")
        told.login(ALICE)
        for handshake, words, cause in (
            (begun(), "the SOCKS5 greeting", causes.NO_SOCKS),
            (told, "user name and password", causes.BROKEN_SOCKS),
            (asked(), "CONNECT t.example:993", causes.SILENT),
        ):
            error = handshake.expire(30)
            self.assertIs(type(error), ProxyTimeout)
            self.assertEqual(error.message, f"the proxy p:1080 did not answer {words} within 30 s")
            self.assertIs(error.cause, cause)


class RefusalTests(Case):
    def test_eachReplyHasItsKindAndCause(self) -> None:
        for code, kind, cause, words in (
            (1, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}, general failure"),
            (2, ProxyRefused, causes.TARGET_REFUSED, "refuses {}: {}, not allowed by its rules"),
            (3, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}, network unreachable"),
            (4, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}, host unreachable"),
            (5, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}, connection refused"),
            (6, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}, TTL expired"),
            (7, ProxyRefused, causes.TARGET_REFUSED, "refuses {}: {}, command not supported"),
            (8, TargetUnreachable, causes.ADDRESS_TYPE, "cannot reach {}: {}, address type not"),
            (9, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}"),
            (0xF0, TargetUnreachable, causes.TARGET_DOWN, "cannot reach {}: {}"),
        ):
            # At its second byte: some proxies send no more.
            error = self.fails(asked(), bytes([5, code]), kind)
            said = words.format("t.example:993", f"SOCKS reply {code}")
            self.assertTrue(error.message.startswith(f"the proxy p:1080 {said}"), error.message)
            self.assertIs(error.cause, cause)
            assert isinstance(error, ProxyRefused)
            self.assertEqual(error.status, code)

    def test_itWantsCredentialsThatAreNotThere(self) -> None:
        for answer in b"\5\xff", b"\5\2":  # some choose what they were not offered
            error = self.fails(begun(), answer, CredentialsRefused)
            self.assertEqual(
                str(error), "the proxy p:1080 wants credentials (give a user name and password)"
            )

    def test_itAcceptsNoneOfTheWays(self) -> None:
        error = self.fails(begun(hasLogin=True), b"\5\xff", CredentialsRefused)
        self.assertIs(error.cause, causes.SCHEME_NOT_SERVED)

    def test_itRejectsThem(self) -> None:
        handshake = begun(hasLogin=True)
        handshake.feed(b"\5\2")
        handshake.login(ALICE)
        error = self.fails(handshake, b"\1\1", CredentialsRefused)
        self.assertEqual(
            str(error),
            "the proxy p:1080 rejects the credentials: SOCKS status 1 (user name or password; "
            "several attempts may lock the account)",
        )


class LoginTests(SynchronousTestCase):
    def test_theyAreSentInUTF8(self) -> None:
        self.assertEqual(wire.login(Credentials("ü", "")), b"\1\2\xc3\xbc\0")

    def test_whatDoesNotFitIsRefusedWithoutBeingQuoted(self) -> None:
        wire.login(Credentials("x" * 255, "y" * 255))
        for name, word in (("x" * 256, "y"), ("x", "y" * 256), ("", "y"), ("x", "é" * 128)):
            error = self.assertRaises(ValueError, wire.login, Credentials(name, word))
            self.assertNotIn("xx", str(error))
            self.assertNotIn("yy", str(error))
