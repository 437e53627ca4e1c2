"""A client, a door, and whoever is asked next, all in memory."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.door.exchange.life import Life
from ptunnel.door.forward.client import Client
from ptunnel.door.forward.forwarder import Forwarder
from ptunnel.door.http.gate import Forward, Gate
from ptunnel.door.http.refusals import refusal
from ptunnel.login.login import Login
from ptunnel.net.asked import Rejected
from ptunnel.relay.outcome import Ended
from ptunnel.relay.terms import Terms
from ptunnel.route.forwards import Forwards, Reach
from ptunnel.timing.deadlines import Sweep
from tests.support.fakes import Recorder, StrictClock
from tests.support.loopback import FakeEndpoint, MemoryTCP
from tests.support.phases import holdToTable

ALICE = Credentials("alice", "s3cret/canary")
IDLE = 60.0
CONNECT = 10.0

GET = b"GET http://origin.example/a?b HTTP/1.1\r\nHost: origin.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def post(body: bytes, *fields: bytes, method: bytes = b"POST") -> bytes:
    lines = [b"%b http://origin.example/p HTTP/1.1" % method, b"Host: origin.example", *fields]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def needAuth(*values: bytes, body: bytes = b"no", more: bytes = b"") -> bytes:
    lines = [b"HTTP/1.1 407 Who are you", *(b"Proxy-Authenticate: " + v for v in values)]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n" + more + b"\r\n" + body


class FakeDoor:
    """@ivar failure: what `lead` fails with; None: nothing.
    @ivar ways: those of each target.
    @ivar account: how it ended. @ivar refusals: what was refused. @ivar taken: the ways taken.
    """

    def __init__(self, clock: StrictClock, reach: Reach) -> None:
        self.terms = Terms(IDLE)
        self.sweep = Sweep(clock)
        self.connectTimeout: float | None = CONNECT
        self.failure: Exception | None = None
        self.reach = reach
        self.account: Ended | None = None
        self.refusals: list[BaseException] = []
        self.taken: list[str] = []
        self.led: list[Any] = []

    def lead(self, asked: Forward) -> Forwards:
        if self.failure is not None:
            raise self.failure
        self.led.append(asked.request)
        return Forwards(self.reach.endpoint, {self.reach.way: self.reach})

    def takes(self, way: str) -> None:
        self.taken.append(way)

    def refused(self, asked: Forward | None, error: BaseException) -> bytes:
        self.refusals.append(error)
        if isinstance(error, Rejected):
            return error.answer
        return refusal(error, isHead=asked is not None and asked.isHead)

    def ended(self, ended: Ended) -> None:
        assert self.account is None
        self.account = ended


class ForwardCase(SynchronousTestCase):
    """@ivar client: the transport of the client. @ivar there: of the newest connection upstream."""

    isProxy = True
    _isHeld = False
    headers: tuple[tuple[str, str], ...] = ()

    def setUp(self) -> None:
        if not self._isHeld:  # a test may begin several times
            self._isHeld = True
            holdToTable(self, Client, "a forwarded client")
            holdToTable(self, Life, "an exchange")
        self.clock = StrictClock()
        self.endpoint = FakeEndpoint()
        self.login: Login | None = None
        self.door = FakeDoor(self.clock, self.newReach())
        self.recorder = Recorder()
        self.client = MemoryTCP(self.recorder)
        self.forwarder = Forwarder(self.door, self.client)

    def newReach(self, **how: Any) -> Reach:
        hop = "corp:3128" if self.isProxy else "origin.example:80"
        way = "corp" if self.isProxy else "direct"
        given = {"login": self.login, "headers": self.headers, **how}
        return Reach(way, self.endpoint, hop, self.isProxy, **given)

    def withLogin(self, scheme: Any = "auto", credentials: Any = ALICE) -> Login:
        """Let the proxy be one with credentials."""
        self.login = Login(
            credentials, scheme=scheme, host="corp", hop="corp:3128", reactor=self.clock
        )
        self.door.reach = self.newReach()
        return self.login

    def ask(self, data: bytes) -> None:
        """Let the client begin."""
        self.client.pauseProducing()
        gated = Gate().feed(data)
        assert isinstance(gated, Forward)
        self.forwarder.start(gated, len(data))

    def say(self, data: bytes) -> None:
        """Let the client go on."""
        self.client.receive(data)

    def connect(self) -> MemoryTCP:
        self.there: MemoryTCP = self.endpoint.succeed()
        return self.there

    def asked(self, data: bytes) -> MemoryTCP:
        """Begin, and connect."""
        self.ask(data)
        return self.connect()

    def got(self) -> bytes:
        """What the client has got since it was looked at last."""
        got, self.client.sent = self.client.sent, b""
        return got

    def request(self, there: MemoryTCP | None = None) -> bytes:
        """What was sent upstream since it was looked at last."""
        there = there or self.there
        got, there.sent = there.sent, b""
        return got

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def assertFailed(self, status: int, words: str = "") -> None:
        """The client got a page, and its end."""
        got = self.got()
        self.assertEqual(got[:12], b"HTTP/1.1 %d" % status, got)
        self.assertIn(b"Connection: close", got)
        self.assertTrue(self.client.writeEnded)
        if words:
            self.assertIn(words, str(self.door.refusals[-1]))

    def assertCut(self) -> None:
        """The client was cut off."""
        self.clock.advance(0)
        self.assertEqual(self.client.how, ["abortConnection"])
        self.assertIsNotNone(self.door.account)
        # A line of its own: the name in Via may end in 0.
        self.assertNotIn(b"\n0\r\n\r\n", b"\n" + self.client.sent)
