"""One client of a door: `ptunnel.door.session`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.door.factory import ASK_WAIT, LAST_WAIT, DoorFactory
from ptunnel.door.session import DoorSession
from ptunnel.errors import ProxyRefused, Unreachable
from ptunnel.log import Log
from ptunnel.net.asked import Login
from ptunnel.relay.timeouts import LINGER
from tests.support.loopback import FakeEndpoint, MemoryTCP, captureLog, lines
from tests.support.phases import holdToTable

ALICE = IPv4Address("TCP", "192.0.2.1", 5001)
GREETING, CHOSEN = b"\5\1\0", b"\5\0"
ASK = b"\5\1\0\3\x09t.example\x03\xe1"
GRANTED = b"\5\0\0\1\0\0\0\0\0\0"
LOOPBACK = b"\5\1\0\1\x7f\0\0\1\0\x50"


def refused(code: int) -> bytes:
    return bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])


class DoorCase(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, DoorSession, "a session")
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.asked: list[tuple[str, int]] = []
        self.events = captureLog(self)
        self.door = self.make()

    def make(self, level: str = "info", **settings: Any) -> DoorFactory:
        how = {"name": "d", "log": Log(level), "reactor": self.clock, **settings}  # type: ignore[arg-type]
        self.door = DoorFactory(self.lead, **how)
        return self.door

    def lead(self, host: str, port: int) -> Any:
        self.asked.append((host, port))
        return self.endpoint

    def client(self) -> Any:
        return MemoryTCP(self.door.buildProtocol(ALICE), ALICE)

    def asking(self) -> Any:
        """A client that has asked for t.example:993 by SOCKS5."""
        client = self.client()
        client.receive(GREETING + ASK)
        self.assertEqual(client.sent, CHOSEN)
        return client

    def logged(self) -> list[str]:
        logged = lines(self.events)
        self.events.clear()
        return logged


class AskingTests(DoorCase):
    def test_aClientIsCarriedToWhatItAsksFor(self) -> None:
        client = self.client()
        client.receive(GREETING)
        self.assertEqual(client.sent, CHOSEN)
        client.receive(ASK)
        self.assertEqual(self.asked, [("t.example", 993)])
        self.assertEqual(client.sent, CHOSEN)
        target = self.endpoint.succeed()
        self.assertEqual(client.sent, CHOSEN + GRANTED)
        client.receive(b"EHLO")
        target.receive(b"250")
        self.assertEqual(target.sent, b"EHLO")
        self.assertEqual(client.sent, CHOSEN + GRANTED + b"250")

    def test_nothingIsGrantedBeforeThereIsAConnection(self) -> None:
        client = self.asking()
        self.assertTrue(client.paused)
        client.receive(b"early")
        self.assertEqual(client.unread, [b"early"])
        self.assertEqual(client.sent, CHOSEN)

    @given(st.lists(st.integers(0, len(GREETING + ASK) + 5), max_size=6))
    def test_howItIsCutDoesNotMatter(self, cuts: list[int]) -> None:
        self.endpoint = FakeEndpoint()
        self.make()
        client, said = self.client(), GREETING + ASK + b"early"
        ends = [0, *sorted(cuts), len(said)]
        for start, end in pairwise(ends):
            if said[start:end]:
                client.receive(said[start:end])
        target = self.endpoint.succeed()
        self.assertEqual(target.sent, b"early")
        self.assertEqual(client.sent, CHOSEN + GRANTED)

    def test_twoWhoAskForTheSameShareWhatLeadsThere(self) -> None:
        self.asking()
        self.asking()
        self.assertEqual(self.asked, [("t.example", 993)])
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_theLineOfASessionNamesItsTarget(self) -> None:
        client = self.asking()
        target = self.endpoint.succeed()
        target.end()
        client.end()
        [line] = self.logged()
        self.assertIn("d: 192.0.2.1:5001 to t.example:993 closed by the target", line)

    def test_itsFieldsHaveTheTargetToo(self) -> None:
        self.asking()
        self.endpoint.fail(Unreachable("no", cause=causes.REFUSED))
        self.assertEqual(self.events[-1]["fields"]["target"], "t.example:993")

    def test_theTraceSaysWhatWasAskedFor(self) -> None:
        self.make(level="debug")
        self.asking()
        self.assertTrue(any("asks for t.example:993 by SOCKS" in line for line in self.logged()))


class RefusalTests(DoorCase):
    def test_aFailureIsAnsweredByItsCause(self) -> None:
        for error, code in (
            (ProxyRefused("no", status=403, reason="", cause=causes.TARGET_REFUSED), 2),
            (Unreachable("proxy is down", hop="p:3128", cause=causes.REFUSED), 1),
            (Unreachable("down", hop="t.example:993", cause=causes.REFUSED), 5),
            (Unreachable("no answer", hop="t.example:993", cause=causes.NO_ANSWER), 4),
        ):
            client = self.asking()
            self.endpoint.fail(error)
            self.assertEqual(client.sent, CHOSEN + refused(code), error)
            self.assertEqual(client.how[:1], ["loseWriteConnection"])
            client.lose()
        self.assertEqual(self.door.sessions, set())

    def test_aForbiddenTargetIsNotConnectedTo(self) -> None:
        client = self.client()
        client.receive(GREETING + LOOPBACK)
        self.assertEqual(client.sent, CHOSEN + refused(2))
        self.assertEqual(self.asked, [])
        [line] = self.logged()
        self.assertIn("127.0.0.1:80 is not among the targets of this door", line)

    def test_whatIsNoSocksIsNotServed(self) -> None:
        for said in b"\x16\3\1\0", b"\0", b"\x80\x2e", b"SSH-2.0-x\r\n\r\n":
            client = self.client()
            client.receive(said)
            self.assertEqual(self.asked, [], said)
            self.assertIn("gets no tunnel: it sent ", self.logged()[-1])
            client.lose()

    def test_whoDoesNotWaitGetsEachAnswer(self) -> None:
        client = self.client()
        client.receive(GREETING + b"\5\2\0\1\xc0\0\2\1\0\x50")  # BIND
        self.assertEqual(client.sent, CHOSEN + refused(7))

    def test_httpIsToldFromSocks(self) -> None:
        client = self.client()
        client.receive(b"CONNECT t.example:993 HTTP/1.0\r\n\r\nEHLO")
        self.assertEqual(self.asked, [("t.example", 993)])
        target = self.endpoint.succeed()
        self.assertEqual(client.sent, b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.assertEqual(target.sent, b"EHLO")

    def test_aFailureIsAPageForHttp(self) -> None:
        client = self.client()
        client.receive(b"CONNECT t.example:993 HTTP/1.1\r\nHost: t.example:993\r\n\r\n")
        self.endpoint.fail(Unreachable("no answer", hop="t.example:993", cause=causes.NO_ANSWER))
        self.assertTrue(client.sent.startswith(b"HTTP/1.1 504 "), client.sent)
        self.assertIn("no answer", self.logged()[0])

    def test_aDoorForSocksServesNoHttp(self) -> None:
        self.make(protocol="socks")
        client = self.client()
        client.receive(b"CONNECT t.example:993 HTTP/1.1\r\n\r\n")
        self.assertIn("it sent HTTP, which this door does not speak", self.logged()[0])

    def test_aDoorForHttpServesNoSocks(self) -> None:
        self.make(protocol="http")
        client = self.client()
        client.receive(GREETING)
        self.assertEqual(client.sent, b"")
        self.assertIn("it sent SOCKS, which this door does not speak", self.logged()[0])

    def test_anErrorThatNobodyExpectsEndsTheClientAndSaysWhere(self) -> None:
        client = self.asking()
        self.endpoint.fail(ZeroDivisionError())
        self.assertIn("abortConnection", client.how)
        self.assertIn("ZeroDivisionError", self.logged()[0])

    def test_aLeadThatRaisesIsAFailureOfThatClientOnly(self) -> None:
        def lead(host: str, port: int) -> Any:
            raise ZeroDivisionError

        self.door.lead = lead  # type: ignore[assignment]
        client = self.client()
        client.receive(GREETING + ASK)
        self.assertEqual(client.sent, CHOSEN + refused(1))
        self.assertIn("abortConnection", client.how)
        self.assertIn("ZeroDivisionError", self.logged()[0])


class LoginTests(DoorCase):
    def setUp(self) -> None:
        super().setUp()
        self.judged: list[tuple[Login, Deferred[bool]]] = []
        self.make(judge=self.judge)

    def judge(self, login: Login) -> Deferred[bool]:
        self.judged.append((login, Deferred()))
        return self.judged[-1][1]

    def saying(self) -> Any:
        client = self.client()
        client.receive(b"\5\2\0\2")
        self.assertEqual(client.sent, b"\5\2")
        client.receive(b"\1\5alice\4word")
        return client

    def test_oneWhoIsLetInGoesOn(self) -> None:
        client = self.saying()
        self.assertEqual(self.judged[0][0], Login(b"alice", b"word"))
        client.receive(ASK)
        self.assertEqual(self.asked, [])
        self.judged[0][1].callback(True)
        self.assertEqual(client.sent, b"\5\2\1\0")
        self.assertEqual(self.asked, [("t.example", 993)])

    def test_oneWhoIsNotIsToldAndNotedWithoutThePassword(self) -> None:
        client = self.saying()
        self.judged[0][1].callback(False)
        self.assertEqual(client.sent, b"\5\2\1\1")
        [line] = self.logged()
        self.assertIn("a wrong user name or password", line)
        self.assertNotIn("word)", line.replace("password", ""))
        self.assertEqual(self.events, [])

    def test_aPasswordThatCannotBeReadLetsNobodyIn(self) -> None:
        client = self.saying()
        self.judged[0][1].errback(Unreachable("the store is locked"))
        self.assertEqual(self.asked, [])
        self.assertIn("the store is locked", self.logged()[0])
        client.lose()
        self.assertEqual(self.door.sessions, set())

    def test_whoSaysNothingIsNotServed(self) -> None:
        client = self.client()
        client.receive(GREETING)
        self.assertEqual(client.sent, b"\5\xff")
        self.assertIn("no user name and password", self.logged()[0])

    def test_oneWhoLeavesMeanwhileIsForgotten(self) -> None:
        client = self.saying()
        client.lose()
        self.assertEqual(self.door.sessions, set())
        self.assertTrue(self.judged[0][1].called)  # cancelled
        self.assertEqual(self.asked, [])

    def test_whereNobodyAsksALoginIsAccepted(self) -> None:
        self.make()
        client = self.client()
        client.receive(b"\5\1\2" + b"\1\5alice\4word" + ASK)
        self.assertEqual(client.sent, b"\5\2\1\0")
        self.assertEqual(self.asked, [("t.example", 993)])


class PatienceTests(DoorCase):
    def test_aClientThatDoesNotAskIsClosedInTime(self) -> None:
        client = self.client()
        client.receive(GREETING)
        for _ in range(int(ASK_WAIT) - 2):
            self.clock.advance(1)
        self.assertEqual(client.how, [])
        self.clock.pump([1] * 4)
        self.assertEqual(client.how[:1], ["loseWriteConnection"])
        self.assertIn("it did not say its target within", self.logged()[0])
        self.clock.pump([1] * int(LINGER + 2))
        self.assertIn("abortConnection", client.how)

    def test_oneThatDripsHasNoMoreTime(self) -> None:
        client = self.client()
        client.receive(GREETING)
        for byte in ASK[:-1] + b"\0" * 50:
            if client.how:
                break
            client.receive(bytes([byte]) if len(self.asked) == 0 else b"")
            self.clock.advance(7)
        self.assertTrue(client.how)
        self.assertEqual(self.asked, [])

    def test_oneThatLeavesBeforeItAsksIsCountedAndForgotten(self) -> None:
        client = self.client()
        client.receive(GREETING)
        client.lose()
        self.assertEqual(self.door.sessions, set())
        self.assertEqual(self.door.counters.left, 1)
        self.assertIn("left before it had a tunnel", self.logged()[0])

    def test_oneThatLeavesWhileItIsConnectedEndsTheAttempt(self) -> None:
        client = self.asking()
        client.lose()
        self.assertTrue(self.endpoint.cancelled)
        self.assertEqual(self.door.sessions, set())

    def test_aDrainDoesNotWaitForThoseWhoDoNotAsk(self) -> None:
        client = self.client()
        drained = self.door.drain()
        self.clock.pump([0.5] * int(LAST_WAIT * 2 + 4))
        self.assertEqual(client.how[:1], ["loseWriteConnection"])
        client.lose()
        self.successResultOf(drained)

    def test_aPasswordThatIsReadTooLateLetsNobodyIn(self) -> None:
        for verdict in (True, Unreachable("the store is locked")):
            judged: Deferred[bool] = Deferred()
            self.make(judge=lambda login, judged=judged: judged, maxPerClient=1)
            self.door.counters = type(self.door.counters)()
            client = self.client()
            client.receive(b"\5\1\2" + b"\1\5alice\4word" + ASK)
            self.clock.pump([1] * int(ASK_WAIT + 5))
            self.assertEqual(client.how, ["loseWriteConnection"])
            if verdict is True:
                judged.callback(True)
            else:
                judged.errback(verdict)  # type: ignore[arg-type]
            self.assertEqual(self.asked, [])
            self.assertEqual(sum(self.door.counters.figures("d").failures.values()), 1)
            self.assertEqual(len(self.logged()), 1)
            client.lose()
            self.assertEqual((self.door.sessions, self.door.served), (set(), 0))

    def test_aDrainLetsThoseWhoHaveAskedGoOn(self) -> None:
        client = self.asking()
        self.door.drain()
        self.clock.pump([0.5] * 8)
        target = self.endpoint.succeed()
        client.receive(b"EHLO")
        self.assertEqual(target.sent, b"EHLO")
