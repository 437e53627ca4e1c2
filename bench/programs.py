"""Programs on free ports of 127.0.0.1: how they are built, started, measured and stopped."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ENVIRON = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
TICK = os.sysconf("SC_CLK_TCK")
# Seconds for a program to listen, or to go.
PATIENCE = 15.0


class Missing(Exception):
    """A program is not there, or does not do it; the rest goes on without."""


def find(name: str) -> str:
    path = shutil.which(name, path=PATH)
    if path is None:
        raise Missing(f"{name} is not installed")
    return path


def build(folder: Path) -> None:
    """Compile the yardstick, the null proxy and the client into a folder."""
    compiler = find(os.environ.get("CC", "cc"))
    for name in "yardstick", "nullproxy", "load":
        command = [compiler, "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{compiler} does not compile bench/{name}.c: {done.stderr[:300]}")


def configured(name: str, port: int, folder: Path) -> str:
    """The path of bench/`name`, filled in."""
    text = Template((HERE / name).read_text()).substitute(port=port, folder=folder)
    (folder / name).write_text(text)
    return str(folder / name)


def freePort() -> int:
    """One of those that the kernel does not give to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _listens(port: int) -> bool:
    """As the kernel sees it, because a connection to a tunnel would be work for it."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = "".join(table.read_text() for table in tables if table.exists())
    return re.search(rf":{port:04X} \w+:0000 0A ", lines) is not None


@contextlib.contextmanager
def running(command: str, port: int, log: Path) -> Iterator[int]:
    """The process id of a program that listens on a port, which ends with the context."""
    words = shlex.split(command)
    words[0] = find(words[0])
    pipes = {"stdin": subprocess.DEVNULL, "stdout": log.open("wb"), "stderr": subprocess.STDOUT}
    with pipes["stdout"]:
        process = subprocess.Popen(words, **pipes, env=ENVIRON, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace").strip()[-300:]
                raise Missing(f"{command} does not listen: {said}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started, in a session of its own
        process.wait(PATIENCE)


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat: state, parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def processorTime(pid: int) -> float | None:
    """Seconds of a process and its descendants so far. None for one that has the kernel bury its
    children, because their time is lost with them."""
    ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    if ignored and int(ignored[1], 16) >> (signal.SIGCHLD - 1) & 1:
        return None
    ticks = sum(map(int, _stat(pid)[13:15]))  # of children that it has waited for
    for one in _family(pid):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _stat(one)[11:13]))
    return ticks / TICK


def memory(pid: int) -> int:
    """Resident KiB of a process and its descendants, a page that they share counted once."""
    total = 0
    for one in _family(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += sum(map(int, re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)))
    return total
