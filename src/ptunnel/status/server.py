"""The port of the status address: bound, moved, closed."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure

from ptunnel.config import Settings, TcpListen, UnixListen, readToken
from ptunnel.errors import ListenError, reasonOf
from ptunnel.ledger.watched import Watched
from ptunnel.log import Log
from ptunnel.net.addresses import hostPort
from ptunnel.net.descriptors import PROCESS
from ptunnel.ports.accepting import guard
from ptunnel.ports.handed import Handed, HandedSocket, descriptorsOf, give
from ptunnel.ports.unixport import UnixEndpoint
from ptunnel.status.access import Access, Token
from ptunnel.status.api import Api, Reload
from ptunnel.status.pace import Pace
from ptunnel.status.site import Site
from ptunnel.status.streams import Streams

BACKLOG = 128

# What the log calls it.
NAME = "status"


class StatusServer:
    """Serves the status address of the present settings.

    A change has two steps: L{prepare} does what may fail, and what it returns does the rest.
    """

    def __init__(self, reactor: Any, watched: Watched, reload: Reload | None, log: Log) -> None:
        """@param reload: reloads the settings, for those who may steer; None: it cannot be done."""
        self._reactor = reactor
        self._log = log
        self._api = Api(watched, reload, log)
        pace = Pace(reactor)
        self._streams = Streams(reactor, watched, pace, log)
        self._site = Site(reactor, self._api, self._streams, pace, log, PROCESS)
        self._listen: TcpListen | UnixListen | None = None
        self._port: Any = None

    def prepare(self, settings: Settings, handed: Handed | None = None) -> Change:
        """Read the token and bind the port of other settings; what is served stays as it is.

        @param handed: sockets that listen already; None: there are none.
        @raise ConfigError: for a token file that cannot be used.
        @raise ListenError: for an address that cannot be bound.
        """
        wanted = settings.status
        token = None
        if (file := settings.statusToken) is not None and wanted is not None:
            token = Token(file.path, lambda: readToken(file, os.environ), self._log)
        access = Access(settings.statusHosts, token, self._log, self._reactor)
        if wanted is not None and self._listen is not None and _isSame(self._listen, wanted):
            return Change(self, wanted, access, self._port)
        port = (
            None if wanted is None else _bind(self._reactor, wanted, self._site, handed or Handed())
        )
        return Change(self, wanted, access, port)

    def become(self, change: Change) -> TcpListen | UnixListen | None:
        """Serve as a change wants it. It cannot fail.

        @return: the address whose port is being closed; None: none is.
        """
        before, port = self._listen, self._port
        moves = port is not change.port
        self._listen, self._port, self._api.access = change.listen, change.port, change.access
        if port is not None and moves:
            self._shut(port)
            self._streams.closeAll()
            self._site.closeIdle()
        if isinstance(before, UnixListen) and isinstance(change.listen, UnixListen):
            self._changeMode(before, change.listen)
        if self._port is not None and moves:
            guard(self._port, self._log, NAME, self._reactor)
            PROCESS.used += 1
        return before if moves else None

    def announce(self) -> None:
        """Log the address, if there is one."""
        if self._port is not None:
            self._log.notice("", f"status on {self.url}")

    def _changeMode(self, before: UnixListen, after: UnixListen) -> None:
        if before.path == after.path and before.mode != after.mode:
            try:
                os.chmod(after.path, after.mode)
            except OSError as e:
                self._log.error("", f"cannot change the mode of {after}: {reasonOf(e)}")

    @property
    def url(self) -> str:
        """The address for people: a URL, or the path of a Unix socket."""
        if isinstance(self._listen, UnixListen):
            return str(self._listen)
        here = self._port.getHost()
        return f"http://{hostPort(here.host, here.port)}/"

    @property
    def key(self) -> str:
        """What is equal for the ports of two processes that may be one socket."""
        return _key(self._listen)

    def descriptors(self) -> list[int]:
        """Return those that another process needs to go on with the port; none if it cannot."""
        return list(descriptorsOf(self._port))

    def give(self) -> None:
        """Leave the port to another process, which has its descriptors; connections go on here."""
        port, self._port, self._listen = self._port, None, None
        if port is not None:
            give(port)
            self._shut(port)

    def close(self) -> Deferred[Any]:
        """Close the port and all connections.

        @return: fires when the port is closed; it does not wait for any client.
        """
        port, self._port, self._listen = self._port, None, None
        self._streams.closeAll()
        self._site.closeAll()
        return maybeDeferred(self._shut, port) if port is not None else succeed(None)

    def _shut(self, port: Any) -> Deferred[Any] | None:
        PROCESS.used -= 1
        return cast("Deferred[Any] | None", port.stopListening())


class Change:
    """Other settings of a status server, bound and ready: one of its methods is to be called.

    @ivar opens: whether the port is another one than before.
    """

    def __init__(
        self,
        server: StatusServer,
        listen: TcpListen | UnixListen | None,
        access: Access,
        port: Any,
    ) -> None:
        """@param port: the port, which may be the one that there is."""
        self._server = server
        self.listen = listen
        self.access = access
        self.port = port
        self.opens = port is not None and port is not server._port

    def commit(self) -> TcpListen | UnixListen | None:
        """Serve so from now on. @return: the address whose port is being closed; None: none is."""
        return self._server.become(self)

    def abandon(self) -> None:
        """Undo what was prepared."""
        if self.opens:
            self.port.stopListening()


def _isSame(one: TcpListen | UnixListen, other: TcpListen | UnixListen) -> bool:
    if isinstance(one, UnixListen) and isinstance(other, UnixListen):
        return one.path == other.path
    return one == other


def _bind(reactor: Any, listen: TcpListen | UnixListen, site: Site, handed: Handed) -> Any:
    """@raise ListenError: if it cannot be bound."""
    listening: list[Any] = []
    bound: Deferred[Any] = _endpoint(reactor, listen, handed.take(_key(listen))).listen(site)
    bound.addBoth(listening.append)
    port = listening[0]
    if isinstance(port, Failure):
        error = port.value
        if isinstance(error, CannotListenError):
            error = error.socketError
        raise ListenError(f"[ptunnel] status: cannot listen on {listen}: {reasonOf(error)}")
    return port


def _key(listen: TcpListen | UnixListen | None) -> str:
    """Return the key for a hand-over."""
    return f"status {listen}"


def _endpoint(
    reactor: Any, listen: TcpListen | UnixListen, handed: HandedSocket | None
) -> IStreamServerEndpoint:
    if isinstance(listen, UnixListen):
        return UnixEndpoint(reactor, listen.path, listen.mode, BACKLOG, handed)
    if handed is not None:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        return AdoptedStreamServerEndpoint(reactor, handed.descriptor, family)
    kind = TCP6ServerEndpoint if ":" in listen.host else TCP4ServerEndpoint
    return kind(reactor, listen.port, BACKLOG, listen.host)
