"""A service that takes its ports over and hands them over: `ptunnel.service.handing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import DIRECT, Settings, TcpListen, Tunnel
from ptunnel.errors import ListenError
from ptunnel.service.service import PtunnelService
from tests.support.loopback import captureLog, lines


def tunnel(name: str, port: int) -> Tunnel:
    return Tunnel(name, TcpListen("127.0.0.1", port), "192.0.2.9", 1, via=(DIRECT,))


class Giver:
    """@ivar did: what it was told."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def listen(self) -> None:
        self.did.append("listen")

    def close(self) -> None:
        self.did.append("close")


class Notifier:
    """@ivar told: what systemd hears."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self, status: Callable[[], str]) -> None:
        self.told.append(status())

    def stopping(self, limit: float | None) -> None:
        self.told.append("stopping")

    def succeededBy(self, pid: int) -> None:
        self.told.append(f"succeeded by {pid}")


class HandingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.reactor: Any = MemoryReactorClock()
        self.giver, self.notifier = Giver(), Notifier()
        settings = Settings((tunnel("a", 1), tunnel("b", 0)), {}, drainDelay=5.0)
        self.service = PtunnelService(self.reactor, settings)
        self.service.giver = self.giver
        notifier: Any = self.notifier
        self.service.notifier = notifier


class GiverTests(HandingCase):
    def test_itListensBeforeThePortsAndUntilTheStop(self) -> None:
        self.service.startService()
        self.assertEqual((self.giver.did, len(self.reactor.tcpServers)), (["listen"], 2))
        self.service.stopService()
        self.assertEqual(self.giver.did, ["listen", "close"])

    def test_whereItCannotListenNothingElseDoes(self) -> None:
        def fail() -> None:
            raise ListenError("no")

        self.patch(self.giver, "listen", fail)
        self.assertRaises(ListenError, self.service.privilegedStartService)
        self.assertEqual(self.reactor.tcpServers, [])

    def test_itIsClosedWhereAPortCannotBeBound(self) -> None:
        def fail(*arguments: Any, **named: Any) -> None:
            raise ListenError("no")

        self.patch(self.service.tunnels[1], "listen", fail)
        self.assertRaises(ListenError, self.service.privilegedStartService)
        self.assertEqual(self.giver.did, ["listen", "close"])

    def test_thePortsAreOfferedByTheirKeys(self) -> None:
        one, other = self.service.tunnels
        self.assertEqual(self.service.offers(), {"127.0.0.1:1": one, "127.0.0.1:0 b": other})


class SuccessionTests(HandingCase):
    def setUp(self) -> None:
        super().setUp()
        self.finishing: list[Any] = []
        self.service.succession = self
        self.service.startService()

    def finish(self, reactor: Any, then: Any, fail: Any) -> None:
        self.finishing.append((then, fail))

    def test_systemdHearsOfItWhenTheOldProcessHasReleasedThePorts(self) -> None:
        [(then, _)] = self.finishing
        self.assertEqual(self.notifier.told, [])
        then()
        self.assertEqual(self.notifier.told, ["2 tunnels listening, 0 sessions"])
        self.service.tellReady()  # after a reload
        self.assertEqual(len(self.finishing), 1)

    def test_whereTheOldProcessGoesOnThisOneStops(self) -> None:
        [(_, fail)] = self.finishing
        stopped: list[bool] = []
        self.patch(self.reactor, "stop", lambda: stopped.append(True))
        fail()
        self.assertEqual((self.service.exitCode, stopped), (1, [True]))


class HandedOverTests(HandingCase):
    def test_itLeavesAtOnceAndTellsSystemdWhoIsNext(self) -> None:
        self.service.startService()
        left: list[bool] = []
        self.service.leave = lambda: left.append(True)
        self.service.handedOver(77)
        self.assertEqual((left, self.notifier.told[1:]), ([True], ["succeeded by 77"]))
        self.assertEqual(self.service.stopTimeout, 30.0)
        self.successResultOf(self.service.stopService())
        self.assertNotIn("drain-delay", "".join(lines(self.events)))
