"""A client of a door whose requests for http:// URLs go on: what the door has to say about each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress

from ptunnel import causes
from ptunnel.door.forward.forwarder import Forwarder
from ptunnel.door.http.gate import Forward
from ptunnel.door.http.refusals import loginNeeded, refusal
from ptunnel.door.targets import Targets
from ptunnel.errors import RouteFailed
from ptunnel.net.addresses import hostPort
from ptunnel.net.asked import Login, Rejected
from ptunnel.relay.outcome import Ended
from ptunnel.relay.terms import Terms
from ptunnel.route.forwards import Forwards
from ptunnel.timing.deadlines import Sweep


class Door(Protocol):
    """The part of a DoorFactory that is needed here."""

    targets: Targets
    judge: Callable[[Login], Deferred[bool]] | None
    connectTimeout: float | None
    terms: Terms

    @property
    def sweep(self) -> Sweep: ...
    def forwards(self, host: str, port: int) -> Forwards:
        """Return the ways of requests for a target."""


class Session(Protocol):
    """The part of a session of a door that is needed here.

    @ivar target: what was asked for last, `host:port`.
    """

    target: str
    client: IAddress | None

    def takes(self, way: str) -> None:
        """Note the way that was taken."""

    def refuses(self, error: BaseException) -> None:
        """Note that a request is not answered by others."""

    def forwarded(self, ended: Ended) -> None:
        """Note that all is over."""


class Forwarding:
    """The door of one L{Forwarder}."""

    def __init__(self, door: Door, session: Session, login: Login | None) -> None:
        """@param login: who the client has said it is, and was let in as."""
        self._door = door
        self._session = session
        self._login = login
        self.terms = door.terms
        self.sweep = door.sweep
        self.connectTimeout = door.connectTimeout

    def lead(self, asked: Forward) -> Deferred[Forwards]:
        """Return the ways for a request, if its client may ask for it."""
        request = asked.request
        self._session.target = hostPort(request.host, request.port)
        return self._judged(asked).addCallback(lambda _: self._ways(asked))

    def _ways(self, asked: Forward) -> Forwards | Deferred[Forwards]:
        host, port = asked.request.host, asked.request.port
        failure = self._door.targets.refusal(host, port)
        if failure is not None:
            raise failure
        return self._door.forwards(host, port).forClient(self._session.client)

    def _judged(self, asked: Forward) -> Deferred[Any]:
        """Return whether the client may come in with each of its requests, not the first alone."""
        judge, login = self._door.judge, asked.login
        if judge is None or (login is not None and login == self._login):
            return succeed(None)
        if login is None:
            page = loginNeeded(isHead=asked.isHead)
            raise Rejected("no user name and password", page, causes.CLIENT_LOGIN)

        def told(accepted: bool) -> None:
            if not accepted:
                page = loginNeeded(isHead=asked.isHead)
                raise Rejected("a wrong user name or password", page, causes.CLIENT_LOGIN)
            self._login = login

        return judge(login).addCallback(told)

    def takes(self, way: str) -> None:
        self._session.takes(way)

    def refused(self, asked: Forward | None, error: BaseException) -> bytes:
        """Note that a request gets no answer of others. @return: its page."""
        self._session.refuses(error)
        if isinstance(error, Rejected):
            return error.answer
        last = error.failures[-1] if isinstance(error, RouteFailed) else error
        # A hop of this name is the target itself, not a proxy.
        isDirect = getattr(last, "hop", None) == self._session.target
        return refusal(error, direct=isDirect, isHead=asked is not None and asked.isHead)

    def ended(self, ended: Ended) -> None:
        self._session.forwarded(ended)


def forwarderFor(
    door: Any, session: Any, client: Any, login: Login | None, trace: Any
) -> Forwarder:
    """Return what serves a client whose first request is to go on."""
    return Forwarder(Forwarding(door, session, login), client, trace)
