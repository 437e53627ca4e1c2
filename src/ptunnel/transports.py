"""What Twisted's transports do not say of themselves. Used by the endpoints, splice and tunnel."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IProtocol,
    ISSLTransport,
    ITCPTransport,
    ITransport,
    IUNIXTransport,
)

# Twisted's own seam: startTLS changes a transport's receiver by the same attributes. A transport
# that wraps another, as TLS does, calls it wrappedProtocol.
_SEAMS = ("wrappedProtocol", "protocol")


def _seam(transport: Any) -> tuple[Any, str] | None:
    """The object and its attribute that hold a transport's receiver."""
    # startTLS puts its wrapper between a transport and its protocol.
    holder = transport.protocol if getattr(transport, "TLS", False) else transport
    for seam in _SEAMS:
        if getattr(holder, seam, None) is not None:
            return holder, seam
    return None


def receiverOf(transport: ITransport, known: IProtocol | None = None) -> IProtocol:
    """The protocol that gets a transport's bytes.

    @param known: who does where that cannot be seen.
    @raise TypeError: where it cannot, and is not known.
    """
    seam = _seam(transport)
    if seam is not None:
        return cast(IProtocol, getattr(*seam))
    if known is None:
        raise _closed(transport)
    return known


def setReceiver(transport: ITransport, receiver: IProtocol) -> None:
    """Let `receiver` get all that a transport receives from now on.

    @raise TypeError: for a transport that does not let go of its protocol.
    """
    seam = _seam(transport)
    if seam is None:
        raise _closed(transport)
    setattr(*seam, receiver)


def _closed(transport: ITransport) -> TypeError:
    return TypeError(f"cannot take over the bytes of a {type(transport).__name__}")


def canHalfClose(transport: ITransport) -> bool:
    """Whether one direction can end while the other flows on. TLS claims what TCP provides."""
    return (
        IHalfCloseableDescriptor.providedBy(transport)
        and not ISSLTransport.providedBy(transport)
        and not hasattr(transport, "wrappedProtocol")
    )


def abort(transport: ITransport | None) -> None:
    """End a connection at once, whatever it still has to send."""
    if transport is not None:
        getattr(transport, "abortConnection", transport.loseConnection)()


def tune(transport: ITransport) -> None:
    """No delay for small messages, and probes that find out a peer that has gone."""
    # In old versions of Twisted Unix sockets claim to be TCP.
    if ITCPTransport.providedBy(transport) and not IUNIXTransport.providedBy(transport):
        tcp = cast(Any, transport)
        tcp.setTcpNoDelay(True)
        tcp.setTcpKeepAlive(True)
