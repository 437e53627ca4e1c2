"""The tunnels of some settings: their ports bound, and changed to other settings."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

from twisted.application.service import MultiService
from twisted.python.failure import Failure

from ptunnel.config import DIRECT, Door, Listen, Port, Settings, TcpListen, Tunnel
from ptunnel.errors import ListenError, PtunnelError
from ptunnel.log import Log
from ptunnel.net.descriptors import raiseLimit
from ptunnel.ports.handed import Handed, HandedSocket, keyOf
from ptunnel.ports.tunnel import TunnelService
from ptunnel.route.routes import Routes
from ptunnel.service.changes import Changes, changesOf, isSame, portOf, possible
from ptunnel.service.factories import factoryFor
from ptunnel.session.admission import Total
from ptunnel.session.tunnel import TunnelFactory

# Seconds in which a port that a reload closed may still be open, in a worker or for a turn of the
# reactor.
CLOSING = 5.0


class StillClosing(ListenError):
    """A port that cannot be bound, perhaps since an earlier reload's closing is not over."""


class Serving(MultiService):
    """All tunnels of some settings. Raises ConfigError for an invalid endpoint string.

    @ivar isWorker: whether it serves in a worker, whose parent has bound the ports.
    @ivar handed: sockets that another process has handed over.
    @ivar tunnels: the ports, in the order of the settings.
    @ivar drainDelay: seconds for which the ports stay open in a stop.
    @ivar drainTimeout: seconds for sessions to end after that; None: no limit.
    """

    isWorker = _bound = False

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log | None = None,
        handed: Handed | None = None,
    ) -> None:
        super().__init__()
        self._reactor, self._settings = reactor, settings
        self._log = log or Log(settings.logLevel)
        self.drainDelay, self.drainTimeout = settings.drainDelay or 0.0, settings.drainTimeout
        begin = os.getpid() if self.isWorker else 0
        self._routes = Routes(reactor, settings, self._log, self._listens, begin)
        self._former: list[TunnelFactory] = []  # their sessions go on
        self._closed: dict[tuple[Listen | str, ...], float] = {}  # ports, and until when
        _, self._total = _limited(None, settings.maxConnections, self._log)
        self.tunnels: list[TunnelService] = []
        self.handed = handed or Handed()
        for tunnel in settings.ports:
            service = TunnelService(reactor, tunnel, self._log, self.handed.take(keyOf(tunnel)))
            self._serve(service, tunnel)
            self.tunnels.append(service)

    def _listens(self) -> Iterable[Listen]:
        """Return where clients are accepted, and the status server."""
        return chain((each.listens for each in self.tunnels), filter(None, [self._settings.status]))

    def factories(self) -> list[TunnelFactory]:
        """Return what serves clients, and what has served those that are still there."""
        return [*(service.factory for service in self.tunnels), *self._former]

    def privilegedStartService(self) -> None:
        _bind(self.tunnels)
        self._bound = True
        super().privilegedStartService()

    def startService(self) -> None:
        if not self._bound:
            self.privilegedStartService()
        super().startService()
        self._routes.known.start()
        if self.isWorker:
            return  # the parent, which bound the ports, has logged all this
        for warning in self._settings.warnings:
            self._log.warning("", warning)
        self.announce()

    def announce(self) -> None:
        """Log the address and target of each tunnel."""
        for tunnel in self.tunnels:
            tunnel.announce()

    def reload(self, settings: Settings, descriptors: Sequence[int] = ()) -> Changes:
        """Change to other settings while clients are served.

        New ports are bound first, those that stay are not touched, and sessions go on as they
        began. Passwords and certificates are read again; proxies keep their health and login.

        @param descriptors: the listening sockets of the new ports, in a worker.
        @raise StillClosing: a new port is one that was closed a moment ago; try again soon.
        @raise PtunnelError: ConfigError, ListenError, or that it does not run; nothing has changed.
        """
        if not self._bound:
            raise PtunnelError("the service is not running, or stopping")
        before, changes = self._settings, changesOf(self._settings, settings)
        drained = {each.tunnel.name for each in self.tunnels if each.factory.admission.drained}
        after = possible(before, settings)
        ports = {portOf(service.tunnel): service for service in self.tunnels}
        kept = [ports.pop(portOf(tunnel), None) for tunnel in after.ports]
        _check(kept, after.ports)
        wanted = [tunnel for tunnel, port in zip(after.ports, kept, strict=True) if not port]
        try:
            opened = _open(self._reactor, self._log, wanted, descriptors)
        except ListenError as e:
            raise _explained(e, wanted, before, self._closing()) from None
        self._settings = after  # nothing from here on fails
        self._routes.renew(after)
        self._forget(after)
        isLimited, self._total = _limited(self._total, after.maxConnections, self._log)
        fresh = iter(opened)
        self.tunnels = [service or next(fresh) for service in kept]
        isMoved = bool(opened or ports)
        for service, tunnel in zip(self.tunnels, after.ports, strict=True):
            isNew = service in opened or isLimited or _isOutdated(tunnel, isMoved)
            if isNew or not isSame(service.tunnel, before, tunnel, after):
                self._serve(service, tunnel)
            service.factory.admission.drained = tunnel.name in drained
        for service in ports.values():
            self._close(service)
        self._adjust(before, after, changes, opened)
        return changes

    def _forget(self, after: Settings) -> None:
        """Forget former sessions, ports that are closed by now, and counters of what is gone."""
        # One that comes back counts on what its former sessions do.
        going = (factory.name for factory in self.factories() if factory.sessions)
        names = *(tunnel.name for tunnel in after.ports), *going
        self._log.ledger.keepOnly(names, [*self._routes.known.names(), DIRECT])
        self._former = [factory for factory in self._former if factory.sessions]
        self._closed = self._closing()

    def _closing(self) -> dict[tuple[Listen | str, ...], float]:
        """Return the ports that may still be closing, and until when."""
        now, closed = self._reactor.seconds(), self._closed.items()
        return {port: until for port, until in closed if until > now}

    def _serve(self, service: TunnelService, tunnel: Tunnel | Door) -> None:
        """Let new clients of a port be served by some settings. Sessions by former ones go on."""
        factory = factoryFor(self._reactor, tunnel, self._routes, self._total, self._log)
        if service.parent is None:  # the port is new
            service.setServiceParent(self)
        else:
            factory.follow(service.factory)
            self._former.append(service.factory)
        service.serve(tunnel, factory)

    def _close(self, service: TunnelService) -> None:
        service.acceptQueued()
        service.stopListening()
        self._closed[portOf(service.tunnel)] = self._reactor.seconds() + CLOSING
        service.disownServiceParent()
        self._former.append(service.factory)

    def _adjust(
        self, before: Settings, after: Settings, changes: Changes, opened: list[TunnelService]
    ) -> None:
        """Apply the keys of the whole service, and say what is new."""
        self.drainDelay, self.drainTimeout = after.drainDelay or 0.0, after.drainTimeout
        if after.logLevel != before.logLevel:
            self._log.setLevel(after.logLevel)
        if self.isWorker:
            return
        for warning in [*map(_needsRestart, changes.restart), *after.warnings]:
            if warning not in before.warnings:
                self._log.warning("", warning)
        for service in opened:
            service.announce()


def _limited(total: Total | None, most: int | None, log: Log) -> tuple[bool, Total | None]:
    """Change the limit of all tunnels. @return: whether it is a new one that no session knows."""
    if total is None:
        return (False, None) if most is None else (True, Total(most, log))
    total.limit(most)
    return False, total


def _isOutdated(port: Port, isMoved: bool) -> bool:
    """Return whether the factory of unchanged settings is to be made anew: that of a door remembers
    where we listen, which is no target, and its password, which may be another one now.
    """
    return isinstance(port, Door) and (isMoved or port.password is not None)


def _needsRestart(key: str) -> str:
    return f"{key} cannot change while the service runs; restart it for that"


def _open(
    reactor: Any, log: Log, tunnels: Sequence[Tunnel | Door], descriptors: Sequence[int]
) -> list[TunnelService]:
    """Bind further ports: all, or none."""
    pairs = zip_longest(tunnels, descriptors)
    opened = [
        TunnelService(reactor, tunnel, log, None if fd is None else HandedSocket(fd))
        for tunnel, fd in pairs
    ]
    _bind(opened)
    return opened


def _bind(services: Sequence[TunnelService]) -> None:
    """Bind all ports, or none. @raise ListenError: for the first that cannot be bound."""
    raiseLimit()
    failures: list[Failure] = []
    for service in services:
        service.listen().addErrback(failures.append)
        if failures:
            for bound in services:
                bound.stopListening()
            failures[0].raiseException()


def _check(services: Sequence[TunnelService | None], ports: Sequence[Tunnel | Door]) -> None:
    """@raise ConfigError: for a door that may not be where a port is bound."""
    for service, port in zip(services, ports, strict=True):
        if service is not None:
            service.checkFor(port)


def _explained(
    error: ListenError,
    tunnels: Sequence[Port],
    settings: Settings,
    closing: Container[tuple[Listen | str, ...]],
) -> ListenError:
    """Return an error with what we have to do with it: the settings so far, or a closing port."""
    failed = [t for t in tunnels if str(error).startswith(f"[{t.kind} {t.name}] ")]
    if not failed or "in use" not in str(error):
        return error
    if portOf(failed[0]) in closing:
        return StillClosing(str(error))
    return ListenError(f"{error}{heldBy(settings, failed[0].listen)}")


def heldBy(settings: Settings, wanted: Listen) -> str:
    """Return the hint for an address that one of our own ports overlaps; or ""."""
    own = [(f"[{port.kind} {port.name}]", port.listen) for port in settings.ports]
    if settings.status is not None:
        own.append(("[ptunnel] status", settings.status))
    for place, held in own:
        if not isinstance(wanted, TcpListen) or not isinstance(held, TcpListen):
            continue
        if held.port == wanted.port:
            return f" (by {place}, on {held}: only a restart can exchange them)"
    return ""
