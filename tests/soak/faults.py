"""What is done to a service while it serves, one thing after the other, at random."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time

from tests.soak.peers import Target
from tests.soak.process import Service


class Faults:
    """One service's.

    @ivar counts: how many times each was injected.
    @ivar flaps: when the proxy that comes and goes went.
    @ivar log: the last of them, each with the time at which it was over.
    """

    def __init__(self, service: Service, flaky: Target, chance: random.Random) -> None:
        """@param flaky: a proxy that comes and goes."""
        self.counts: dict[str, int] = {}
        self.flaps: list[float] = []
        self.log: list[str] = []
        self._service = service
        self._flaky = flaky
        self._chance = chance

    async def run(self) -> None:
        """Until it is cancelled; then all is as it was."""
        kinds = [self.stopped, self.clock, self.name, self.reader, self.proxy]
        if self._service.workers > 1:
            kinds.append(self.worker)
        try:
            while True:
                await asyncio.sleep(self._chance.uniform(0.5, 3))
                kind = self._chance.choice(kinds)
                self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
                await kind()
                self.log = [*self.log[-9:], f"{time.strftime('%T')} {kind.__name__}"]
        finally:
            self._service.reading.set()
            self._service.shared.setHanging(False)
            for pid in [self._service.process.pid, *self._service.pids()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            if self._flaky._server is None:
                await self._flaky.listen()

    async def stopped(self) -> None:
        """Suspended, as by a laptop's lid."""
        pids = self._service.pids()
        if not pids:
            return
        pid = self._chance.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(self._chance.uniform(0.05, 2))
            os.kill(pid, signal.SIGCONT)

    async def clock(self) -> None:
        """Set to another time, forward or back."""
        far = self._chance.choice([1, 60, 3600, 86400])
        self._service.shared.setClock(self._chance.uniform(-far, far))

    async def name(self) -> None:
        """A resolver that hangs."""
        self._service.shared.setHanging(True)
        await asyncio.sleep(self._chance.uniform(0.5, 5))
        self._service.shared.setHanging(False)

    async def reader(self) -> None:
        """A log that nobody reads for a while."""
        self._service.reading.clear()
        await asyncio.sleep(self._chance.uniform(0.5, 5))
        self._service.reading.set()

    async def proxy(self) -> None:
        """A proxy that is down for a while."""
        await self._flaky.deafen()
        self.flaps.append(time.monotonic())
        await asyncio.sleep(self._chance.uniform(0.5, 5))
        await self._flaky.listen()

    async def worker(self) -> None:
        """A worker that dies."""
        pids = self._service.pids()
        if len(pids) == self._service.workers:
            pid = self._chance.choice(pids)
            self._service.kills.append(time.monotonic())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
