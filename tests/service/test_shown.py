"""A service and its status address: `ptunnel.service.shown`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings, TcpListen, TokenFile, Tunnel, UnixListen
from ptunnel.errors import ConfigError, ListenError
from ptunnel.ledger.watched import Reloaded
from ptunnel.log import Log
from ptunnel.net.descriptors import PROCESS
from ptunnel.service.service import PtunnelService
from ptunnel.service.serving import StillClosing
from ptunnel.service.shown import checkToken
from tests.support.loopback import MemoryTCP, captureLog, lines

HERE = "127.0.0.1"


class Port:
    def __init__(self, reactor: PortReactor, number: int, factory: Any) -> None:
        self._reactor, self.number, self.factory = reactor, number, factory

    def getHost(self) -> Any:
        return IPv4Address("TCP", HERE, self.number)

    def stopListening(self) -> Deferred[None]:
        self._reactor.listening.remove(self)
        return succeed(None)


class PortReactor(MemoryReactorClock):
    """@ivar listening: the ports that are open. @ivar taken: those that cannot be bound."""

    def __init__(self) -> None:
        super().__init__()
        self.listening: list[Port] = []
        self.taken: set[int] = set()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.listening.append(Port(self, port, factory))
        return self.listening[-1]


def tunnel(name: str, port: int) -> Tunnel:
    return Tunnel(name, TcpListen(HERE, port), "t.example", 993, via=("direct",))


SETTINGS = Settings((tunnel("a", 1),), {}, status=TcpListen(HERE, 8620))


class ShownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.reactor: Any = PortReactor()
        used = PROCESS.used
        self.addCleanup(setattr, PROCESS, "used", used)

    def start(self, settings: Settings = SETTINGS) -> Any:
        service: Any = PtunnelService(self.reactor, settings, Log())
        service.reloading = lambda: succeed(Reloaded(True, "reloaded"))
        service.startService()
        return service

    def ports(self) -> list[int]:
        return [port.number for port in self.reactor.listening]

    def test_itIsBoundFirstAndSaidFirst(self) -> None:
        self.start()
        self.assertEqual(self.ports(), [8620, 1])
        first, second = lines(self.events)
        self.assertEqual(first, "info: status on http://127.0.0.1:8620/")
        self.assertIn("a: listening on", second)

    def test_withoutOneNothingOfItIsImported(self) -> None:
        program = (
            "import sys, ptunnel.cli.dispatch, ptunnel.tap, ptunnel.workers.supervisor\n"
            "from twisted.internet.task import Clock\n"
            "from ptunnel.config import Settings\n"
            "from ptunnel.service.service import PtunnelService\n"
            "service = PtunnelService(Clock(), Settings((), {}))\n"
            "service.startService(); service.reload(Settings((), {})); service.stopService()\n"
            "print([n for n in sys.modules if n.startswith(('ptunnel.status', 'twisted.web'))])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout, "[]\n")

    def test_ifItCannotBeBoundNothingListens(self) -> None:
        self.reactor.taken.add(8620)
        error = self.assertRaises(ListenError, self.start)
        expected = "[ptunnel] status: cannot listen on 127.0.0.1:8620: address already in use"
        self.assertEqual((str(error), self.ports()), (expected, []))

    def test_ifATunnelCannotItDoesNotStay(self) -> None:
        self.reactor.taken.add(1)
        self.assertRaises(ListenError, self.start)
        self.assertEqual((self.ports(), lines(self.events)), ([], []))

    def test_aReloadMovesIt(self) -> None:
        service = self.start()
        port = self.reactor.listening[1]
        changes = service.reload(replace(SETTINGS, status=TcpListen(HERE, 8621)))
        self.assertEqual((changes.keys, self.ports()), (("status",), [1, 8621]))
        self.assertIs(self.reactor.listening[0], port)
        self.assertIn("info: status on http://127.0.0.1:8621/", lines(self.events))
        service.reload(replace(SETTINGS, status=None))
        self.assertEqual(self.ports(), [1])
        service.reload(SETTINGS)
        self.assertEqual(self.ports(), [1, 8620])

    def test_aReloadCanBringIt(self) -> None:
        service = self.start(replace(SETTINGS, status=None))
        self.assertEqual(self.ports(), [1])
        service.reload(SETTINGS)
        self.assertEqual(self.ports(), [1, 8620])
        self.assertIn("info: status on http://127.0.0.1:8620/", lines(self.events))

    def test_ifItCannotMoveNothingChanges(self) -> None:
        service = self.start()
        self.reactor.taken |= {8621, 2}
        for wanted in (
            replace(SETTINGS, tunnels=(tunnel("b", 3),), status=TcpListen(HERE, 8621)),
            replace(SETTINGS, tunnels=(tunnel("b", 2),), status=TcpListen(HERE, 8622)),
        ):
            error = self.assertRaises(ListenError, service.reload, wanted)
            self.assertNotIsInstance(error, StillClosing)
            self.assertEqual(self.ports(), [8620, 1])

    def test_whoHoldsAnAddressIsSaid(self) -> None:
        service = self.start()
        self.reactor.taken |= {8620, 1}
        wanted = replace(SETTINGS, status=TcpListen("0.0.0.0", 1))
        error = self.assertRaises(ListenError, service.reload, wanted)
        held = " (by [tunnel a], on 127.0.0.1:1: only a restart can exchange them)"
        self.assertTrue(str(error).endswith(held), error)
        wanted = replace(SETTINGS, tunnels=(tunnel("a", 8620),), status=TcpListen(HERE, 2))
        error = self.assertRaises(ListenError, service.reload, wanted)
        held = " (by [ptunnel] status, on 127.0.0.1:8620: only a restart can exchange them)"
        self.assertTrue(str(error).endswith(held), error)

    def test_anAddressThatWasLeftAMomentAgoIsWaitedFor(self) -> None:
        service = self.start()
        moved = replace(SETTINGS, status=TcpListen(HERE, 8621))
        service.reload(moved)
        self.reactor.taken.add(8620)
        self.assertRaises(StillClosing, service.reload, SETTINGS)
        wanted = replace(moved, tunnels=(tunnel("a", 8620),))
        self.assertRaises(StillClosing, service.reload, wanted)
        self.reactor.advance(10)
        error = self.assertRaises(ListenError, service.reload, SETTINGS)
        self.assertNotIsInstance(error, StillClosing)

    def test_aTokenThatCannotBeUsedEndsTheStartAndChangesNothingLater(self) -> None:
        bad = replace(SETTINGS, statusToken=TokenFile("/no/such/file", "x"))
        error = self.assertRaises(ConfigError, checkToken, bad)
        self.assertEqual(str(error), 'x: "/no/such/file": No such file or directory')
        checkToken(replace(bad, status=None))
        service = self.start()
        wanted = replace(bad, status=TcpListen(HERE, 8621))
        self.assertRaises(ConfigError, service.reload, wanted)
        self.assertEqual(self.ports(), [8620, 1])

    def test_itStaysUntilTheLastSessionHasEnded(self) -> None:
        service = self.start()
        MemoryTCP(self.reactor.listening[1].factory.buildProtocol(None))
        stopped: list[None] = []
        service.stopService().addCallback(stopped.append)
        self.assertEqual((self.ports(), stopped), ([8620], []))
        self.assertEqual(service.figures().state, "stopping")
        service.abort()
        self.reactor.advance(2)
        self.assertEqual((self.ports(), stopped), ([], [None]))

    def test_aStopBeforeTheStartEndsToo(self) -> None:
        service: Any = PtunnelService(self.reactor, SETTINGS, Log())
        self.successResultOf(service.stopService())

    def test_theModeOfItsSocketChangesInAReload(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/s"
        settings = replace(SETTINGS, status=UnixListen(path))
        service = self.start(settings)
        self.addCleanup(service.stopService)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertIn(f"info: status on unix:{path}", lines(self.events))
        service.reload(replace(settings, status=UnixListen(path, 0o660)))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
