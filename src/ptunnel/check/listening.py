"""Finds the process that listens on the address of a tunnel. It listens nowhere itself."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ptunnel import causes
from ptunnel.check.report import Fault, Listening
from ptunnel.config import Listen, TcpListen, UnixListen

_PROC = Path("/proc")
# In /proc/net/tcp: the state of a listening socket.
_LISTENS = "0A"


def listeningAt(listen: Listen) -> Listening | None:
    """
    @return: None if no process listens there, if that cannot be found out, and for port 0.
    """
    try:
        if isinstance(listen, UnixListen):
            inodes = _unixInodes(listen.path)
            taken = bool(inodes)
        elif isinstance(listen, TcpListen) and listen.port:
            taken = _isTaken(listen)
            inodes = _tcpInodes(listen.port) if taken else set()
        else:
            return None
        if not taken:
            return None
        processes = list(_holders(inodes))
    except (OSError, ValueError):
        return None
    return _described(str(listen), processes)


def _described(address: str, processes: Sequence[int]) -> Listening:
    for process in processes:
        if isPtunnel(_arguments(process)):
            return Listening(address, "ptunnel", process)
    if not processes:
        return Listening(address)
    process, name = processes[0], _name(processes[0])
    fault = Fault(
        f"{address} is taken by {name} (process {process})",
        causes.LISTEN_TAKEN.hint,
        causes.LISTEN_TAKEN.id,
    )
    return Listening(address, name, process, fault)


def isPtunnel(arguments: Sequence[str]) -> bool:
    """Return whether this is the command line of ptunnel, of its worker, or of twistd with it."""
    return any(
        os.path.basename(word) == "ptunnel"
        or word.startswith("ptunnel.")
        or "from ptunnel." in word
        for word in arguments
    )


def _isTaken(listen: TcpListen) -> bool:
    """Return whether it cannot be bound. If it can, it is free again at once."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as e:
            return e.errno == errno.EADDRINUSE
    return False


def _tcpInodes(port: int) -> set[str]:
    """Return the inodes of all sockets that listen on a port, on any address."""
    found = set()
    for table in "tcp", "tcp6":
        for line in _lines(f"net/{table}"):
            local, state, inode = line[1], line[3], line[9]
            if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                found.add(inode)
    return found


def _unixInodes(path: str) -> set[str]:
    """Return the inodes of the sockets that listen on a path."""
    accepts = 1 << 16
    return {
        line[6] for line in _lines("net/unix") if line[7:8] == [path] and int(line[3], 16) & accepts
    }


def _lines(table: str) -> list[list[str]]:
    """Return the lines of a table of the kernel, without the first; none if it is missing."""
    try:
        return [line.split() for line in (_PROC / table).read_text().splitlines()[1:]]
    except OSError:
        return []


def _holders(inodes: set[str]) -> Iterator[int]:
    """Yield the processes that hold one of these sockets, as far as permissions allow."""
    if not inodes or sys.platform != "linux":
        return
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in sorted(int(entry) for entry in os.listdir(_PROC) if entry.isdigit()):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            folder = f"{_PROC}/{process}/fd"
            if any(_link(f"{folder}/{fd}") in links for fd in os.listdir(folder)):
                yield process


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _arguments(process: int) -> list[str]:
    with contextlib.suppress(OSError):
        return (_PROC / str(process) / "cmdline").read_text(errors="replace").split("\0")
    return []


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return (_PROC / str(process) / "comm").read_text(errors="replace").strip()
    return "another program"
