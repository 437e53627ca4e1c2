"""The process that serves: it offers its ports at a Unix socket, and stops when another process
listens with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure

from ptunnel._version import __version__
from ptunnel.errors import ListenError, reasonOf
from ptunnel.handover.messages import (
    MAX_LINE,
    Ask,
    Listening,
    Message,
    NoHandOver,
    Offer,
    Refused,
    Released,
    read,
    written,
)
from ptunnel.handover.peer import stranger
from ptunnel.log import Log
from ptunnel.ports.handed import Handed, descriptorsOf
from ptunnel.ports.unixport import UnixEndpoint

# The permissions of the socket's file.
MODE = 0o600
BACKLOG = 5
# Seconds that a process may take to listen with our ports.
PATIENCE = 60.0


class Port(Protocol):
    """A port that can be handed over."""

    def descriptors(self) -> list[int]:
        """Return those that another process needs; none if it cannot be handed over."""

    def give(self) -> None:
        """Leave the socket to the other process, which has the descriptors."""


class Giving(Protocol):
    """A service whose ports are handed over."""

    stopping: bool

    def offers(self) -> Mapping[str, Port]:
        """Return its ports by their keys."""

    def handedOver(self, pid: int) -> None:
        """Stop, since another process has them."""


class Giver:
    """Offers the ports of a service at a Unix socket, to processes of the same user."""

    def __init__(
        self,
        reactor: Any,
        service: Giving,
        path: str,
        log: Log,
        handed: Handed,
    ) -> None:
        """
        @param path: of the socket.
        @param handed: has the socket, if another process has handed it over.
        """
        self.reactor = reactor
        self.service = service
        self.log = log
        self.taker: Conversation | None = None
        self._path = path
        self._key = f"unix:{path}"
        self._handed = handed
        self._port: Any = None

    def listen(self) -> None:
        """@raise ListenError: if the socket cannot be bound."""
        handed = self._handed.take(self._key)
        endpoint = UnixEndpoint(self.reactor, self._path, MODE, BACKLOG, handed)
        failures: list[Any] = []
        endpoint.listen(_Factory(self)).addCallbacks(self._bound, failures.append)
        if failures:
            self._notBound(failures[0].value)
        if handed is not None:
            self._port.stopReading()  # until it is released, the other process answers
            own = handed.released

            def released() -> None:
                own()
                if self._port is not None:
                    self._port.startReading()

            handed.released = released

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()

    def _bound(self, port: Any) -> None:
        self._port = port

    def _notBound(self, error: BaseException) -> NoReturn:
        if isinstance(error, CannotListenError):
            error = error.socketError
        what = f"[ptunnel] hand-over: cannot listen on {self._key}: {reasonOf(error)}"
        hint = " (another ptunnel serves; --take-over takes its ports over)"
        raise ListenError(f"{what}{hint if 'in use' in what else ''}")

    def offers(self) -> dict[str, Port]:
        """Return all that can be handed over, by key."""
        ports = {**self.service.offers(), self._key: self}
        return {key: port for key, port in ports.items() if port.descriptors()}

    def descriptors(self) -> list[int]:
        return list(descriptorsOf(self._port))

    def give(self) -> None:
        if self._port is not None:
            self._port.give()


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, giver: Giver) -> None:
        self._giver = giver

    def buildProtocol(self, addr: object) -> Conversation:
        return Conversation(self._giver)


class Conversation(TwistedProtocol):
    """With one process that wants to take the ports over."""

    transport: Any

    def __init__(self, giver: Giver) -> None:
        self._giver = giver
        self._log = giver.log
        self._data = b""
        self._asked: Ask | None = None
        self._offered: dict[str, Port] = {}
        self._limit: IDelayedCall | None = None

    def connectionMade(self) -> None:
        user = stranger(self.transport.socket)
        if user is not None:
            self._refuse(f"user {user} may not take the ports over")
            return
        self._limit = self._giver.reactor.callLater(PATIENCE, self._late)

    def dataReceived(self, data: bytes) -> None:
        *lines, self._data = (self._data + data).split(b"\n")
        try:
            if len(self._data) > MAX_LINE:
                raise NoHandOver("it says what has no end")
            for line in lines:
                self._hear(read(line))
        except NoHandOver as e:
            self._refuse(str(e))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()
        if self._giver.taker is self:
            self._giver.taker = None
            pid = self._asked.pid if self._asked else 0
            what = f"process {pid}, which was to take the ports over, has gone; nothing has changed"
            self._log.warning("", what)

    def _hear(self, message: Message) -> None:
        if isinstance(message, Ask) and self._asked is None:
            self._asked = message
            self._offer()
        elif isinstance(message, Listening) and self._giver.taker is self:
            self._release(message)
        else:
            raise NoHandOver(f"{type(message).__name__} is not expected here")

    def _offer(self) -> None:
        giver = self._giver
        if giver.service.stopping:
            raise NoHandOver("it is stopping")
        if giver.taker is not None:
            raise NoHandOver("another process is taking the ports over")
        giver.taker = self
        self._offered = giver.offers()
        ports = {key: port.descriptors() for key, port in self._offered.items()}
        for descriptors in ports.values():
            for descriptor in descriptors:
                self.transport.sendFileDescriptor(descriptor)
        offer = Offer(os.getpid(), __version__, [(key, len(fds) > 1) for key, fds in ports.items()])
        self.transport.write(written(offer))

    def _release(self, message: Listening) -> None:
        self._cancel()
        giver = self._giver
        giver.taker = None
        given = [port for key in message.keys if (port := self._offered.get(key)) is not None]
        for port in given:
            port.give()
        count = sum(port is not giver for port in given)
        ports = "1 port" if count == 1 else f"{count} ports"
        version = self._asked.version if self._asked else "?"
        who = f"process {message.pid} (ptunnel {version})"
        self._log.notice("", f"{who} has taken over {ports}; stopping")
        self.transport.write(written(Released()))
        self.transport.loseConnection()
        giver.service.handedOver(message.pid)

    def _late(self) -> None:
        self._limit = None
        self._refuse(f"nothing came for {PATIENCE:g} s")

    def _refuse(self, why: str) -> None:
        """Say why, and end the conversation."""
        self._cancel()
        self._log.warning("", f"no hand-over: {why}")
        if self._giver.taker is self:
            self._giver.taker = None
        self.transport.write(written(Refused(why)))
        self.transport.loseConnection()

    def _cancel(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.cancel()
