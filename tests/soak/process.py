"""ptunnel as a program: started, asked what it holds, and measured by /proc."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
ASK = signal.SIGRTMIN + 7
# As little as a pipe can hold, so that a reader that stops is felt within a second.
PIPE = 4096
PATIENCE = 30.0
# Of a log, what is kept, in bytes.
MOST_LOG = 50 << 20

_LISTENING = re.compile(r" (\S+): listening on 127\.0\.0\.1:(\d+), to ")
_WRONG = re.compile(r"a bug|Traceback|Unhandled|[a-z]Error\b|Exception|a check failed")


@dataclass
class Holding:
    """What a process holds at one moment.

    @ivar files: its descriptors by kind: socket, pipe, anon_inode and so on.
    @ivar memory: its resident bytes.
    @ivar inside: what it says of itself: timers, objects.
    """

    pid: int
    files: Counter[str] = field(default_factory=Counter)
    memory: int = 0
    inside: dict[str, Any] = field(default_factory=dict)


class Shared:
    """The file by which the clock and the resolver of a process are steered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(16))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 16)

    def setClock(self, off: float) -> None:
        """@param off: seconds by which the wall clock is off."""
        struct.pack_into("q", self._map, 0, int(off * 1e9))

    def setHanging(self, hangs: bool) -> None:
        """@param hangs: whether names that begin with "slow" hang."""
        struct.pack_into("q", self._map, 8, int(hangs))


class Service:
    """A running ptunnel.

    @ivar ports: where each tunnel listens.
    @ivar wrong: lines of its log that should never be, each kind once, with how many there were.
    @ivar lines: how many it has logged.
    @ivar kills: when workers were killed.
    @ivar reading: cleared while nobody reads its log.
    """

    def __init__(self, name: str, folder: Path, config: str, workers: int) -> None:
        self.name = name
        self.workers = workers
        self.shared = Shared(folder / f"{name}.state")
        self.ports: dict[str, int] = {}
        self.wrong: dict[str, list[Any]] = {}
        self.lines = 0
        self.kills: list[float] = []
        self.reading = threading.Event()
        self.reading.set()
        self._folder = folder
        self._tail: list[str] = []
        self._tunnels = config.count("[tunnel ")
        self._config = folder / f"{name}.ini"
        self._config.write_text(config)
        self._config.chmod(0o600)

    async def start(self, shim: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment |= {
            "LD_PRELOAD": str(shim),
            "PTUNNEL_SOAK": str(self.shared.path),
            "PYTHONPATH": os.pathsep.join([str(HERE / "inside"), str(SOURCE)]),
        }
        reading, writing = os.pipe()
        fcntl.fcntl(writing, 1031, PIPE)  # F_SETPIPE_SZ
        command = [sys.executable, "-m", "ptunnel", "run", "-v", "-c", str(self._config)]
        self.process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
        )
        os.close(writing)
        threading.Thread(target=self._read, args=(reading,), daemon=True).start()
        end = time.monotonic() + PATIENCE
        while len(self.ports) < self._tunnels:
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit("\n".join([f"{self.name} does not start", *self.tail]))
            await asyncio.sleep(0.05)

    def _read(self, descriptor: int) -> None:
        rest = b""
        with open(self._folder / f"{self.name}.log", "wb") as copy:
            while data := os.read(descriptor, 1024):
                self.reading.wait()
                if copy.tell() < MOST_LOG:
                    copy.write(data)
                    copy.flush()
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._note(line.decode("utf-8", "replace"))
        os.close(descriptor)

    def _note(self, line: str) -> None:
        self.lines += 1
        self._tail = [*self._tail[-19:], line]
        if match := _LISTENING.search(line):
            self.ports[match[1]] = int(match[2])
        if _WRONG.search(line):
            kind = re.sub(r"[0-9]+", "N", line)[:200]
            self.wrong.setdefault(kind, [line, 0])[1] += 1

    def pids(self) -> list[int]:
        """Its processes that serve tunnels."""
        pid = self.process.pid
        if self.workers == 1:
            return [pid]
        with contextlib.suppress(OSError):
            return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    async def holdings(self) -> list[Holding]:
        """What each of its processes holds: a supervisor first, where there is one."""
        pids = self.pids() if self.workers == 1 else [self.process.pid, *self.pids()]
        return [await self._holding(pid) for pid in pids]

    async def _holding(self, pid: int) -> Holding:
        holding = Holding(pid)
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                holding.files[os.readlink(path).partition(":")[0]] += 1
        holding.memory = memory(pid)
        answer = Path(f"{self.shared.path}.{pid}")
        answer.unlink(missing_ok=True)
        os.kill(pid, ASK)
        end = time.monotonic() + PATIENCE
        while not answer.exists():
            if time.monotonic() > end:
                return holding
            await asyncio.sleep(0.05)
        holding.inside = json.loads(answer.read_text())
        return holding

    async def end(self, seconds: float) -> str:
        """Send SIGTERM. @return: what was wrong with its end, or ""."""
        self.reading.set()
        self.process.terminate()
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.process.kill()
                self.process.wait()
                return f"SIGTERM has not ended it within {seconds:g} s"
            await asyncio.sleep(0.05)
        code = self.process.returncode
        return f"it ended with {code}" if code else ""

    def stop(self) -> None:
        """End it whatever it does."""
        for pid in [*self.pids(), self.process.pid] if self.process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def tail(self) -> list[str]:
        """The last lines of its log."""
        return self._tail


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
