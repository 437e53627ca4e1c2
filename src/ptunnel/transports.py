"""What Twisted's transports do not say of themselves. Used by endpoint and splice."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IProtocol,
    ISSLTransport,
    ITCPTransport,
    ITransport,
)

# Twisted's own seam: startTLS changes a transport's receiver by the same attributes. A transport
# that wraps another, as TLS does, calls it wrappedProtocol.
_SEAMS = ("wrappedProtocol", "protocol")


def _seam(transport: Any) -> tuple[Any, str] | None:
    """The object and its attribute that hold a transport's receiver."""
    # startTLS puts its wrapper between a transport and its protocol.
    holder = transport.protocol if getattr(transport, "TLS", False) else transport
    return next(((holder, seam) for seam in _SEAMS if hasattr(holder, seam)), None)


def receiverOf(transport: ITransport) -> IProtocol | None:
    """The protocol that gets a transport's bytes, or None where that cannot be seen."""
    seam = _seam(transport)
    return None if seam is None else cast(IProtocol, getattr(*seam))


def setReceiver(transport: ITransport, receiver: IProtocol) -> None:
    """Let `receiver` get all that a transport receives from now on.

    @raise TypeError: for a transport that does not let go of its protocol.
    """
    seam = _seam(transport)
    if seam is None:
        raise TypeError(f"cannot take over the bytes of a {type(transport).__name__}")
    setattr(*seam, receiver)


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
    if ITCPTransport.providedBy(transport):
        tcp = cast(Any, transport)
        tcp.setTcpNoDelay(True)
        tcp.setTcpKeepAlive(True)
