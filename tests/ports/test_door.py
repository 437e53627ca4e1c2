"""The port of a door: `ptunnel.ports.tunnel`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ptunnel.auth import Secret
from ptunnel.config import DIRECT, Door, EndpointListen, parseNetworks
from ptunnel.errors import ListenError
from ptunnel.log import Log
from ptunnel.net.descriptors import PROCESS
from ptunnel.ports.tunnel import TunnelService
from tests.support.loopback import captureLog

OPEN = Door("d", EndpointListen("tcp:0:interface=0.0.0.0"), via=(DIRECT,))
KNOWING = replace(
    OPEN, username="alice", password=Secret("word"), allow=parseNetworks("10.0.0.0/8")
)


class OpenTests(TestCase):
    def listen(self, door: Door) -> tuple[TunnelService, Deferred[None]]:
        captureLog(self)
        service = TunnelService(reactor, door, Log("none"))
        self.addCleanup(service.stopListening)
        return service, service.listen()

    def test_oneThatOthersReachUnaskedIsClosedAgain(self) -> None:
        used = PROCESS.used
        service, listening = self.listen(OPEN)
        error: Any = self.failureResultOf(listening, ListenError).value
        self.assertIn("[door d] listen: ", str(error))
        self.assertIn("without allow and username everyone there could use it", str(error))
        self.assertFalse(service.isBound)
        self.assertEqual(PROCESS.used, used)

    def test_oneThatKnowsItsClientsIsOpen(self) -> None:
        service, listening = self.listen(KNOWING)
        self.successResultOf(listening)
        self.assertTrue(service.isBound)

    def test_oneOfThisMachineIsOpenToo(self) -> None:
        local = replace(OPEN, listen=EndpointListen("tcp:0:interface=127.0.0.1"))
        service, listening = self.listen(local)
        self.successResultOf(listening)
        self.assertTrue(service.isBound)
