"""PostgreSQL's server, and what lies before its client: `ptunnel.starttls.postgres`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.starttls import Prelude, Ready, UpgradeRefused
from ptunnel.starttls.postgres import MAX_STARTUP
from ptunnel.starttls.upgrade import MAX_LINE
from tests.starttls.test_starttls import bytewise, cut, talk
from tests.support.fakes import Counted

SSL = b"\0\0\0\x08\x04\xd2\x16\x2f"
GSSENC = b"\0\0\0\x08\x04\xd2\x16\x30"
# As psql 15 sends it.
STARTUP = b"\0\0\0?\0\3\0\0user\0postgres\0database\0postgres\0application_name\0psql\0\0"
CANCEL = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x1f\x40\x12\x34\x56\x78"


def error(message: bytes) -> bytes:
    body = b"SFATAL\0VFATAL\0C53300\0" + b"M" + message + b"\0Fpostinit.c\0\0"
    return b"E" + (4 + len(body)).to_bytes(4, "big") + body


class ServerTests(SynchronousTestCase):
    def test_noIsRefused(self) -> None:
        ending = talk("postgres", b"N").ending
        self.assertEqual(
            ending, "refuses SSLRequest: it has no TLS (ssl = off), or not for this machine"
        )

    def test_noIsRefusedWhateverComesBehind(self) -> None:
        self.assertEqual(talk("postgres", b"NS").ending, talk("postgres", b"N").ending)

    def test_errorsOfBothProtocolsAreQuoted(self) -> None:
        text = b"could not fork new process for connection: Out of memory"
        for answer in error(text), b"E" + text + b"\n\0":
            for turn in answer, bytewise(answer):
                ending = talk("postgres", turn).ending
                self.assertEqual(ending, f"refuses SSLRequest: {text.decode()}")

    def test_anErrorWithoutAMessageIsRefused(self) -> None:
        for answer in b"E\0\0\0\4", b"E\0\0\0\5\0", b"E\0\0\0\0", b"E\n\0xx":
            self.assertEqual(talk("postgres", answer).ending, "refuses SSLRequest")

    def test_anErrorWithoutEndIsRefused(self) -> None:
        ending = talk("postgres", b"E" + b"x" * MAX_LINE).ending
        self.assertEqual(ending, f"sends an error of more than {MAX_LINE} bytes")

    def test_anUnfinishedErrorIsWaitedFor(self) -> None:
        for answer in b"E", b"E\0\0", error(b"x")[:-1], b"Esorry":
            self.assertEqual(talk("postgres", answer).ending, None)

    def test_noOtherByteIsAnAnswer(self) -> None:
        for code in set(range(256)) - set(b"SNE"):
            ending = talk("postgres", bytes([code])).ending
            self.assertEqual(ending, "does not speak PostgreSQL")
        self.assertEqual(talk("postgres", b"S").ending, Ready())


def prelude(pieces: list[bytes]) -> tuple[bytes, bytes | str | None]:
    """What the client is sent, and what the server is, or why not."""
    talking = Prelude()
    answers = b""
    for index, piece in enumerate(pieces):
        try:
            answer, passed = talking.feed(piece)
        except UpgradeRefused as e:
            return answers, str(e)
        answers += answer
        if passed is not None:
            return answers, passed + b"".join(pieces[index + 1 :])
    return answers, None


class ClientTests(SynchronousTestCase):
    def assertPrelude(self, sent: bytes, answers: bytes, passed: bytes | str | None) -> None:
        self.assertEqual(prelude([sent]), (answers, passed))

    def test_aSessionIsPassedOnUnchanged(self) -> None:
        self.assertPrelude(STARTUP, b"", STARTUP)
        self.assertPrelude(STARTUP + b"more", b"", STARTUP + b"more")

    def test_onlyACancelRequestIsNotAnswered(self) -> None:
        for request, answered in (STARTUP, True), (CANCEL, False):
            speaking = Prelude()
            speaking.feed(SSL + request)
            self.assertEqual(speaking.answered, answered)

    def test_aCancelRequestIsPassedOnUnchanged(self) -> None:
        self.assertPrelude(CANCEL, b"", CANCEL)

    def test_itIsPassedOnAsSoonAsItIsKnown(self) -> None:
        self.assertPrelude(STARTUP[:7], b"", None)
        self.assertPrelude(STARTUP[:8], b"", STARTUP[:8])

    def test_requestsForEncryptionAreAnsweredNo(self) -> None:
        for first, second in (SSL, GSSENC), (GSSENC, SSL):
            self.assertPrelude(first, b"N", None)
            self.assertPrelude(first + STARTUP, b"N", STARTUP)
            self.assertPrelude(first + second, b"NN", None)
            self.assertPrelude(first + second + STARTUP, b"NN", STARTUP)
            self.assertPrelude(first + second + CANCEL, b"NN", CANCEL)

    def test_noIsSaidAtOnceToAClientThatWaits(self) -> None:
        talking = Prelude()
        self.assertEqual(talking.feed(GSSENC), (b"N", None))
        self.assertEqual(talking.feed(SSL[:5]), (b"", None))
        self.assertEqual(talking.feed(SSL[5:]), (b"N", None))
        self.assertEqual(talking.feed(STARTUP), (b"", STARTUP))

    def test_theSameRequestTwiceIsRefused(self) -> None:
        for request in SSL, GSSENC:
            with self.assertRaises(UpgradeRefused) as caught:
                Prelude().feed(request + request)
            self.assertEqual(str(caught.exception), "asks for encryption again and again")

    def test_tlsWithoutAQuestionIsRefusedInWords(self) -> None:
        words = "begins TLS by itself; it must not (sslnegotiation=direct)"
        self.assertPrelude(b"\x16", b"", words)
        self.assertPrelude(b"\x16\3\1\2\0\1\0\1\xfc\3\3", b"", words)

    def test_tlsBehindTheQuestionIsRefusedToo(self) -> None:
        with self.assertRaises(UpgradeRefused):
            Prelude().feed(SSL + b"\x16\3\1")

    def test_otherProtocolsAreRefused(self) -> None:
        for data in (
            b"G",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0\0\0\7\0\3\0\0",
            b"\0\0\0\x09\x04\xd2\x16\x2fx",
            (MAX_STARTUP + 1).to_bytes(4, "big") + b"\0\3\0\0",
            b"\0\xff\xff\xff\0\3\0\0",
        ):
            self.assertPrelude(data, b"", "does not speak PostgreSQL")

    def test_aSessionOfExactlyTheLimitIsPassedOn(self) -> None:
        startup = MAX_STARTUP.to_bytes(4, "big") + b"\0\3\0\0"
        self.assertPrelude(startup, b"", startup)

    def test_anEndBeforeASessionIsARefusal(self) -> None:
        error = Prelude().ended()
        self.assertIsInstance(error, UpgradeRefused)
        self.assertEqual(str(error), "closed the connection before it began a session")

    @settings(max_examples=300)
    @given(
        st.lists(st.sampled_from([SSL, GSSENC, STARTUP, CANCEL]) | st.binary(max_size=9)),
        st.lists(st.integers(0, 200)),
    )
    def test_anyCutGivesTheSameOutcome(self, parts: list[bytes], positions: list[int]) -> None:
        data = b"".join(parts)
        whole, pieces = prelude([data]), prelude(cut(data, positions))
        self.assertEqual(pieces[1], whole[1])
        if not isinstance(whole[1], str):  # a refusal comes before or behind an answer
            self.assertEqual(pieces[0], whole[0])


def sasl(*mechanisms: bytes) -> bytes:
    body = b"\0\0\0\x0a" + b"".join(name + b"\0" for name in mechanisms) + b"\0"
    return b"R" + (4 + len(body)).to_bytes(4, "big") + body


NEGOTIATE = b"v\0\0\0\x0c\0\0\0\0\0\0\0\0"
OK = b"R\0\0\0\x08\0\0\0\0"


def shown(pieces: list[bytes]) -> bytes | None:
    """What a client gets of these answers, once anything is passed on."""
    talking = Prelude()
    for index, piece in enumerate(pieces):
        answer = talking.answer(piece)
        if answer is not None:
            return answer + b"".join(pieces[index + 1 :])
    return None


class AnswerTests(SynchronousTestCase):
    def test_mechanismsThatAreBoundToTLSAreTakenOut(self) -> None:
        sent = sasl(b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256")
        # As PostgreSQL 15 sends it.
        self.assertEqual(sent, b"R\0\0\0*\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
        for pieces in [sent], bytewise(sent):
            self.assertEqual(shown(pieces), sasl(b"SCRAM-SHA-256"))

    def test_whatStandsAroundThemIsKept(self) -> None:
        sent = NEGOTIATE + sasl(b"A", b"B-PLUS", b"C") + b"behind"
        self.assertEqual(shown([sent]), NEGOTIATE + sasl(b"A", b"C") + b"behind")

    def test_otherAnswersAreUnchanged(self) -> None:
        for answer in (
            OK + b"S\0\0\0\4",
            b"R\0\0\0\x0c\0\0\0\x05salt",
            sasl(b"SCRAM-SHA-256"),
            NEGOTIATE + OK,
            error(b"no pg_hba.conf entry"),
            b"Esorry, too many clients already\n\0",
            b"R\0\0\0\4",
            b"R\0\0\0\0",
            b"R\xff\xff\xff\xff" + b"x" * 40,
            NEGOTIATE * 2000,
        ):
            self.assertEqual(shown([answer]), answer)
            self.assertEqual(shown(bytewise(answer)), answer)

    def test_messagesThatComeByteByByteAreLookedAtOnce(self) -> None:
        talking = Prelude()
        answer = talking._answer = Counted()
        for byte in b"v\0\0\0\4" * (MAX_LINE // 5):
            self.assertIsNone(talking.answer(bytes([byte])))
        self.assertLess(answer.seen, 20 * MAX_LINE)

    def test_anUnfinishedAnswerIsWaitedFor(self) -> None:
        for answer in sasl(b"A-PLUS", b"A")[:-1], OK[:4], NEGOTIATE, b"":
            self.assertEqual(shown([answer]), None)

    @given(
        st.lists(
            st.sampled_from([sasl(b"A-PLUS", b"A"), OK, NEGOTIATE]) | st.binary(max_size=9),
            max_size=5,
        ),
        st.lists(st.integers(0, 100), max_size=5),
    )
    def test_anyCutGivesTheSameAnswer(self, parts: list[bytes], positions: list[int]) -> None:
        data = b"".join(parts)
        self.assertEqual(shown(cut(data, positions)), shown([data]))
