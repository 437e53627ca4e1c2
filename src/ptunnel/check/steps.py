"""The endpoints of one way to a target, each wrapped in one that notes its time and result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.check.report import Step, bug
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.connect.handshake import Handshake
from ptunnel.errors import TunnelError
from ptunnel.net.addresses import hostPort
from ptunnel.net.names import lookUp
from ptunnel.net.transports import abort, canHalfClose
from ptunnel.text import dotted
from ptunnel.tls import Peer, peerOf

# How many characters of a greeting are shown.
MAX_BANNER = 72
# After this many bytes without an end of line, the greeting is taken as complete.
_ENOUGH = 512
# How many of a certificate's names are shown; there are certificates with hundreds.
_SHOWN = 2


class Bug(TunnelError):
    """An exception in a step that should not have been raised there.

    It passes the endpoints above as it is; of others they would say that the hop is not reached.

    @ivar fault: the fault for the report.
    """

    def __init__(self, error: BaseException, step: Step) -> None:
        self.fault = bug(error, f"{step.kind} {step.subject}")
        super().__init__(self.fault.message)


def asFinding(reason: Failure, step: Step) -> Failure:
    """An errback: return a known failure unchanged, and a L{Bug} for any other exception."""
    if reason.check(ConnectError, ConnectingCancelledError, NoProtocol, OSError):
        return reason
    return Failure(Bug(cast(BaseException, reason.value), step))


@implementer(IStreamClientEndpoint)
class StepEndpoint:
    """One step: an endpoint that wraps another and notes its result.

    @ivar step: its entry in the report.
    @ivar asked: the handshake of the first CONNECT that was sent over it; None: it carried none.
    """

    asked: Handshake | None = None

    def __init__(
        self,
        kind: str,
        host: str,
        port: int,
        endpoint: IStreamClientEndpoint,
        stood: Callable[[Step], None],
    ) -> None:
        """
        @param kind: "tcp", "unix", "tls", "starttls", "connect" or "socks".
        @param stood: called when it succeeds for the first time.
        """
        self.step = Step(kind, hostPort(host, port) if port else host)
        self.begun = False
        self._endpoint = endpoint
        self._stood = stood
        self._carried: Any = None

    @property
    def answering(self) -> Handshake | None:
        """The handshake of the newest CONNECT that was sent over it."""
        handshake = getattr(self._carried, "handshake", None)
        return handshake if isinstance(handshake, Handshake) else None

    @property
    def carriesSocks(self) -> Any:
        """The attempt of the SOCKS hop behind it that has connected over it; None: there is none,
        or it has not yet.
        """
        return self._carried if hasattr(self._carried, "late") else None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.begun = True
        # The protocol of a ConnectEndpoint has the handshake; after a 407 there are several.
        self._carried = protocolFactory
        self.asked = self.asked or self.answering
        connecting = maybeDeferred(self._endpoint.connect, protocolFactory)
        return connecting.addCallback(self._connected).addErrback(asFinding, self.step)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        step = self.step
        if not step.ok:
            transport: Any = protocol.transport  # type: ignore[attr-defined]
            try:
                self._describe(transport)
            except Exception:
                abort(transport)
                raise
            step.ok = True
            self._stood(step)
        return protocol

    def _describe(self, transport: Any) -> None:
        if self.step.kind == "tcp":
            self._describeAddress(transport.getPeer())
        elif self.step.kind == "unix":
            self.step.detail = "connected"
        elif self.step.kind not in ("connect", "socks"):
            self._describePeer(peerOf(transport))

    def _describeAddress(self, address: Any) -> None:
        self.step.subject = hostPort(address.host, address.port)
        self.step.detail = "connected"
        self.step.facts["address"] = self.step.subject

    def _describePeer(self, peer: Peer) -> None:
        until = peer.notAfter and f"{peer.notAfter:%Y-%m-%d}"
        names = ", ".join(peer.names[:_SHOWN])
        if len(peer.names) > _SHOWN:
            names += f" and {len(peer.names) - _SHOWN} more"
        parts = [peer.version, names, until and f"valid until {until}"]
        self.step.detail = ", ".join(part for part in parts if part)
        self.step.facts |= {
            "version": peer.version,
            "cipher": peer.cipher,
            "names": list(peer.names),
            "validUntil": peer.notAfter and peer.notAfter.isoformat(),
        }

    def answered(self, below: StepEndpoint) -> list[datetime]:
        """Note the answer of the proxy, if this is CONNECT or SOCKS.

        @param below: the step before it.
        @return: the times of the proxy's clock in its answers.
        """
        first, last = below.asked, below.answering
        status = last.heads.status if last is not None else 0
        if self.step.kind == "socks":
            self._noteSocks(below.carriesSocks)
        if first is None or last is None or not status:
            return []
        login = self._endpoint.login if isinstance(self._endpoint, ConnectEndpoint) else None
        known = login.known if login is not None and status != 407 else None
        schemes = [scheme for handshake in (first, last) for scheme in handshake.offers]
        detail = str(status)
        if known is not None:
            detail += f", {known.title}"
        elif schemes:
            detail += f", it offers {', '.join(dict.fromkeys(schemes))}"
        self.step.detail = detail
        self.step.facts |= {
            "status": status,
            "offered": list(dict.fromkeys(schemes)),
            "scheme": known.title if known is not None else None,
        }
        return [date for date in (first.heads.date, last.heads.date) if date is not None]

    def _noteSocks(self, attempt: Any) -> None:
        reply = None if attempt is None else attempt.handshake.reply
        if reply is None:
            return
        scheme = "user and password" if attempt.handshake.asksLogin else None
        detail = "granted" if reply == 0 else f"reply {reply}"
        self.step.detail = f"{detail}, {scheme}" if scheme else detail
        self.step.facts |= {"reply": reply, "scheme": scheme}


def isName(host: str) -> bool:
    """Return whether a host must be resolved."""
    return not isIPAddress(host) and not isIPv6Address(host)


@implementer(IStreamClientEndpoint)
class ResolvingStep:
    """The step before TCP to a name: looks it up, and notes the addresses.

    `connect` fails with DNSLookupError where there is none.
    """

    def __init__(
        self,
        host: str,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        stood: Callable[[Step], None],
    ) -> None:
        self.step = Step("resolve", host)
        self.begun = False
        self._reactor = reactor
        self._endpoint = endpoint
        self._stood = stood

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.begun = True
        looking: Deferred[Any] = succeed(None) if self.step.ok else maybeDeferred(self._lookUp)
        looking.addErrback(asFinding, self.step)
        return looking.addCallback(lambda _: self._endpoint.connect(protocolFactory))

    def _lookUp(self) -> Deferred[None]:
        return lookUp(self._reactor, self.step.subject).addCallbacks(self._resolved, self._failed)

    def _failed(self, reason: Failure) -> Failure:
        if reason.check(DNSLookupError):
            self.step.detail = "no such name"
        return reason

    def _resolved(self, addresses: Sequence[str]) -> None:
        step = self.step
        step.ok = True
        step.detail = ", ".join(addresses)
        step.facts["addresses"] = list(addresses)
        self._stood(step)


class Greeting(Protocol):
    """Reads the first line of the target, and sends nothing.

    @ivar said: fires with the first line, or the bytes so far at an end, which may be b"".
    @ivar ending: the reason for which the connection was lost; None while it is open.
    """

    def __init__(self) -> None:
        self.said: Deferred[bytes] = Deferred()
        self.ending: Failure | None = None
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if b"\n" in self.heard or len(self.heard) >= _ENOUGH:
            self.enough()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ending = reason
        self.enough()

    @property
    def mayEnd(self) -> bool:
        """True if the direction to the target can end alone."""
        return self.ending is None and canHalfClose(cast(Any, self.transport))

    def end(self) -> Deferred[bytes]:
        """End the direction to the target. @return: fires with its bytes after that, as `said`."""
        self.said, self.heard = Deferred(), b""
        cast(Any, self.transport).loseWriteConnection()
        return self.said

    @property
    def ended(self) -> bool:
        """True if the connection ended in order."""
        return self.ending is not None and bool(self.ending.check(ConnectionDone))

    def enough(self) -> None:
        """Stop waiting for more bytes."""
        if not self.said.called:
            self.said.callback(self.heard)

    def close(self) -> None:
        abort(self.transport)

    @property
    def brokenBy(self) -> BaseException | None:
        """The error by which the connection ended, such as one of TLS; None for a plain end."""
        if self.ending is None or self.ending.check(ConnectionDone, ConnectionLost):
            return None
        return self.ending.value


def shown(banner: bytes) -> str:
    """Return the first line of a greeting, printable and shortened."""
    line = banner.strip().partition(b"\n")[0].rstrip()
    text = dotted(line)
    return text if len(text) <= MAX_BANNER else f"{text[: MAX_BANNER - 3]}..."
