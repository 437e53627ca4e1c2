"""Requests one after another on a client's connection: `ptunnel.door.forward.forwarder`."""

from __future__ import annotations

from ptunnel.door.forward.client import Phase
from ptunnel.door.forward.conversation import HEAD_WAIT
from ptunnel.door.messages.fields import PSEUDONYM
from ptunnel.errors import Unreachable
from ptunnel.net.asked import Rejected
from ptunnel.relay.outcome import Ended
from tests.door.forward.case import GET, IDLE, OK, ForwardCase, post

VIA = b"Via: 1.1 " + PSEUDONYM.encode() + b"\r\n"


class OneRequestTests(ForwardCase):
    def test_aProxyIsAskedInAbsoluteFormAndItsAnswerComesBack(self) -> None:
        self.asked(GET)
        self.assertEqual(
            self.request(),
            b"GET http://origin.example/a?b HTTP/1.1\r\nHost: origin.example\r\n" + VIA + b"\r\n",
        )
        self.there.receive(OK)
        self.assertEqual(self.got(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + VIA + b"\r\nhi")
        self.assertEqual(self.door.taken, ["corp"])
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_bothSidesSendSmallMessagesWithoutDelay(self) -> None:
        self.asked(GET)
        self.assertTrue(self.client.noDelay and self.there.noDelay)

    def test_aBodyGoesWithTheHead(self) -> None:
        self.asked(post(b"body"))
        self.assertTrue(self.request().endswith(b"Content-Length: 4\r\n\r\nbody"))

    def test_aBodyThatComesLaterFollows(self) -> None:
        whole = post(b"body")
        self.asked(whole[:-3])
        self.assertTrue(self.request().endswith(b"\r\n\r\nb"))
        self.say(b"od")
        self.assertEqual(self.request(), b"od")
        self.say(b"y")
        self.there.receive(OK)
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_chunksAreFramedAnew(self) -> None:
        head = b"POST http://origin.example/ HTTP/1.1\r\nHost: origin.example\r\n"
        self.asked(head + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n")
        self.assertTrue(self.request().endswith(b"chunked\r\n\r\n2\r\nab\r\n"))
        self.say(b"3\r\ncde\r\n0\r\n\r\n")
        self.assertEqual(self.request(), b"3\r\ncde\r\n0\r\n\r\n")

    def test_whatComesBeforeThereIsAConnectionIsKept(self) -> None:
        self.ask(post(b"body")[:-3])
        self.say(b"ody")
        self.connect()
        self.assertTrue(self.request().endswith(b"\r\n\r\nbody"))

    def test_anAnswerWithoutLengthIsReadToItsEndAndFramedAnew(self) -> None:
        self.asked(GET)
        self.there.receive(b"HTTP/1.1 200 OK\r\n\r\nab")
        self.there.receive(b"c")
        self.there.end()
        got = self.got()
        self.assertIn(b"Transfer-Encoding: chunked\r\n", got)
        self.assertTrue(got.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"))
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_anOldClientGetsWhatItCanRead(self) -> None:
        self.asked(b"GET http://origin.example/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertIn(b"GET http://origin.example/ HTTP/1.1\r\n", self.there.sent)
        chunks = b"2\r\nab\r\n0\r\n\r\n"
        self.there.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        got = self.got()
        self.assertIn(b"Connection: close\r\n", got)
        self.assertNotIn(b"chunked", got)
        self.assertTrue(got.endswith(b"\r\n\r\nab"))
        self.assertTrue(self.client.writeEnded)

    def test_answersWithoutBody(self) -> None:
        self.asked(GET.replace(b"GET", b"HEAD"))
        self.there.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        self.assertIn(b"Content-Length: 99\r\n", self.got())
        self.assertIs(self.forwarder.phase, Phase.IDLE)
        for status in b"204 No", b"304 No":
            self.say(GET)
            self.there.receive(b"HTTP/1.1 " + status + b"\r\n\r\n")
            self.assertTrue(self.got().endswith(VIA + b"\r\n"))
            self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_informationalAnswersArePassedOn(self) -> None:
        self.asked(post(b"body", b"Expect: 100-continue")[:-4])
        self.assertIn(b"Expect: 100-continue\r\n", self.request())
        self.assertEqual(self.got(), b"")
        self.there.receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\n")
        self.assertEqual(
            self.got(),
            b"HTTP/1.1 100 Continue\r\n%bHTTP/1.1 103 Hints\r\nLink: a\r\n%b"
            % (VIA + b"\r\n", VIA + b"\r\n"),
        )
        self.say(b"body")
        self.assertEqual(self.request(), b"body")

    def test_anOldClientGetsNoInformationalAnswers(self) -> None:
        self.asked(GET.replace(b"1.1", b"1.0"))
        self.there.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(self.got(), b"")


class DirectTests(ForwardCase):
    isProxy = False

    def test_theOriginIsAskedInOriginForm(self) -> None:
        self.asked(GET)
        self.assertTrue(self.request().startswith(b"GET /a?b HTTP/1.1\r\nHost: origin.example\r\n"))
        self.assertEqual(self.door.taken, ["direct"])

    def test_anotherOriginNeedsAnotherConnection(self) -> None:
        self.asked(GET)
        first = self.there
        first.receive(OK)
        self.door.reach = self.newReach()  # what it is like is what counts
        self.say(GET)
        self.assertTrue(first.sent.startswith(b"GET /a?b"))
        first.receive(OK)
        other = GET.replace(b"origin", b"other")
        self.door.reach = type(self.door.reach)("direct", self.endpoint, "other.example:80", False)
        self.say(other)
        self.assertEqual(first.how, ["loseConnection"])
        self.assertEqual(len(self.endpoint.attempts), 2)
        second = self.connect()
        self.assertIn(b"Host: other.example\r\n", self.request(second))

    def test_anOriginMayNotAskAsAProxyDoes(self) -> None:
        self.asked(GET)
        self.there.receive(b"HTTP/1.1 407 Hm\r\nProxy-Authenticate: Basic\r\n\r\n")
        self.assertFailed(502, "answers 407, which only a proxy may")


class KeepAliveTests(ForwardCase):
    def test_theNextRequestGoesOnTheSameConnection(self) -> None:
        self.asked(GET)
        for _ in range(3):
            self.there.receive(OK)
            self.got()
            self.say(GET)
            self.assertIn(b"GET http://origin.example/a?b", self.request())
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.assertEqual(len(self.door.led), 4)

    def test_pipelinedRequestsAreAnsweredInTurn(self) -> None:
        self.asked(GET + GET.replace(b"a?b", b"second") + GET[:10])
        self.assertEqual(self.request().count(b"GET"), 1)
        self.there.receive(OK)
        self.assertIn(b"/second", self.request())
        self.there.receive(OK)
        self.say(GET[10:])
        self.assertIn(b"GET http://origin.example/a?b", self.request())

    def test_aConnectionThatEndedBetweenTwoRequestsIsMadeAnew(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.there.end()
        self.say(post(b"x"))
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.connect()
        self.there.receive(OK)
        self.assertEqual(self.got().count(b"200 OK"), 2)

    def test_whatCannotBeDoneTwiceIsNotSentTwice(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.got()
        self.say(post(b"x"))
        self.there.end()
        self.assertFailed(502, "closed the connection without an answer")

    def test_whatCanIsSentOnceMoreWithItsBody(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.got()
        self.say(post(b"body", method=b"PUT"))
        self.there.lose()
        self.connect()
        self.assertTrue(self.request().endswith(b"\r\n\r\nbody"))
        self.there.end()
        self.assertFailed(502, "closed the connection without an answer")
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_aFirstRequestIsNotRepeated(self) -> None:
        self.asked(GET)
        self.there.end()
        self.assertFailed(502, "closed the connection without an answer")

    def test_anAnswerThatClosesIsFollowedByANewConnection(self) -> None:
        self.asked(GET)
        self.there.receive(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertEqual(self.there.how, ["loseConnection"])
        self.assertNotIn(b"close", self.got())
        self.say(GET)
        self.connect()
        self.assertIn(b"GET", self.request())

    def test_moreThanItsLengthIsNobodys(self) -> None:
        self.asked(GET)
        self.there.receive(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        self.assertNotIn(b"evil", self.got())
        self.assertEqual(self.there.how, ["loseConnection"])

    def test_whatComesBetweenTwoRequestsIsNobodys(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.there.receive(OK)
        self.assertEqual(self.there.how, ["abortConnection"])
        self.got()
        self.say(GET)
        self.connect()
        self.there.receive(OK)
        self.assertEqual(self.got().count(b"200 OK"), 1)

    def test_aClientThatAsksForTheEndGetsIt(self) -> None:
        self.asked(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertNotIn(b"close", self.request())
        self.there.receive(OK)
        self.assertIn(b"Connection: close\r\n", self.got())
        self.assertEqual(self.client.how, ["loseWriteConnection"])
        self.client.end()
        self.assertEqual(self.door.account.cause, "end")

    def test_aTunnelNeedsAConnectionOfItsOwn(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.got()
        self.say(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
        self.assertFailed(400, "CONNECT behind another request")

    def test_aSecondRequestThatIsNoneIsRefused(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.got()
        self.say(b"GET / HTTP/1.1\nHost: a\n\n")
        self.assertFailed(400)

    def test_whoIsNotToBeServedIsTold(self) -> None:
        self.door.failure = Rejected("no", b"HTTP/1.1 407 No\r\nConnection: close\r\n\r\n")
        self.ask(GET)
        self.assertFailed(407)
        self.assertEqual(self.endpoint.attempts, [])


class EndTests(ForwardCase):
    def test_aTargetThatCannotBeReached(self) -> None:
        self.ask(GET)
        self.endpoint.fail(Unreachable("cannot reach the proxy"))
        self.assertFailed(502, "cannot reach")
        self.client.end()
        self.assertEqual(self.door.account, Ended(len(GET), 0, "end", 1))

    def test_aClientThatLeavesWhileWeConnect(self) -> None:
        self.ask(GET)
        self.client.lose()
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.door.account.cause, "reset")

    def test_aClientThatLeavesInTheMidstOfAnAnswer(self) -> None:
        self.asked(GET)
        self.there.receive(OK[:-1])
        self.client.lose()
        self.assertEqual(self.there.how, ["abortConnection"])
        self.assertEqual(self.door.account.cause, "reset")

    def test_aClientThatEndsItsHalfGetsItsAnswer(self) -> None:
        self.asked(GET)
        self.client.end()
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))
        self.assertEqual(self.client.how, ["loseConnection"])
        self.assertEqual(self.door.account.received, len(OK))

    def test_aClientThatEndsInTheMidstOfItsRequestIsCutOff(self) -> None:
        self.asked(post(b"body")[:-1])
        self.client.end()
        self.assertEqual(self.there.how, ["abortConnection"])
        self.assertEqual(self.client.how, ["abortConnection"])

    def test_anIdleClientIsClosedInOrder(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.advance(IDLE)
        self.assertEqual(self.client.how, ["loseWriteConnection"])
        self.assertEqual(self.there.how, ["loseConnection"])
        self.client.end()
        self.assertEqual(self.door.account.cause, "idle")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aClientThatDoesNotEndIsAbortedAtLast(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.advance(IDLE + 31)
        self.assertEqual(self.client.how, ["loseWriteConnection", "abortConnection"])

    def test_noMoreDoesOneThatGoesOnSending(self) -> None:
        self.asked(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.there.receive(OK)
        for _ in range(32):
            self.say(b"x")
            self.clock.advance(1)
        self.assertEqual(self.client.how, ["loseWriteConnection", "abortConnection"])

    def test_aServerThatDoesNotAnswer(self) -> None:
        self.asked(GET)
        self.advance(IDLE)
        self.assertFailed(504, "did not answer within 60 s")
        self.assertEqual(self.there.how, ["abortConnection"])

    def test_aClientThatStopsInTheMidstOfItsRequest(self) -> None:
        self.asked(post(b"body")[:-1])
        self.advance(IDLE)
        self.assertFailed(408)

    def test_aFurtherHeadThatDripsHasAnEnd(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.got()
        for byte in GET[: int(HEAD_WAIT) - 1]:
            self.say(bytes([byte]))
            self.assertEqual(self.got(), b"")
            self.clock.advance(1)
        self.advance(2)
        self.assertFailed(408, "the beginning of a request only")

    def test_anEmptyLineBehindABodyIsNoHead(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.say(b"\r\n")
        self.got()
        self.advance(IDLE + 1)
        self.assertEqual(self.got(), b"")
        self.assertEqual(self.door.account, None)
        self.assertEqual(self.client.how, ["loseWriteConnection"])

    def test_aServerThatStopsInTheMidstOfItsAnswer(self) -> None:
        self.asked(GET)
        self.there.receive(OK[:-1])
        self.advance(IDLE)
        self.assertCut()
        self.assertEqual(self.door.account.cause, "idle")

    def test_aDripIsNoStop(self) -> None:
        self.asked(GET)
        for byte in OK:
            self.advance(IDLE - 2)
            self.there.receive(bytes([byte]))
        self.assertTrue(self.got().endswith(b"hi"))

    def test_aServiceThatStopsEndsTheIdleAtOnceAndTheBusySoon(self) -> None:
        self.asked(GET)
        self.forwarder.retire()
        self.assertEqual(self.client.how, [])
        self.there.receive(OK)
        self.assertIn(b"Connection: close", self.got())
        self.assertEqual(self.client.how, ["loseWriteConnection"])

    def test_theIdleOnesAtOnce(self) -> None:
        self.asked(GET)
        self.there.receive(OK)
        self.forwarder.retire()
        self.assertEqual(self.client.how, ["loseWriteConnection"])

    def test_abort(self) -> None:
        self.asked(GET)
        self.forwarder.abort()
        self.assertEqual(self.client.how, ["abortConnection"])
        self.assertEqual(self.there.how, ["abortConnection"])
        self.assertEqual(self.door.account.cause, "aborted")

    def test_whoHadTheClientBeforeIsToldOfItsEnd(self) -> None:
        self.asked(GET)
        self.client.lose()
        self.assertEqual([what for what, _ in self.recorder.events], ["made", "lost"])


class PressureTests(ForwardCase):
    def test_aSlowServerStopsTheClient(self) -> None:
        body = b"x" * 200_000
        whole = post(body)
        self.asked(whole[:1000])
        self.there.stuck = True
        sent = 1000
        while not self.client.paused and sent < len(whole):
            self.say(whole[sent : sent + 10_000])
            sent += 10_000
        self.assertLess(sent, 120_000)
        self.there.unstick()
        self.assertFalse(self.client.paused)

    def test_aSlowClientStopsTheServer(self) -> None:
        self.asked(GET)
        self.client.stuck = True
        self.there.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        count = 0
        while not self.there.paused and count < 100:
            self.there.receive(b"x" * 10_000)
            count += 1
        self.assertLess(count, 12)
        self.client.unstick()
        self.assertFalse(self.there.paused)

    def test_aClientIsNotReadAheadOfItsTurn(self) -> None:
        self.asked(GET)
        self.say(GET * 2000)
        self.assertTrue(self.client.paused)
        self.there.receive(OK)
        self.assertTrue(self.client.paused)

    def test_aBodyWaitsForTheConnectionWithinBounds(self) -> None:
        self.ask(post(b"x" * 200_000)[:100_000])
        self.assertTrue(self.client.paused)
        self.connect()
        self.assertFalse(self.client.paused)

    def test_aNewConnectionIsNotReadWhileTheClientIsFull(self) -> None:
        self.asked(GET)
        self.client.stuck = True
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n"
        self.there.receive(head + b"x" * 100_000)
        self.say(GET)
        self.connect()
        self.assertTrue(self.there.paused)
        self.client.unstick()
        self.assertFalse(self.there.paused)


class UpgradeTests(ForwardCase):
    ASK = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

    def test_itIsAskedForAndThenBothSidesAreJoined(self) -> None:
        self.asked(self.ASK)
        self.assertIn(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", self.request())
        self.say(b"early")
        self.there.receive(self.SWITCH + b"first")
        got = self.got()
        self.assertTrue(got.startswith(b"HTTP/1.1 101 Switching\r\n"))
        self.assertIn(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", got)
        self.assertTrue(got.endswith(b"\r\n\r\nfirst"))
        self.assertEqual(self.request(), b"early")
        self.say(b"up")
        self.there.receive(b"down")
        self.assertEqual((self.request(), self.got()), (b"up", b"down"))
        self.assertIs(self.forwarder.phase, Phase.JOINED)
        self.there.end()
        self.client.end()
        account = self.door.account
        self.assertEqual(account.cause, "end")
        self.assertEqual(account.sent, len(self.ASK + b"early" + b"up"))
        self.assertEqual(account.received, len(self.SWITCH + b"first" + b"down"))

    def test_itMayBeDeclined(self) -> None:
        self.asked(self.ASK)
        self.there.receive(OK)
        self.assertTrue(self.got().endswith(b"hi"))
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_nobodySwitchesUnasked(self) -> None:
        self.asked(GET)
        self.there.receive(self.SWITCH)
        self.assertFailed(502)


class OwnAnswerTests(ForwardCase):
    def test_aLoopIsSeen(self) -> None:
        via = b"\r\nVia: 1.1 other, 1.1 " + PSEUDONYM.encode() + b" (x)\r\n\r\n"
        self.ask(GET.replace(b"\r\n\r\n", via))
        self.assertTrue(self.got().startswith(b"HTTP/1.1 508 Loop Detected\r\n"))
        self.assertEqual(self.endpoint.attempts, [])

    def test_whatHasComeAsFarAsItMayIsAnsweredHere(self) -> None:
        fields = b"\r\nCookie: s3cret\r\nX-A: b\r\nMax-Forwards: 0\r\n\r\n"
        self.ask(GET.replace(b"GET", b"TRACE").replace(b"\r\n\r\n", fields))
        got = self.got()
        self.assertIn(b"Content-Type: message/http\r\n", got)
        self.assertIn(b"X-A: b\r\n", got)
        self.assertNotIn(b"s3cret", got)
        self.assertEqual(self.endpoint.attempts, [])

    def test_elseItIsCounted(self) -> None:
        self.asked(
            b"OPTIONS http://origin.example HTTP/1.1\r\nHost: origin.example\r\n"
            b"Max-Forwards: 7\r\n\r\n"
        )
        got = self.request()
        self.assertTrue(got.startswith(b"OPTIONS http://origin.example HTTP/1.1\r\n"))
        self.assertIn(b"Max-Forwards: 6\r\n", got)
