"""The attributes of Twisted's objects that have no public name, read and written here only.

Each function says what it does where a version of Twisted has renamed its attribute. The tests
fail then. Subclasses of Twisted's classes, in net.sockets, service.unixport and cli.stdio, also
use attributes that they inherit; the same tests hold their names.
"""

from __future__ import annotations

from typing import Any

# Where client endpoints keep their host and port: a ConnectEndpoint of ours, TCP4ClientEndpoint
# and TCP6ClientEndpoint, HostnameEndpoint.
_HOSTS = (("host", "port"), ("_host", "_port"), ("_hostText", "_port"))
# Where endpoints over others keep those: TlsEndpoint of ours, what wrapClientTLS makes.
_INNER = ("_endpoint", "_wrappedEndpoint")


# The buffers of a socket's transport and of TLS


def canTakeUnsent(transport: Any) -> bool:
    """True if L{takeUnsent} finds all that a socket's transport holds."""
    return hasattr(transport, "_tempDataBuffer") and hasattr(transport, "_tempDataLen")


def takeUnsent(transport: Any) -> bytes:
    """Take from a socket's transport what it holds and has still to send.

    @raise AttributeError: where L{canTakeUnsent} is False, before anything is taken.
    """
    if not transport._tempDataLen and not transport.dataBuffer:
        return b""
    held = b"".join((transport.dataBuffer[transport.offset :], *transport._tempDataBuffer))
    transport.dataBuffer, transport.offset = b"", 0
    transport._tempDataBuffer.clear()
    transport._tempDataLen = 0
    return held


def bufferedBytes(transport: Any) -> int:
    """The bytes that a transport, or the writer of standard output, has still to send.

    After a rename: those of the larger, public buffer.
    """
    transport = getattr(transport, "_writer", None) or transport
    count = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    count += getattr(transport, "_tempDataLen", 0)
    return count


def canTakeUnencrypted(tls: Any) -> bool:
    """True if nobody produces for TLS and L{takeUnencrypted} finds all that it holds.

    After a rename: False, so TLS is spliced through Twisted.
    """
    return hasattr(tls, "_appSendBuffer") and getattr(tls, "_producer", tls) is None


def takeUnencrypted(tls: Any) -> bytes:
    """Take from TLS what it holds and has still to encrypt.

    @raise AttributeError: after a rename, before anything is taken.
    """
    held, tls._appSendBuffer = tls._appSendBuffer, []
    return b"".join(held)


def unencryptedBytes(tls: Any) -> int:
    """The bytes that TLS has still to encrypt; 0 for another transport and after a rename."""
    return sum(map(len, getattr(tls, "_appSendBuffer", None) or ()))


def silence(tls: Any) -> None:
    """Let TLS deliver and send nothing any more, as its own abortConnection does.

    After a rename it only sends nothing, since the connection below it is aborted next.
    """
    tls._aborted = tls.disconnecting = True


# Ports


def keepOpen(port: Any) -> None:
    """Let a port close its descriptor only, and not shut its socket down, which others may share.

    After a rename other processes that share it accept no more.
    """
    port._shouldShutdown = False


# Endpoints


def hostAndPortOf(endpoint: Any) -> tuple[str | bytes | None, int | None]:
    """Where a client endpoint over TCP leads; twice None for another one and after a rename."""
    for hostName, portName in _HOSTS:
        host, port = getattr(endpoint, hostName, None), getattr(endpoint, portName, None)
        if isinstance(host, (str, bytes)) and isinstance(port, int):
            return host, port
    return None, None


def pathOf(endpoint: Any) -> str | None:
    """The path of a client endpoint over a Unix socket; None otherwise and after a rename."""
    path = getattr(endpoint, "_path", None)
    return path if isinstance(path, str) else None


def innerOf(endpoint: Any) -> Any:
    """The endpoint that another one wraps; None where there is none and after a rename."""
    return next((found for name in _INNER if (found := getattr(endpoint, name, None))), None)


# The reactor, its descriptors and its log


def isThreadedResolver(resolver: Any) -> bool:
    """True for the resolver that a reactor has by default, which asks the system in threads.

    After a rename: False, so it is asked as a resolver that a program installed.
    """
    try:
        from twisted.internet._resolver import GAIResolver
    except ImportError:
        return False
    return isinstance(resolver, GAIResolver)


def reserveDescriptor() -> None:
    """Keep a descriptor for accepting, and refusing, a connection when there are none left.

    After a rename there is none, and a connection waits until a descriptor is free.
    """
    from twisted.internet import tcp

    reserved = getattr(tcp, "_reservedFD", None)
    if reserved is not None:
        reserved.reserve()


def isLogUnheard(beginner: Any) -> bool:
    """True until a program has begun to log, while Twisted shows nothing below critical.

    After a rename: True, since a line that is shown twice is better than none.
    """
    return getattr(beginner, "_temporaryObserver", beginner) is not None
