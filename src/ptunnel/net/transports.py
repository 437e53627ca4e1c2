"""Facts about Twisted's transports that their interfaces do not offer."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
import termios
from functools import lru_cache
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IProtocol,
    ISSLTransport,
    ITCPTransport,
    ITransport,
    IUNIXTransport,
)
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol

from ptunnel.twisted_private import bufferedBytes, silence, unencryptedBytes

# Twisted's own seam: startTLS changes a transport's receiver by the same attributes. A transport
# that wraps another, as TLS does, calls it wrappedProtocol.
_SEAMS = ("wrappedProtocol", "protocol")

# Seconds of silence after which a peer is asked whether it is there. Kernels wait for two hours,
# which is later than idle-timeout, and than what gateways remember of a silent connection.
KEEP_ALIVE = 60.0
# How many questions without an answer make it gone; all together they take as long again.
PROBES = 6
_LONGEST_IDLE = 32767  # Linux takes no more

_NOT_SENT = 0x894B  # SIOCOUTQNSD of Linux


def _seam(transport: Any) -> tuple[Any, str] | None:
    """Return the object and its attribute that hold a transport's receiver; None: hidden."""
    # startTLS puts its wrapper between a transport and its protocol.
    holder = transport.protocol if getattr(transport, "TLS", False) else transport
    for seam in _SEAMS:
        if getattr(holder, seam, None) is not None:
            return holder, seam
    return None


def receiverOf(transport: ITransport, known: IProtocol | None = None) -> IProtocol:
    """Return the protocol that gets a transport's bytes.

    @param known: the fallback when the transport hides its protocol.
    @raise TypeError: when it does, without a fallback.
    """
    seam = _seam(transport)
    if seam is not None:
        return cast(IProtocol, getattr(*seam))
    if known is None:
        raise _closed(transport)
    return known


def setReceiver(transport: ITransport, receiver: IProtocol) -> None:
    """Pass all that a transport receives from now on to `receiver`.

    @raise TypeError: for a transport that does not let go of its protocol.
    """
    seam = _seam(transport)
    if seam is None:
        raise _closed(transport)
    setattr(*seam, receiver)


def _closed(transport: ITransport) -> TypeError:
    return TypeError(f"cannot take over the bytes of a {type(transport).__name__}")


def canHalfClose(transport: ITransport) -> bool:
    """Return whether one direction can end while the other flows on. TLS claims to, like TCP."""
    return (
        IHalfCloseableDescriptor.providedBy(transport)
        and not ISSLTransport.providedBy(transport)
        and not hasattr(transport, "wrappedProtocol")
    )


def abort(transport: ITransport | None) -> None:
    """End a connection at once, whatever it still has to send.

    Over TLS no close_notify goes out, which would make the cut look like an end (RFC 8446 section
    6.1).
    """
    if transport is None:
        return
    inner = cast(Any, transport)
    while hasattr(inner, "wrappedProtocol") and hasattr(inner, "transport"):
        silence(inner)
        inner = inner.transport
    getattr(inner, "abortConnection", inner.loseConnection)()


def endInOrder(transport: Any) -> None:
    """End a connection so that its peer sees an end: closing over unread bytes would send a reset.
    Where one direction can end alone, read on until the peer ends too. Where nothing else can be
    done, as without room in epoll, abort it.
    """
    try:
        if canHalfClose(transport):
            transport.loseWriteConnection()
            transport.resumeProducing()
        else:
            transport.loseConnection()
    except OSError:
        abort(transport)


def isSocket(transport: Any) -> bool:
    """Return whether this is a plain socket's transport, which looks its protocol up each time."""
    return isinstance(transport, Connection) and not transport.TLS


def isSecure(transport: Any) -> bool:
    """Return whether Twisted speaks TLS over a transport."""
    return bool(getattr(transport, "TLS", False)) or isinstance(transport, TLSMemoryBIOProtocol)


def reactorOf(transport: Any) -> Any:
    """Return the reactor of a socket's transport, or of the one below TLS."""
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    return transport.reactor


def hasSaidGoodbye(transport: Any) -> bool:
    """Return whether the peer of a TLS connection has sent its close_notify."""
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    return isinstance(handle, SSL.Connection) and bool(
        handle.get_shutdown() & SSL.RECEIVED_SHUTDOWN
    )


def unsentBytes(transport: Any) -> int:
    """Count the bytes that a transport still has to send, with those that wait in the kernel. The
    count goes down while the peer reads.
    """
    count = 0
    while hasattr(transport, "wrappedProtocol") and hasattr(transport, "transport"):
        count += unencryptedBytes(transport)
        transport = transport.transport
    if getattr(transport, "TLS", False):
        count += unencryptedBytes(transport.protocol)
    count += bufferedBytes(transport)
    fileno = getattr(transport, "fileno", None)
    return count if fileno is None else count + queuedBytes(fileno())


def queuedBytes(fd: int) -> int:
    """Count the bytes that were written to a descriptor and wait in the kernel: of
    TCP those not sent yet (SIOCOUTQNSD), of other sockets (SIOCOUTQ) and of pipes (FIONREAD) those
    not read yet. 0 where the kernel does not tell.
    """
    if fd < 0:
        return 0
    for request in _NOT_SENT, termios.TIOCOUTQ, termios.FIONREAD:
        with contextlib.suppress(OSError):
            return int.from_bytes(fcntl.ioctl(fd, request, bytes(4)), sys.byteorder)
    return 0


def tune(transport: ITransport) -> None:
    """Send small messages without delay."""
    # In old versions of Twisted Unix sockets claim to be TCP.
    if ITCPTransport.providedBy(transport) and not IUNIXTransport.providedBy(transport):
        tcp = cast(Any, transport)
        tcp.setTcpNoDelay(True)


def probe(transport: Any, seconds: float | None = KEEP_ALIVE) -> None:
    """Tell the kernel to probe a silent peer, so that one that has gone is noticed.

    @param seconds: the silence after which it begins to ask; None: it does not ask.
    """
    while not hasattr(transport, "getHandle") or hasattr(transport, "wrappedProtocol"):
        transport = getattr(transport, "transport", None)
        if transport is None:
            return
    skt = transport.getHandle()
    if isinstance(skt, socket.socket):
        setKeepAlive(skt, seconds)


def setKeepAlive(skt: socket.socket, seconds: float | None) -> None:
    """Set the probes of a socket. As L{probe}."""
    if skt.family in (socket.AF_INET, socket.AF_INET6):
        try:
            for level, option, value in _keepAliveOptions(seconds):
                skt.setsockopt(level, option, value)
        except OSError:
            pass  # it is closed, or the system has no such option


@lru_cache
def _keepAliveOptions(seconds: float | None) -> tuple[tuple[int, int, int], ...]:
    if seconds is None:
        return ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),)
    idle = min(max(round(seconds), 1), _LONGEST_IDLE)
    values = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # what macOS calls it
        "TCP_KEEPINTVL": max(idle // PROBES, 1),
        "TCP_KEEPCNT": PROBES,
    }
    return (
        *(
            (socket.IPPROTO_TCP, getattr(socket, name), value)
            for name, value in values.items()
            if hasattr(socket, name)
        ),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    )
