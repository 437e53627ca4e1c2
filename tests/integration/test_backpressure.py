"""Readers that do not read."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from tests.integration.case import IntegrationTestCase, Peer
from tests.integration.programs import Ptunnel, Squid, eventually, shared

CLIENTS = 40
KIB_FOR_EACH = 300
# Far more than what the buffers of kernel, proxy and ptunnel hold for a client.
ENOUGH = 32 * 1024 * 1024


class SlowReaderTests(IntegrationTestCase):
    def test_clientsThatNeverReadCostAFixedAmountOfMemory(self) -> None:
        target = Endless()
        self.addCleanup(target.stop)
        tunnel = self.tunnel(shared(Squid), target)
        limit = residentKiB(tunnel) + CLIENTS * KIB_FOR_EACH
        clients = [self.dial(tunnel.port) for _ in range(CLIENTS)]
        eventually(lambda: target.connections == CLIENTS, "all are connected")
        # Beyond the limit there may be no standstill until the memory is full.
        eventually(lambda: target.isStopped() or residentKiB(tunnel) > limit, "a standstill")
        self.assertLessEqual(residentKiB(tunnel), limit)
        readAtLeast(clients[0], ENOUGH)  # and it goes on as soon as somebody reads


class Endless(Peer):
    """Sends for as long as the other side takes it."""

    def __init__(self) -> None:
        self._lastSent = time.monotonic()
        super().__init__(self._send)

    def isStopped(self) -> bool:
        """Whether nobody has taken anything for a second."""
        return time.monotonic() - self._lastSent > 1

    def _send(self, connection: socket.socket) -> None:
        while True:
            connection.sendall(bytes(65536))
            self._lastSent = time.monotonic()


def readAtLeast(client: socket.socket, size: int) -> None:
    while size > 0:
        data = client.recv(1 << 20)
        assert data
        size -= len(data)


def residentKiB(program: Ptunnel) -> int:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1])
