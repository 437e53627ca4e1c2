"""A proxy that dies under load, and comes back."""

from __future__ import annotations

import socket
import threading

from tests.integration.case import IntegrationTestCase, at, echo
from tests.integration.programs import HOST, PATIENCE, Squid, eventually

WORKERS = 16
HELD = 20
EXCHANGES = 3
# Sessions of each worker that are to go well in each state, before the next. The first of them may
# have begun in the last state.
SESSIONS = 5


class FailoverTests(IntegrationTestCase):
    def test_aProxyThatDiesCostsItsOwnSessionsAndGetsNewOnesWhenItIsBack(self) -> None:
        first, second = self.squid(), self.squid()
        target = self.peer(echo)
        ways = f"[proxy first]\nurl = http://{at(first)}\n[proxy second]\nurl = http://{at(second)}"
        tunnel = self.configured(ways, target, via="first, second")
        load = Load(tunnel.port)
        self.addCleanup(load.stop)
        load.goesOn()
        self.assertEqual(second.seen(at(target)), [])

        first.kill()
        load.goesOn()
        held = [self.dial(tunnel.port) for _ in range(HELD)]
        self.assertAllEcho(held)
        broken = list(load.broken)
        self.assertLessEqual(max(broken), 1)  # the one that went through the first

        first.start()
        before = len(first.seen(at(target)))
        eventually(lambda: len(first.seen(at(target))) > before, "the first is used again")
        load.goesOn()
        passed = len(second.seen(at(target)))
        self.assertGreater(passed, 0)
        load.goesOn()
        self.assertEqual(len(second.seen(at(target))), passed)
        self.assertAllEcho(held)
        load.stop()
        self.assertEqual(load.broken, broken)
        for client in held:
            client.close()
        self.assertEqual(tunnel.end(), 0)
        self.assertEqual(len(second.seen(at(target))), passed + HELD)

    def squid(self) -> Squid:
        squid = Squid()
        self.addCleanup(squid.stop)
        return squid

    def assertAllEcho(self, clients: list[socket.socket]) -> None:
        for client in clients:
            client.sendall(b"still here")
            self.assertEqual(client.recv(100), b"still here")


class Load:
    """Workers, each of which opens one session after the other.

    @ivar done: how many of each worker's went well.
    @ivar broken: how many did not.
    """

    def __init__(self, port: int) -> None:
        self.done = [0] * WORKERS
        self.broken = [0] * WORKERS
        self._port = port
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(WORKERS)
        ]
        for thread in self._threads:
            thread.start()

    def goesOn(self) -> None:
        """Wait until every worker has had further sessions that went well."""
        wanted = [done + SESSIONS for done in self.done]
        eventually(
            lambda: all(done >= least for done, least in zip(self.done, wanted, strict=True)),
            "the sessions go on",
        )

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _work(self, number: int) -> None:
        while not self._stopped.is_set():
            if self._session():
                self.done[number] += 1
            else:
                self.broken[number] += 1

    def _session(self) -> bool:
        """Whether all came back."""
        try:
            with socket.create_connection((HOST, self._port), PATIENCE) as client:
                for _ in range(EXCHANGES):
                    client.sendall(b"ping")
                    if client.recv(100) != b"ping":
                        return False
        except OSError:
            return False
        return True
