"""Detects that a client which is not being read has gone.

A client that ends its sending half may still wait for the answer, as `echo question | nc` does. One
that has closed its socket looks the same: both send a FIN. For a client on this machine the kernel
can tell the two apart. A client on another machine is known to have gone when it resets the
connection.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import struct
from typing import Any

_GONE = getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)
_ENDED = getattr(select, "POLLRDHUP", 0)

# sock_diag(7), queried for the one socket with these addresses and ports.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
# The offset of the inode of the socket's file. It is 0 when no process holds the socket.
_INODE = 84


def hasLeft(transport: Any) -> bool:
    """Return whether the client is known to have gone. Reads nothing from it."""
    skt = _socketOf(transport)
    if skt is None or not _GONE:
        return False
    poll = select.poll()
    poll.register(skt.fileno(), _ENDED)
    happened = poll.poll(0)
    events = happened[0][1] if happened else 0
    if events & _GONE:
        return True
    return bool(events & _ENDED) and _isOrphan(skt)


def _socketOf(transport: Any) -> socket.socket | None:
    """Return the socket of a transport, or of the one below it that has one."""
    while transport is not None:
        handle = getattr(transport, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            return handle if handle.fileno() >= 0 else None
        transport = getattr(transport, "transport", None)
    return None


def _isOrphan(skt: socket.socket) -> bool:
    """Return whether the peer's socket is on this machine and held by no process."""
    if skt.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "AF_NETLINK"):
        return False
    with contextlib.suppress(OSError, ValueError, struct.error):
        answer = _ask(_question(skt.getpeername(), skt.getsockname()))
        (kind,) = struct.unpack_from("=H", answer, 4)
        if kind == _SOCK_DIAG_BY_FAMILY:
            (inode,) = struct.unpack_from("=I", answer, _INODE)
            return bool(inode == 0)
    return False


def _question(here: tuple[Any, ...], there: tuple[Any, ...]) -> bytes:
    """Return a request for the socket bound to `here` and connected to `there`."""
    one, two = _address(here[0]), _address(there[0])
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _ANY_STATE)
    body += struct.pack("!HH16s16s", here[1], there[1], one.packed, two.packed)
    body += struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    return struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body


def _ask(question: bytes) -> bytes:
    """@raise OSError: where netlink is forbidden."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.setblocking(False)  # the kernel answers within send
        netlink.send(question)
        answer: bytes = netlink.recv(4096)
        return answer


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
