"""Clients of a door whose requests for http:// URLs go on: `ptunnel.door.forwarded`."""

from __future__ import annotations

import gc
import weakref
from base64 import b64encode
from typing import Any

from twisted.internet.defer import Deferred, succeed

from ptunnel.config import TargetPattern
from ptunnel.door.factory import DoorFactory
from ptunnel.door.targets import Targets
from ptunnel.errors import Unreachable
from ptunnel.net.asked import Login
from ptunnel.route.forwards import Forwards, Reach
from tests.door.test_session import ALICE, DoorCase
from tests.support.loopback import MemoryTCP

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
KNOWN = Login(b"carol", b"s3cret/canary")


def get(host: str, login: Login | None = None) -> bytes:
    lines = [f"GET http://{host}/ HTTP/1.1", f"Host: {host}"]
    if login is not None:
        told = b64encode(login.username + b":" + login.password).decode()
        lines.append(f"Proxy-Authorization: Basic {told}")
    return "\r\n".join([*lines, "", ""]).encode()


class ForwardedCase(DoorCase):
    def make(self, level: str = "info", **settings: Any) -> DoorFactory:
        return super().make(level, **({"forwards": self.forwards} | settings))

    def forwards(self, host: str, port: int) -> Forwards:
        self.asked.append((host, port))
        reach = Reach("corp", self.endpoint, "corp:3128", True)
        return Forwards(self.endpoint, {"corp": reach})

    def begun(self, *data: bytes) -> MemoryTCP:
        client: MemoryTCP = self.client()
        for each in data or [get("a.example")]:
            client.receive(each)
        return client


class SessionTests(ForwardedCase):
    def test_aRequestGoesOnAndTheSessionGivesAccount(self) -> None:
        client = self.begun(get("a.example")[:9], get("a.example")[9:])
        there = self.endpoint.succeed()
        self.assertTrue(there.sent.startswith(b"GET http://a.example/ HTTP/1.1\r\n"))
        there.receive(OK)
        self.assertTrue(client.sent.endswith(b"hi"))
        self.clock.advance(1)
        client.end()
        sent, received = len(get("a.example")), len(OK)
        [line] = self.logged()
        self.assertIn(
            f"192.0.2.1:5001 to a.example:80 closed by the client after 1.000 s: {sent}", line
        )
        self.assertIn(f" bytes out, {received} in", line)
        self.assertEqual(self.door.sessions, set())
        figures = self.door.counters.figures("d")
        self.assertEqual((figures.connected, dict(figures.ends)), (1, {"end": 1}))
        self.assertEqual((figures.bytesSent, figures.bytesReceived), (sent, received))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothingOfItIsLeftForTheGarbageCollector(self) -> None:
        upgrade = b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        switched = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        for asked, said in (
            (get("a.example"), OK),
            (get("a.example"), OK[:-1]),
            (get("a.example").replace(b"\r\n\r\n", upgrade), switched),
        ):
            gc.collect()
            gc.disable()
            try:
                client = self.begun(asked)
                there = self.endpoint.succeed()
                there.receive(said)
                [session] = self.door.sessions
                left = [weakref.ref(each) for each in (session, session.splice)]
                there.lose()
                client.lose()
                self.clock.advance(1)
                self.endpoint.attempts.clear()
                del client.protocol, there.protocol, session
                client.producer = there.producer = None
                self.assertEqual([ref() for ref in left], [None, None])
            finally:
                gc.enable()

    def test_theListShowsIt(self) -> None:
        self.begun()
        [session] = self.door.sessions
        self.assertEqual(session.phase.value, "forwarding")
        self.endpoint.succeed().receive(OK)
        self.assertEqual((session.moved, session.way), ((len(get("a.example")), len(OK)), "corp"))

    def test_aFailureIsAPageAndALine(self) -> None:
        client = self.begun()
        self.endpoint.fail(Unreachable("cannot reach the proxy corp:3128: refused"))
        self.assertTrue(client.sent.startswith(b"HTTP/1.1 502 "))
        client.end()
        [line] = self.logged()
        self.assertIn("to a.example:80 gets no answer: cannot reach the proxy corp:3128", line)
        figures = self.door.counters.figures("d")
        self.assertEqual((figures.connected, sum(figures.failures.values())), (0, 1))

    def test_aClientThatLeavesBeforeThereIsAConnection(self) -> None:
        self.begun().lose()
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.door.counters.figures("d").left, 1)
        self.assertEqual(self.door.sessions, set())

    def test_eachRequestMayBeAskedForAnew(self) -> None:
        targets = Targets([TargetPattern("a.example", (80, 80))])
        self.make(targets=targets)
        client = self.begun()
        self.endpoint.succeed().receive(OK)
        client.sent = b""
        client.receive(get("b.example"))
        self.assertIn(b"The key targets of the door says what may be asked for", client.sent)
        self.assertEqual(self.asked, [("a.example", 80)])
        self.assertIn("b.example:80", self.logged()[0])

    def test_whatComesWhileAPasswordIsReadGoesWithTheRequest(self) -> None:
        judged: Deferred[bool] = Deferred()
        self.make(judge=lambda login: judged)
        head = get("a.example", KNOWN).replace(b"GET", b"POST")
        head = head.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n")
        # TLS delivers the records that it has, though it is paused.
        client = self.begun(head)
        client.protocol.dataReceived(b"bo")
        client.protocol.dataReceived(b"dy")
        judged.callback(True)
        there = self.endpoint.succeed()
        self.assertTrue(there.sent.endswith(b"\r\n\r\nbody"), there.sent)
        there.receive(OK)
        self.assertTrue(client.sent.endswith(b"hi"))
        client.end()
        self.assertIn(f" {len(head) + 4} bytes out", self.logged()[0])

    def test_targetsShareOneConnectionOfAProxy(self) -> None:
        client = self.begun()
        there = self.endpoint.succeed()
        there.receive(OK)
        client.receive(get("b.example"))
        self.assertIn(b"GET http://b.example/", there.sent)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_itCanBeEndedFromHere(self) -> None:
        client = self.begun()
        self.endpoint.succeed()
        self.door.abort()
        self.assertEqual(client.how, ["abortConnection"])
        self.assertEqual(self.door.sessions, set())

    def test_whoAsksInADrainIsServedOnce(self) -> None:
        client = self.begun(get("a.example")[:9])
        drained: Deferred[None] = self.door.drain()
        client.receive(get("a.example")[9:])
        self.endpoint.succeed().receive(OK)
        self.assertIn(b"Connection: close\r\n", client.sent)
        self.assertTrue(client.sent.endswith(b"hi"))
        self.assertEqual(client.how, ["loseWriteConnection"])
        client.end()
        self.successResultOf(drained)

    def test_aDoorThatDrainsEndsTheIdle(self) -> None:
        client = self.begun()
        self.endpoint.succeed().receive(OK)
        drained: Deferred[None] = self.door.drain()
        self.assertEqual(client.how, ["loseWriteConnection"])
        self.assertNoResult(drained)
        client.end()
        self.successResultOf(drained)

    def test_aNewFactoryGetsThemBehindTheirAnswers(self) -> None:
        client, former = self.begun(), self.door
        there = self.endpoint.succeed()
        self.make().follow(former)
        self.assertEqual(client.how, [])
        there.receive(OK)
        self.assertIn(b"Connection: close\r\n", client.sent)
        self.assertEqual(client.how, ["loseWriteConnection"])

    def test_aDoorWithoutTheseSaysSo(self) -> None:
        self.make(forwards=None)
        client = self.begun()
        self.assertTrue(client.sent.startswith(b"HTTP/1.1 "))
        self.assertIn("serves tunnels only", self.logged()[0])
        self.assertEqual(self.endpoint.attempts, [])

    def test_theTraceNamesTheStepsAndNoQuery(self) -> None:
        self.make("debug")
        self.begun(b"GET http://a.example/p?token=canary HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.endpoint.succeed().receive(OK)
        said = "\n".join(self.logged())
        self.assertIn("asks the proxy corp:3128 for GET http://a.example/p", said)
        self.assertIn("the proxy corp:3128 answers 200", said)
        self.assertNotIn("canary", said)


class LoginTests(ForwardedCase):
    def setUp(self) -> None:
        super().setUp()
        self.judged: list[Login] = []
        self.make(judge=self.judge)

    def judge(self, login: Login) -> Deferred[bool]:
        self.judged.append(login)
        return succeed(login == KNOWN)

    def test_eachRequestSaysWhoItIsAndItGoesNoFurther(self) -> None:
        client = self.begun(get("a.example", KNOWN))
        there = self.endpoint.succeed()
        there.receive(OK)
        client.receive(get("b.example", KNOWN))
        there.receive(OK)
        self.assertEqual(client.sent.count(b"200 OK"), 2)
        self.assertEqual(self.judged, [KNOWN])
        self.assertNotIn(b"Authorization", there.sent)

    def test_aLaterOneThatDoesNotIsAsked(self) -> None:
        for later in None, Login(b"carol", b"wrong"):
            self.make(judge=self.judge)
            client = self.begun(get("a.example", KNOWN))
            self.endpoint.succeed().receive(OK)
            client.sent = b""
            client.receive(get("a.example", later))
            self.assertTrue(client.sent.startswith(b"HTTP/1.1 407 "))
            self.assertIn(b"Proxy-Authenticate: Basic", client.sent)

    def test_aClientIsNamedInItsLines(self) -> None:
        self.begun(get("a.example", Login(b"carol", b"wrong")))
        [line] = self.logged()
        self.assertIn(f"{ALICE.host}:{ALICE.port}", line)
        self.assertNotIn('wrong"', line)
