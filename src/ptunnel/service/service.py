"""From settings to a running service: bind, serve, drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from ptunnel.config import (
    DIRECT,
    EndpointListen,
    Settings,
    Tunnel,
    UnixListen,
)
from ptunnel.errors import ConfigError, ListenError, reasonOf
from ptunnel.log import Log
from ptunnel.net import epoll
from ptunnel.net.addresses import hostPort
from ptunnel.net.descriptors import PROCESS, raiseLimit
from ptunnel.net.sockets import PortEndpoint
from ptunnel.route.routes import Routes
from ptunnel.service.accepting import guard
from ptunnel.service.inherited import Listening, noSocket
from ptunnel.service.notify import Notifier
from ptunnel.service.proxyheader import HeaderEndpoint, splitHeader
from ptunnel.service.unixport import UnixEndpoint
from ptunnel.session.admission import Total
from ptunnel.session.tunnel import TunnelFactory
from ptunnel.starttls import UPGRADES

# A burst of clients must lose no SYN, which would cost each client a second. The kernel
# caps it at somaxconn.
BACKLOG = 4096
# Seconds for aborted sessions to end. A stop waits no longer.
GRACE = 1.0


class TunnelService(Service):
    """One tunnel's listening port and its sessions."""

    def __init__(
        self,
        reactor: Any,
        tunnel: Tunnel,
        factory: TunnelFactory,
        log: Log,
        descriptor: int | None = None,
    ) -> None:
        """@param descriptor: an inherited socket that listens already."""
        self.factory = factory
        self._reactor = reactor
        self._tunnel = tunnel
        self._endpoint = _serverEndpoint(reactor, tunnel, descriptor, log)
        self._log = log
        self._port: Any = None

    def listen(self) -> Deferred[None]:
        """Bind the port.

        @return: a Deferred; fails with L{ListenError} if the port cannot be bound.
        """
        return self._endpoint.listen(self.factory).addCallbacks(self._bound, self._notBound)

    def announce(self) -> None:
        """Log the address and the target."""
        tunnel, port = self._tunnel, self._port
        assert port is not None
        here = port.getHost()
        at = getattr(here, "host", None)
        where = hostPort(at, here.port) if at else getattr(here, "name", here)
        if isinstance(where, bytes):
            where = f"unix:{where.decode()}"
        via = ", ".join("no proxy" if name == DIRECT else name for name in tunnel.via)
        self._log.notice(tunnel.name, f"listening on {where}, to {tunnel.target} via {via}")

    def stopAccepting(self) -> None:
        """Stop accepting; the workers that share the port continue."""
        self._port.stopReading()

    def fileno(self) -> int:
        """Return the listening descriptor."""
        return cast(int, self._port.fileno())

    def stopListening(self) -> Deferred[Any] | None:
        port, self._port = self._port, None
        if port is None:
            return None
        PROCESS.used -= 1
        return cast("Deferred[Any] | None", port.stopListening())

    def _bound(self, port: IListeningPort) -> None:
        guard(port, self._log, self._tunnel.name, self._reactor)
        self._port = port
        PROCESS.used += 1

    def _notBound(self, reason: Failure) -> None:
        error = reason.value
        if isinstance(error, CannotListenError):
            error = error.socketError
        raise ListenError(
            f"[tunnel {self._tunnel.name}] cannot listen on {self._tunnel.listen}: "
            f"{reasonOf(error)}"
        )


class PtunnelService(MultiService):
    """All tunnels of some settings. Raises ConfigError for an invalid endpoint string.

    `privilegedStartService` binds every port. If one cannot be bound, it raises L{ListenError} and
    leaves none bound. `stopService` returns a Deferred: it closes the ports, lets sessions end
    within the drain timeout, and aborts the rest. The Deferred fires at most L{GRACE} later.

    @ivar stopping: whether a stop has begun.
    @ivar drainTimeout: seconds for sessions to end in a stop; None: no limit.
    @ivar exitCode: the exit code for the process.
    @ivar notifier: tells systemd of its state; None: nobody does.
    """

    exitCode = 0
    notifier: Notifier | None = None

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """@param descriptors: the inherited listening sockets of the tunnels, in a worker."""
        super().__init__()
        self._inherits = bool(descriptors)
        self._reactor = reactor
        self._settings = settings
        self._log = log or Log(settings.logLevel)
        self.drainTimeout = settings.drainTimeout
        self._bound = self.stopping = self._aborted = False
        self._stopped: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        routes = Routes(reactor, settings, self._log)
        most = settings.maxConnections
        total = None if most is None else Total(most, self._log)
        self.tunnels: list[TunnelService] = []
        raiseLimit()
        for tunnel, descriptor in zip_longest(settings.tunnels, descriptors):
            factory = self._factory(tunnel, routes.to(tunnel), total)
            service = TunnelService(reactor, tunnel, factory, self._log, descriptor)
            service.setServiceParent(self)
            self.tunnels.append(service)

    def _factory(
        self, tunnel: Tunnel, endpoint: IStreamClientEndpoint, total: Total | None
    ) -> TunnelFactory:
        return TunnelFactory(
            endpoint,
            name=tunnel.name,
            idleTimeout=tunnel.idleTimeout,
            halfCloseTimeout=tunnel.halfCloseTimeout,
            maxConnections=tunnel.maxConnections or None,
            maxPerClient=tunnel.maxPerClient,
            rateLimit=tunnel.rateLimit,
            total=total,
            allow=tunnel.allow,
            inKernel=tunnel.kernelSplice,
            holdEnd=tunnel.holdEnd,
            prelude=UPGRADES[tunnel.starttls].prelude if tunnel.starttls else None,
            descriptors=PROCESS,
            keepAlive=tunnel.keepAlive,
            log=self._log,
            reactor=cast(IReactorTime, self._reactor),
        )

    def privilegedStartService(self) -> None:
        failures: list[Failure] = []
        for tunnel in self.tunnels:
            tunnel.listen().addErrback(failures.append)
            if failures:
                for bound in self.tunnels:
                    bound.stopListening()
                failures[0].raiseException()
        self._bound = True
        super().privilegedStartService()

    def startService(self) -> None:
        if not self._bound:
            self.privilegedStartService()
        super().startService()
        if self._inherits:
            return  # the parent, which bound the ports, has logged all this
        for warning in self._settings.warnings:
            self._log.warning("", warning)
        self.announce()

    def announce(self) -> None:
        """Log the address and target of each tunnel, and tell that the service is ready."""
        for tunnel in self.tunnels:
            tunnel.announce()
        if self.notifier is not None:
            self.notifier.ready(self.figures)

    def figures(self) -> str:
        """Return the present state in a few words."""
        listening = f"{_count(len(self.tunnels), 'tunnel')} listening"
        return f"{'stopping' if self.stopping else listening}, {self.carried()}"

    def carried(self) -> str:
        """Return in words how many sessions there are now."""
        return _count(self._waitedFor(), "session")

    def stopService(self) -> Deferred[None]:
        self._bound = False
        self.stopping = True
        super().stopService()
        closing = [tunnel.stopListening() for tunnel in self.tunnels]
        if self._aborted:
            self._abortSessions()
        draining = [tunnel.factory.drain() for tunnel in self.tunnels]
        stopped = self._stopped = Deferred()
        limit = self.drainTimeout
        if self.notifier is not None:
            self.notifier.stopping(limit)
        if waiting := self._waitedFor():
            within = "" if limit is None else f", for at most {limit:g} s"
            self._log.notice("", f"stopping: waiting for {_count(waiting, 'session')}{within}")
        if self._aborted:
            self._within(GRACE, self._giveUp)
        elif limit is not None:
            self._within(limit, self.abort)
        ends = [d for d in [*closing, *draining] if d is not None]
        DeferredList(ends).addCallback(lambda _: self._finished())
        return stopped

    def abort(self) -> None:
        """End all sessions at once, and those of clients that still come before the stop."""
        self._aborted = True
        self._abortSessions()
        self._within(GRACE, self._giveUp)

    def _abortSessions(self) -> None:
        left = sum(len(tunnel.factory.sessions) for tunnel in self.tunnels)
        if left:
            self._log.warning("", f"aborting what has not ended: {_count(left, 'session')}")
        for tunnel in self.tunnels:
            tunnel.factory.abort()

    def _waitedFor(self) -> int:
        return sum(tunnel.factory.served for tunnel in self.tunnels)

    def _within(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` unless the stop ends within `seconds`."""
        _cancel(self._timer)
        if self._stopped is not None:
            self._timer = self._reactor.callLater(seconds, then)

    def _giveUp(self) -> None:
        left = sum(len(tunnel.factory.sessions) for tunnel in self.tunnels)
        self._log.error(
            "", f"{_count(left, 'session')} did not end when aborted: stopping all the same"
        )
        self._finished()

    def _finished(self) -> None:
        _cancel(self._timer)
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.callback(None)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()


def _serverEndpoint(
    reactor: Any, tunnel: Tunnel, descriptor: int | None, log: Log
) -> IStreamServerEndpoint:
    isHeaded, endpoint = _plainEndpoint(reactor, tunnel, descriptor)
    trusted = tunnel.acceptProxy
    if not (isHeaded or trusted):
        return endpoint
    return HeaderEndpoint(endpoint, log, tunnel.name, reactor, trusted, PROCESS)


def _plainEndpoint(
    reactor: Any, tunnel: Tunnel, descriptor: int | None
) -> tuple[bool, IStreamServerEndpoint]:
    """@return: whether the text asks for PROXY headers, and the endpoint without them."""
    listen = tunnel.listen
    if isinstance(listen, EndpointListen):
        isHeaded, description = splitHeader(listen.description)
        try:
            listening = Listening(reactor, description)
            return isHeaded, serverFromString(listening, description)
        except Exception as e:  # from any parser, perhaps one of another package
            raise ConfigError(
                f'{tunnel.place} listen: "{listen.description}": {_misread(listen, e)}'
            ) from None
    if isinstance(listen, UnixListen):
        return False, UnixEndpoint(reactor, listen.path, listen.mode, BACKLOG)
    if epoll.applies(reactor):
        return False, PortEndpoint(reactor, listen.port, BACKLOG, listen.host, descriptor)
    kind = TCP6ServerEndpoint if ":" in listen.host else TCP4ServerEndpoint
    return False, kind(reactor, listen.port, BACKLOG, listen.host)


def _misread(listen: EndpointListen, error: Exception) -> str:
    """Return the error of an endpoint string in words; Twisted's parsers raise Python's own."""
    if "systemd" in listen.description and isinstance(error, LookupError):
        return noSocket()
    if isinstance(error, AttributeError) and "'AF_" in str(error):
        return "domain must be INET, INET6 or UNIX"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {reasonOf(error)}"
    if isinstance(error, TypeError):
        return "an argument is missing, or one that this type of endpoint does not take"
    if "invalid literal for int()" in str(error):
        return "something that must be a number is none"
    return reasonOf(error)
