"""The login upstream, which the client does not see: `challenged` and `probing` of
`ptunnel.door.forward`."""

from __future__ import annotations

from base64 import b64encode

from twisted.internet.defer import Deferred

from ptunnel.auth import Credentials
from ptunnel.door.exchange.draining import DRAIN_WAIT, MAX_DRAIN
from ptunnel.door.forward.client import Phase
from ptunnel.door.messages.upload import MAX_KEPT
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, ProxyFailed
from tests.door.forward.case import ALICE, CONNECT, GET, OK, ForwardCase, needAuth, post
from tests.integration import ntlmhelper

BASIC = b'Basic realm="corp"'
DIGEST = b'Digest realm="corp", qop="auth", algorithm=SHA-256, nonce="N1"'
CHALLENGE = b64encode(ntlmhelper.challengeMessage(bytes(8)))
SENT = b"Proxy-Authorization: " + ALICE.basic() + b"\r\n"


class BasicTests(ForwardCase):
    def setUp(self) -> None:
        super().setUp()
        self.withLogin()

    def test_aChallengeIsAnsweredOnTheSameConnection(self) -> None:
        self.asked(GET)
        self.assertNotIn(b"Proxy-Authorization", self.request())
        self.there.receive(needAuth(BASIC))
        self.assertEqual(self.got(), b"")
        self.assertIn(SENT, self.request())
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))
        self.assertIsNotNone(self.login.known)

    def test_whatWasAcceptedIsSentUnaskedFromThenOn(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.there.receive(OK)
        self.request()
        self.say(GET)
        self.assertIn(SENT, self.request())

    def test_aBodyIsSentAgain(self) -> None:
        self.asked(post(b"body", method=b"PUT"))
        self.assertTrue(self.request().endswith(b"body"))
        self.there.receive(needAuth(BASIC))
        again = self.request()
        self.assertIn(SENT, again)
        self.assertTrue(again.endswith(b"\r\n\r\nbody"))

    def test_oneThatIsStillComingToo(self) -> None:
        self.asked(post(b"body", method=b"PUT")[:-2])
        self.request()
        self.there.receive(needAuth(BASIC))
        self.say(b"d")
        self.assertTrue(self.request().endswith(b"\r\n\r\nbod"))
        self.say(b"y")
        self.assertEqual(self.request(), b"y")

    def test_whatCannotBeDoneTwiceGoesOnANewConnection(self) -> None:
        self.asked(post(b"body"))
        self.there.receive(needAuth(BASIC))
        self.assertTrue(self.there.lost)
        self.connect()
        self.assertIn(SENT, self.request())

    def test_aConnectionThatClosesIsMadeAnew(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC, more=b"Connection: close\r\n"))
        self.connect()
        self.assertIn(SENT, self.request())
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))

    def test_oneThatClosesWithoutAWordToo(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.there.end()
        self.connect()
        self.assertIn(SENT, self.request())
        self.there.end()
        self.assertFailed(502, "without an answer")

    def test_aBodyOfTheChallengeThatDoesNotComeIsNotWaitedFor(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC)[:-1])
        self.advance(DRAIN_WAIT)
        self.connect()
        self.assertIn(SENT, self.request())

    def test_norOneWithoutEnd(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC, body=b"x" * 2 * MAX_DRAIN))
        self.connect()
        self.assertIn(SENT, self.request())

    def test_oneThatIsCutIsAChallengeAllTheSame(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC)[:-1])
        self.there.lose()
        self.connect()
        self.assertIn(SENT, self.request())

    def test_rejectedCredentialsAreSentOnceInAll(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.request()
        self.there.receive(needAuth(BASIC))
        self.assertNotIn(b"Proxy-Authorization", self.there.sent)
        self.assertFailed(502, "rejects the credentials")
        self.assertIsInstance(self.door.refusals[0], CredentialsRefused)
        self.assertNotIn("s3cret", str(self.door.refusals[0]))
        for _ in range(3):
            login = self.login
            self.setUp()
            self.login = login
            self.door.reach = self.newReach()
            self.asked(GET)
            self.assertEqual(self.there.sent, b"")
            self.assertFailed(502, "they are not sent again for")

    def test_aClientWaitsForTheVerdictOnTheCredentialsOfAnother(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        first, there, login = self.forwarder, self.there, self.login
        self.setUp()
        self.login = login
        self.door.reach = self.newReach()
        self.asked(GET)
        self.request()
        self.there.receive(needAuth(BASIC))
        self.assertEqual(self.there.sent, b"")
        there.receive(OK)
        self.assertIs(first.phase, Phase.IDLE)
        self.assertIn(SENT, self.request())

    def test_aRefusalOfTheProxyGoesThrough(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.there.receive(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\npage")
        got = self.got()
        self.assertTrue(got.startswith(b"HTTP/1.1 403 No\r\n"))
        self.assertTrue(got.endswith(b"page"))
        self.assertIsNotNone(self.login.known)

    def test_aProxyThatAsksOnAndOn(self) -> None:
        self.withLogin("digest")
        self.asked(GET)
        for number in range(10):
            if self.there.lost:
                break
            stale = b', stale=true, nonce="%d"' % number
            self.there.receive(needAuth(DIGEST.replace(b', nonce="N1"', stale)))
        self.assertFailed(502)

    def test_withoutCredentialsTheFailureSaysSo(self) -> None:
        self.login = None
        self.door.reach = self.newReach()
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.assertFailed(502, "wants credentials")
        self.assertNotIn(b"Proxy-Authenticate", self.client.sent)

    def test_basicThatIsChosenIsSentAtOnce(self) -> None:
        self.withLogin("basic")
        self.asked(GET)
        self.assertIn(SENT, self.request())

    def test_theTimeForALoginHasAnEnd(self) -> None:
        class Never:
            def read(self) -> Deferred[Credentials]:
                return Deferred()

            def changed(self) -> bool:
                return False

        self.withLogin(credentials=Never())
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.advance(CONNECT)
        self.assertFailed(502, "no credentials for the proxy corp:3128 within 10 s")
        self.assertIsInstance(self.door.refusals[0], CredentialsUnavailable)

    def test_aClientThatLeavesWhileCredentialsAreReadLeavesNothing(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(BASIC))
        self.client.lose()
        self.assertEqual(self.login.turns.count, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_anUpgradeBehindAChallenge(self) -> None:
        fields = b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        self.asked(GET.replace(b"\r\n\r\n", fields))
        self.there.receive(needAuth(BASIC))
        self.there.receive(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertIs(self.forwarder.phase, Phase.JOINED)
        self.assertIsNotNone(self.login.known)


class DigestTests(ForwardCase):
    def setUp(self) -> None:
        super().setUp()
        self.withLogin("digest")

    def test_itIsForTheUrlAndCountedOn(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(DIGEST))
        first = self.request()
        self.assertIn(b'uri="http://origin.example/a?b"', first)
        self.assertIn(b"nc=00000001", first)
        self.there.receive(OK)
        self.say(GET)
        self.assertIn(b"nc=00000002", self.request())

    def test_aStaleNonceIsReplaced(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(DIGEST))
        self.there.receive(OK)
        self.got()
        self.say(GET)
        self.request()
        self.there.receive(needAuth(DIGEST.replace(b"N1", b"N2") + b", stale=true"))
        self.assertIn(b'nonce="N2"', self.request())
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))

    def test_theNextNonceIsTaken(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(DIGEST))
        info = b'\r\nProxy-Authentication-Info: nextnonce="N9"\r\n\r\n'
        self.there.receive(OK.replace(b"\r\n\r\n", info))
        self.assertNotIn(b"nextnonce", self.got())
        self.request()
        self.say(GET)
        self.assertIn(b'nonce="N9"', self.request())


class LongBodyTests(ForwardCase):
    """A body that cannot be kept is not sent before the proxy knows who we are."""

    LONG = b"x" * (MAX_KEPT + 1)

    def setUp(self) -> None:
        super().setUp()
        self.withLogin("digest")

    def test_theProxyIsAskedFirstByARequestWithoutBody(self) -> None:
        self.asked(post(self.LONG))
        probe = self.request()
        self.assertTrue(probe.startswith(b"HEAD http://origin.example/p HTTP/1.1\r\n"), probe)
        self.assertTrue(probe.endswith(b"\r\n\r\n"))
        self.assertTrue(self.client.paused)
        self.there.receive(needAuth(DIGEST, body=b""))
        self.assertTrue(self.there.lost)  # POST does not go where it may be lost
        self.connect()
        self.assertEqual(self.got(), b"")
        sent = self.request()
        self.assertTrue(sent.startswith(b"POST http://origin.example/p HTTP/1.1\r\n"))
        self.assertIn(b'uri="http://origin.example/p"', sent)
        self.assertTrue(sent.endswith(self.LONG))
        self.assertFalse(self.client.paused)
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))

    def test_aNonceThatWasAcceptedIsNotTrustedWithIt(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(DIGEST))
        self.there.receive(OK)
        self.request()
        self.say(post(self.LONG, method=b"PUT"))
        probe = self.request()
        self.assertTrue(probe.startswith(b"HEAD"))
        self.assertNotIn(b"Proxy-Authorization", probe)
        self.there.receive(needAuth(DIGEST.replace(b"N1", b"N2"), body=b""))
        self.assertIn(b'nonce="N2"', self.request())

    def test_whateverItAnswersTheRequestFollows(self) -> None:
        for said in (
            b"HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            self.setUp()
            self.asked(post(self.LONG))
            self.request()
            self.there.receive(said)
            self.assertTrue(self.request().startswith(b"POST"))

    def test_onANewConnectionWhereItCloses(self) -> None:
        self.asked(post(self.LONG))
        self.there.receive(b"HTTP/1.1 501 No\r\nConnection: close\r\n\r\nno")
        self.there.end()
        self.connect()
        self.assertTrue(self.request().startswith(b"POST"))

    def test_aChallengeThatComesAllTheSameIsAFailure(self) -> None:
        self.asked(post(self.LONG))
        self.there.receive(OK[:-2])
        self.there.receive(needAuth(DIGEST))
        self.assertFailed(502, "asks for credentials again behind a body that was not kept")
        self.assertIsInstance(self.door.refusals[0], ProxyFailed)

    def test_aClientThatWaitsToBeToldNeedsNoneOfThat(self) -> None:
        self.asked(post(self.LONG, b"Expect: 100-continue")[: -len(self.LONG)])
        self.assertTrue(self.request().startswith(b"POST"))
        self.there.receive(needAuth(DIGEST, more=b"Connection: close\r\n"))
        self.connect()
        self.assertIn(b"Digest", self.request())
        self.there.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertTrue(self.got().startswith(b"HTTP/1.1 100"))
        self.say(self.LONG)
        self.assertEqual(self.request(), self.LONG)

    def test_aProxyThatAskedNobodyLastTimeGetsItAtOnce(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.there.end()
        self.got()
        self.say(post(self.LONG))
        self.connect()
        self.assertTrue(self.request().startswith(b"POST"))
        self.there.receive(needAuth(DIGEST))
        self.assertFailed(502, "asks for credentials again")
        login = self.login
        self.setUp()  # from then on it may ask
        self.login = login
        self.door.reach = self.newReach()
        self.asked(post(self.LONG))
        self.assertTrue(self.request().startswith(b"HEAD"))

    def test_aShortOneInChunksNeither(self) -> None:
        head = b"POST http://origin.example/ HTTP/1.1\r\nHost: origin.example\r\n"
        self.asked(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        self.assertTrue(self.request().startswith(b"POST"))

    def test_norOneForBasicThatWasAccepted(self) -> None:
        self.withLogin("basic")
        self.asked(GET)
        self.there.receive(OK)
        self.request()
        self.say(post(self.LONG))
        self.assertTrue(self.request().startswith(b"POST"))

    def test_rejectedCredentialsAreMarked(self) -> None:
        self.asked(post(self.LONG))
        self.there.receive(needAuth(DIGEST, body=b""))
        self.connect()
        self.there.receive(needAuth(DIGEST))
        self.assertFailed(502, "rejects the credentials")
        self.assertIsNotNone(self.login.verdicts.trouble)


class BoundTests(ForwardCase):
    """NTLM, which authenticates the connection."""

    def setUp(self) -> None:
        super().setUp()
        self.withLogin("ntlm")

    def login_(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(b"NTLM"))
        one = self.request()
        self.assertIn(b"Proxy-Authorization: NTLM ", one)
        self.assertIn(b"Proxy-Connection: keep-alive\r\n", one)
        self.there.receive(needAuth(b"NTLM " + CHALLENGE))
        self.assertIn(b"Proxy-Authorization: NTLM ", self.request())
        self.there.receive(OK)

    def test_itsMessagesGoOnOneConnection(self) -> None:
        self.login_()
        self.assertTrue(self.got().endswith(b"hi"))
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_behindThemTheConnectionIsKnown(self) -> None:
        self.login_()
        self.say(GET)
        self.assertNotIn(b"Proxy-Authorization", self.request())
        self.there.receive(OK)
        self.say(post(LongBodyTests.LONG))
        self.assertTrue(self.request().startswith(b"POST"))

    def test_aBodyGoesWithEachOfThem(self) -> None:
        self.asked(post(b"body"))
        for said in needAuth(b"NTLM"), needAuth(b"NTLM " + CHALLENGE):
            self.there.receive(said)
            self.assertTrue(self.request().endswith(b"body"))
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_anotherConnectionBeginsAtOnce(self) -> None:
        self.login_()
        self.there.end()
        self.say(GET)
        self.connect()
        self.assertIn(b"Proxy-Authorization: NTLM ", self.request())

    def test_aChallengeWithoutBodyOrLengthHasNone(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(b"NTLM"))
        self.there.receive(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM " + CHALLENGE)
        self.request()
        self.there.receive(b"\r\n\r\n")
        self.assertIn(b"Proxy-Authorization: NTLM ", self.request())

    def test_aConnectionThatEndsInTheMidstIsAFailure(self) -> None:
        self.asked(GET)
        self.there.receive(needAuth(b"NTLM"))
        self.there.end()
        self.assertFailed(502, "in the midst of the authentication")
