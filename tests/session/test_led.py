"""Clients with an endpoint each: `ptunnel.session.led`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from ptunnel.errors import Unreachable
from ptunnel.relay.timeouts import LINGER
from tests.session.test_tunnel import ALICE, TunnelCase
from tests.support.loopback import FakeEndpoint


class Own:
    """A client's endpoint."""

    def __init__(self, inner: FakeEndpoint, client: Any, here: Any) -> None:
        self.client, self.here = client, here
        self._inner = inner

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return self._inner.connect(protocolFactory)


class Told(Own):
    """One that is told of the end."""

    leaves = 0

    def left(self) -> None:
        self.leaves += 1


class Leading(FakeEndpoint):
    """An endpoint that makes one for each client."""

    kind: type[Own] = Told

    def __init__(self) -> None:
        super().__init__()
        self.own: list[Any] = []

    def forClient(self, client: Any, here: Any) -> Any:
        self.own.append(self.kind(self, client, here))
        return self.own[-1]


class LedTests(TunnelCase):
    def setUp(self) -> None:
        super().setUp()
        self.leading = self.endpoint = Leading()
        self.make()

    @property
    def last(self) -> Any:
        return self.leading.own[-1]

    def test_itIsAskedWithTheClientAndWhereThatConnectedTo(self) -> None:
        client, _ = self.connected()
        self.assertEqual(self.last.client, ALICE)
        self.assertEqual(self.last.here, client.getHost())

    def test_whereItWantsOnlyTheClientItGetsNoMore(self) -> None:
        self.leading.wantsHere = False  # type: ignore[attr-defined]
        self.connected()
        self.assertEqual((self.last.client, self.last.here), (ALICE, None))

    def test_eachClientHasItsOwn(self) -> None:
        self.client(), self.client()
        self.assertEqual(len(self.leading.own), 2)
        self.leading.succeed(0).receive(b"220")
        self.assertEqual(self.last.leaves, 0)

    def test_itIsToldOfTheEndOfASession(self) -> None:
        client, target = self.connected()
        client.end()
        self.assertEqual(self.last.leaves, 0)
        target.end()
        self.assertEqual(self.tunnel.sessions, set())
        self.assertEqual(self.last.leaves, 1)

    def test_itIsToldOfAClientThatDoesNotWait(self) -> None:
        self.client().lose()
        self.assertEqual(self.last.leaves, 1)

    def test_itIsToldAtOnceOfASessionThatGetsNoTunnel(self) -> None:
        client = self.client()
        self.leading.fail(Unreachable("gone"))
        self.assertEqual(len(self.tunnel.sessions), 1)  # the client is still here
        self.assertGreater(self.last.leaves, 0)
        client.lose()
        self.clock.advance(2 * LINGER)
        self.assertEqual(self.tunnel.sessions, set())

    def test_itIsToldOfAnAbort(self) -> None:
        self.connected()
        self.tunnel.abort()
        self.assertGreater(self.last.leaves, 0)

    def test_oneThatDoesNotWantToKnowIsNotTold(self) -> None:
        self.leading.kind = Own
        client, target = self.connected()
        client.lose()
        target.lose()
        self.assertEqual(self.tunnel.sessions, set())

    def test_whatItRaisesIsABugOfThatClientOnly(self) -> None:
        def forClient(client: Any, here: Any) -> Any:
            raise ZeroDivisionError("bug")

        self.leading.forClient = forClient  # type: ignore[method-assign]
        client = self.client()
        self.assertEqual(client.how, ["abortConnection"])
        [line] = self.logged()
        self.assertIn("ZeroDivisionError", line)
        self.flushLoggedErrors(ZeroDivisionError)
