"""NTLM and Negotiate: `ptunnel.auth.spnego`."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ptunnel.auth import Credentials, Exchange
from ptunnel.auth.challenges import Challenge, ChallengeError
from ptunnel.auth.spnego import Negotiate, Ntlm

try:
    import spnego
except ImportError as e:
    raise SkipTest("pyspnego is not there") from e

PROXY = "proxy.example.com"
TARGET = "imap.example.com:993"
ALICE = Credentials("CORP\\alice", "s3cret/canary")
WRONG = Credentials("CORP\\alice", "wr0ng/canary")
BARE = Challenge("ntlm")


def token(header: bytes | None) -> bytes:
    """What an NTLM or Negotiate header carries."""
    assert header is not None
    return b64decode(header.partition(b" ")[2], validate=True)


def messageType(header: bytes | None) -> int:
    """1, 2 or 3 (MS-NLMP section 2.2.1)."""
    assert token(header).startswith(b"NTLMSSP\0")
    return token(header)[8]


def withToken(data: bytes, scheme: str = "ntlm") -> Challenge:
    return Challenge(scheme, token=b64encode(data).decode())


class SpnegoTestCase(SynchronousTestCase):
    """With a proxy that knows alice, and nobody's Kerberos tickets."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        users = folder / "users"
        users.write_text("CORP:alice:s3cret/canary\n")
        environment = {"NTLM_USER_FILE": str(users), "KRB5CCNAME": f"FILE:{folder / 'none'}"}
        patch = mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)

    def server(self, scheme: str = "ntlm") -> Any:
        kinds = spnego.NegotiateOptions
        options = kinds.use_ntlm if scheme == "ntlm" else kinds.use_negotiate
        return spnego.server(hostname=PROXY, service="HTTP", protocol=scheme, options=options)


class NtlmTests(SpnegoTestCase):
    def begin(self, credentials: Credentials = ALICE) -> Exchange:
        return Ntlm(credentials, PROXY).begin(TARGET)

    def challenged(self, exchange: Exchange) -> bytes:
        """The proxy's challenge to what the exchange says first."""
        challenge: bytes = self.server().step(token(exchange.first()))
        return challenge

    def test_theProxyAcceptsWhomItKnows(self) -> None:
        server, exchange = self.server(), self.begin()
        first = exchange.answer(BARE)
        self.assertEqual((messageType(first), exchange.midway), (1, True))
        third = exchange.answer(withToken(server.step(token(first))))
        self.assertEqual((messageType(third), exchange.midway), (3, False))
        server.step(token(third))
        self.assertTrue(server.complete)
        self.assertEqual(server.client_principal, "CORP\\alice")

    def test_aProxyThatIsKnownIsToldUnasked(self) -> None:
        server, exchange = self.server(), self.begin()
        third = exchange.answer(withToken(server.step(token(exchange.first()))))
        server.step(token(third))
        self.assertTrue(server.complete)

    def test_aWrongPasswordIsRejectedAndSentOnce(self) -> None:
        server, exchange = self.server(), self.begin(WRONG)
        third = exchange.answer(withToken(server.step(token(exchange.first()))))
        self.assertRaises(spnego.exceptions.SpnegoError, server.step, token(third))
        self.assertIsNone(exchange.answer(BARE))
        self.assertIsNone(exchange.answer(withToken(self.challenged(self.begin()))))

    def test_aProxyThatStartsAgainIsNoRejection(self) -> None:
        # Nobody's credentials are in the first message.
        for start in (lambda e: e.first()), (lambda e: e.answer(BARE)):
            server, exchange = self.server(), self.begin()
            start(exchange)
            again = exchange.answer(BARE)
            self.assertEqual((messageType(again), exchange.midway), (1, True))
            server.step(token(exchange.answer(withToken(server.step(token(again))))))
            self.assertTrue(server.complete)

    def test_aProxyThatStartsAgainAndAgainIsNotAnswered(self) -> None:
        exchange = self.begin()
        exchange.first()
        exchange.answer(BARE)
        error = self.assertRaises(ChallengeError, exchange.answer, BARE)
        self.assertIn("does not go on with NTLM", str(error))

    def test_aTokenBeforeOursIsRefused(self) -> None:
        challenge = withToken(self.challenged(self.begin()))
        error = self.assertRaises(ChallengeError, self.begin().answer, challenge)
        self.assertIn("before ours", str(error))

    def test_whatIsNotBase64IsRefused(self) -> None:
        for bad in "a", "abc=d", "a-_b", "====":
            exchange = self.begin()
            exchange.first()
            error = self.assertRaises(ChallengeError, exchange.answer, Challenge("ntlm", token=bad))
            self.assertIn("not base64", str(error))

    @given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda b: b"NTLMSSP\0\2\0\0\0" + b))
    @example(b"NTLMSSP\0")
    @example(b"NTLMSSP\0\2\0\0\0" + b"\xff" * 40)
    @example(b"NTLMSSP\0\1\0\0\0" + bytes(40))
    def test_whateverTokenComesIsAnsweredOrRefusedInWords(self, data: bytes) -> None:
        exchange = self.begin()
        exchange.first()
        try:
            header = exchange.answer(withToken(data))
        except ChallengeError as e:
            self.assertNotIn("canary", str(e))
        else:
            self.assertTrue(data == b"" or messageType(header) in (1, 3))

    def test_aDamagedChallengeIsAnsweredOrRefusedInWords(self) -> None:
        whole = self.challenged(self.begin())
        for position in range(len(whole)):
            for damaged in whole[:position], whole[:position] + b"\xff" + whole[position + 1 :]:
                exchange = self.begin()
                exchange.first()
                try:
                    exchange.answer(withToken(damaged))
                except ChallengeError as e:
                    self.assertNotIn("canary", str(e))

    def test_whatWasSentIsMasked(self) -> None:
        exchange = self.begin()
        first = exchange.first()
        third = exchange.answer(withToken(self.server().step(token(first))))
        assert first is not None
        assert third is not None
        for header in first, third:
            self.assertIn(header.partition(b" ")[2], exchange.secrets())
        self.assertIn(b"s3cret/canary", exchange.secrets())

    def test_itIsTheConnectionThatIsAuthenticated(self) -> None:
        self.assertTrue(Ntlm.bound)
        self.assertFalse(Ntlm.blocking)

    def test_withoutPyspnegoItSaysWhatToInstall(self) -> None:
        with mock.patch.dict("sys.modules", {"spnego": None}):
            error = self.assertRaises(ChallengeError, self.begin().first)
        self.assertIn("pip install 'ptunnel[", str(error))


class NegotiateTests(SpnegoTestCase):
    def begin(self, credentials: Credentials | None = ALICE) -> Exchange:
        return Negotiate(credentials, PROXY).begin(TARGET)

    def test_withAPasswordAndNoKerberosItIsNtlmWithinNegotiate(self) -> None:
        server, exchange = self.server("negotiate"), self.begin()
        header = exchange.answer(Challenge("negotiate"))
        self.assertTrue(header is not None and header.startswith(b"Negotiate "))
        self.assertTrue(exchange.midway)
        for _ in range(4):
            reply = server.step(token(header))
            if server.complete:
                break
            header = exchange.answer(withToken(reply, "negotiate"))
        self.assertTrue(server.complete)
        self.assertEqual(server.client_principal, "CORP\\alice")

    def test_aProxyThatStartsAgainIsNoRejectionEither(self) -> None:
        exchange = self.begin()
        exchange.first()
        self.assertIsNotNone(exchange.answer(Challenge("negotiate")))
        self.assertRaises(ChallengeError, exchange.answer, Challenge("negotiate"))

    def test_aTicketThatIsRejectedIsNotSentAgain(self) -> None:
        # It goes out with the first token, though the proxy's own proof may still be to come.
        context = mock.Mock(complete=False, negotiated_protocol="kerberos")
        context.step.return_value = b"a ticket"
        with mock.patch("spnego.client", return_value=context) as client:
            exchange = self.begin(None)
            self.assertEqual(token(exchange.first()), b"a ticket")
            self.assertIsNone(exchange.answer(Challenge("negotiate")))
        _, options = client.call_args
        self.assertEqual((options["service"], options["hostname"]), ("HTTP", PROXY))

    def test_withoutATicketItSaysSo(self) -> None:
        del os.environ["NTLM_USER_FILE"]  # pyspnego would serve itself there
        error = self.assertRaises(ChallengeError, self.begin(None).answer, Challenge("negotiate"))
        self.assertIn("Negotiate", str(error))
        self.assertTrue(str(error).isprintable())

    def test_itMayAskAnotherServer(self) -> None:
        self.assertTrue(Negotiate.bound and Negotiate.blocking)

    def test_whatCannotBeginIsToldWithoutSecrets(self) -> None:
        with mock.patch("spnego.client", side_effect=OSError("a\nb\x1b[31m")):
            error = self.assertRaises(ChallengeError, self.begin().first)
        self.assertTrue(str(error).isprintable())
        self.assertNotIn("canary", str(error))
