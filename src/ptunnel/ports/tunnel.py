"""One tunnel's port: its endpoint, bound, announced, closed."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, ServerFactory
from twisted.python.failure import Failure

from ptunnel.config import (
    DIRECT,
    Door,
    EndpointListen,
    Listen,
    Port,
    TcpListen,
    Tunnel,
    UnixListen,
    checkDoor,
)
from ptunnel.errors import ConfigError, ListenError, reasonOf
from ptunnel.log import Log
from ptunnel.net import epoll
from ptunnel.net.descriptors import PROCESS
from ptunnel.net.sockets import PortEndpoint
from ptunnel.ports.accepting import guard
from ptunnel.ports.handed import HandedSocket, descriptorsOf, give
from ptunnel.ports.inherited import Listening, isFromSystemd, noSocket
from ptunnel.ports.proxyheader import headed, splitHeader
from ptunnel.ports.unixport import UnixEndpoint
from ptunnel.session.tunnel import TunnelFactory

# A burst of clients must lose no SYN, which would cost each client a second. The kernel
# caps it at somaxconn.
BACKLOG = 4096


class _Entrance(ServerFactory):
    """What a port listens with, for as long as it is bound: the present factory serves."""

    noisy = False

    def logPrefix(self) -> str:
        """The name that Twisted logs with a port."""
        return TunnelFactory.__name__

    def serveBy(self, factory: ServerFactory | Factory) -> None:
        # The method itself: a client costs no further call.
        self.buildProtocol = factory.buildProtocol  # type: ignore[method-assign]


class TunnelService(Service):
    """One tunnel's listening port and its sessions. L{serve} comes before L{listen}, or in the same
    turn of the reactor.

    @ivar factory: makes the sessions of new clients.
    @ivar tunnel: its settings.
    @ivar accepts: whether this process accepts clients.
    """

    factory: TunnelFactory

    def __init__(
        self,
        reactor: Any,
        tunnel: Tunnel | Door,
        log: Log,
        handed: HandedSocket | None = None,
    ) -> None:
        """
        @param handed: a socket that listens already.
        @raise ConfigError: for an invalid endpoint string.
        """
        self.tunnel, self._reactor, self._log = tunnel, reactor, log
        self._entrance = _Entrance()
        self._endpoint = serverEndpoint(reactor, tunnel, handed)
        self.accepts, self._isGiven = True, False
        self._port: Any = None

    def listen(self) -> Deferred[None]:
        """Bind the port.

        @return: a Deferred; fails with L{ListenError} if the port cannot be bound.
        """
        return self._endpoint.listen(self._entrance).addCallbacks(self._bound, self._notBound)

    def checkFor(self, tunnel: Tunnel | Door) -> None:
        """@raise ConfigError: for a door that others would reach at this port, which is bound."""
        if isinstance(tunnel, Door):
            checkDoor(replace(tunnel, listen=self.listens))

    def serve(self, tunnel: Tunnel | Door, factory: TunnelFactory) -> None:
        """Serve new clients of the port with a factory, by the settings of a tunnel that has the
        same port.
        """
        old, new = self.tunnel.listen, tunnel.listen
        if isinstance(old, UnixListen) and isinstance(new, UnixListen) and old.mode != new.mode:
            try:
                os.chmod(new.path, new.mode)
            except OSError as e:
                self._log.error(tunnel.name, f"cannot change the mode of {new}: {reasonOf(e)}")
        self.tunnel, self.factory = tunnel, factory
        trusted = tunnel.acceptProxy
        isHeaded = isinstance(new, EndpointListen) and splitHeader(new.description)[0]
        if isHeaded or trusted:
            more = self._log, tunnel.name, self._reactor, trusted, PROCESS
            self._entrance.serveBy(headed(factory, *more))
        else:
            self._entrance.serveBy(factory)

    def acceptQueued(self) -> None:
        """Accept the clients whose connection stands already, before the port is closed. (The
        kernel would reset them.)
        """
        port = self._port
        if self.accepts and isinstance(port, tcp.Port):
            port.numberAccepts = BACKLOG
            port.doRead()

    @property
    def isKept(self) -> bool:
        """Whether the socket stays open elsewhere: at another process, which it was given to, or
        at systemd.
        """
        listen = self.tunnel.listen
        isLent = isinstance(listen, EndpointListen) and isFromSystemd(listen.description)
        return isLent or self._isGiven

    def descriptors(self) -> list[int]:
        """Return those that another process needs to go on with the port; none if it cannot."""
        return list(descriptorsOf(self._port))

    def give(self) -> None:
        """Leave the socket to another process, which has its descriptors; it is closed next."""
        self._isGiven = True
        give(self._port)

    @property
    def isBound(self) -> bool:
        return self._port is not None

    def announce(self) -> None:
        """Log the address, and where it leads to."""
        tunnel = self.tunnel
        via = ", ".join("no proxy" if name == DIRECT else name for name in tunnel.via)
        if tunnel.balance != "first" and len(tunnel.via) > 1:
            via += f" (balance: {tunnel.balance})"
        what = tunnel.speaks if isinstance(tunnel, Door) else f"to {tunnel.target}"
        self._log.notice(tunnel.name, f"listening on {self.where}, {what} via {via}")

    @property
    def listens(self) -> Listen:
        """Where it listens, with the port that the system chose."""
        here: Any = None if self._port is None else self._port.getHost()
        host = getattr(here, "host", None)
        return self.tunnel.listen if not host else TcpListen(host, here.port)

    @property
    def where(self) -> str:
        """The address of the port; as the settings have it while it is not bound."""
        listens = self.listens
        if self._port is None or isinstance(listens, TcpListen):
            return str(listens)
        here = self._port.getHost()
        where = getattr(here, "name", here)
        return f"unix:{where.decode()}" if isinstance(where, bytes) else str(where)

    def stopAccepting(self) -> None:
        """Stop accepting; the workers that share the port continue."""
        self.accepts = False
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
        guard(port, self._log, self.tunnel.name, self._reactor)
        self._port = port
        PROCESS.used += 1
        try:
            self.checkFor(self.tunnel)
        except ConfigError as e:
            self.stopListening()
            raise ListenError(str(e)) from None

    def _notBound(self, reason: Failure) -> None:
        error = reason.value
        if isinstance(error, CannotListenError):
            error = error.socketError
        tunnel = self.tunnel
        what = f"cannot listen on {tunnel.listen}: {reasonOf(error)}"
        raise ListenError(f"[{tunnel.kind} {tunnel.name}] {what}")


def serverEndpoint(
    reactor: Any, tunnel: Port, handed: HandedSocket | None = None
) -> IStreamServerEndpoint:
    """
    @param handed: a socket that listens already.
    @raise ConfigError: for an invalid endpoint string.
    """
    listen = tunnel.listen
    if isinstance(listen, EndpointListen):
        _, description = splitHeader(listen.description)
        try:
            listening = Listening(reactor, description, handed)
            if handed is not None and isFromSystemd(description):
                return AdoptedStreamServerEndpoint(listening, handed.descriptor, socket.AF_INET)
            return cast(IStreamServerEndpoint, serverFromString(listening, description))
        except Exception as e:  # from any parser, perhaps one of another package
            raise ConfigError(
                f'{tunnel.place} listen: "{listen.description}": {_misread(listen, e)}'
            ) from None
    if isinstance(listen, UnixListen):
        return UnixEndpoint(reactor, listen.path, listen.mode, BACKLOG, handed)
    descriptor = None if handed is None else handed.descriptor
    if epoll.applies(reactor):
        return PortEndpoint(reactor, listen.port, BACKLOG, listen.host, descriptor)
    if descriptor is not None:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        return AdoptedStreamServerEndpoint(reactor, descriptor, family)
    kind = TCP6ServerEndpoint if ":" in listen.host else TCP4ServerEndpoint
    return kind(reactor, listen.port, BACKLOG, listen.host)


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
