"""The way that PAC files say, asked for each connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.causes import PAC_BROKEN, PAC_DIRECT, PAC_SLOW
from ptunnel.config import DIRECT, Tunnel
from ptunnel.errors import PacFailed, TunnelError, Unreachable
from ptunnel.log import Trace, traceOf
from ptunnel.net.addresses import hostPort
from ptunnel.pac.answers import Answer
from ptunnel.pac.source import Source
from ptunnel.route.pacs import Pacs
from ptunnel.timing.deadlines import Patient

# How many different answers keep their route, with what it has found out about its ways.
MAX_ROUTES = 16
# Seconds for an answer, where a tunnel has no limit.
DEADLINE = 30.0

Step = str | TunnelError
"""The name of a proxy or DIRECT; or what came of a PAC file in place of names."""

Build = Callable[[Sequence[Step]], IStreamClientEndpoint]
IsOwn = Callable[[str, int], bool]


def urlOf(host: str, port: int, isPlain: bool = False) -> str:
    """Return what a browser would ask for: PAC files decide about URLs.

    @param isPlain: whether that begins with http:// for certain.
    """
    if port == 80 or isPlain:
        return f"http://{hostPort(host, port).removesuffix(':80')}/"
    return f"https://{hostPort(host, port).removesuffix(':443')}/"


class Decision:
    """What the PAC files of a tunnel say about its target."""

    def __init__(
        self, reactor: Any, tunnel: Tunnel, pacs: Pacs, isOwn: IsOwn, isPlain: bool = False
    ) -> None:
        """
        @param isOwn: returns whether ptunnel itself listens there.
        @param isPlain: whether the target is asked for by http:// URLs.
        """
        self._isPlain = isPlain
        self._reactor = reactor
        self._tunnel = tunnel
        self._pacs = pacs
        self._isOwn = isOwn

    def sources(self) -> list[Source]:
        known = self._pacs.settings.pacs
        return [self._pacs.source(name) for name in self._tunnel.via if name in known]

    def steps(self, trace: Trace | None) -> Deferred[list[Step]]:
        """Ask them all. @return: the ways in order. Fails with ConnectingCancelledError only."""
        said: dict[str, Answer | TunnelError] = {}

        def ask(_: object, source: Source) -> Deferred[None]:
            return self._ask(source, trace).addCallback(note, source.pac.name)

        def note(answer: Answer | TunnelError, name: str) -> None:
            said[name] = answer

        # One after the other: as a rule there is one, and this can be cancelled to its end.
        asking: Deferred[Any] = succeed(None)
        for source in self.sources():
            asking.addCallback(ask, source)
        return asking.addCallback(lambda _: self._steps(said)).addErrback(self._cancelled)

    def ask(self, name: str) -> Deferred[Answer]:
        """@return: fires with the answer of one. Fails with TunnelError."""
        source, tunnel = self._pacs.source(name), self._tunnel
        host, limit = tunnel.targetHost, tunnel.connectTimeout or DEADLINE
        url = urlOf(host, tunnel.targetPort, self._isPlain)
        asking = source.decide(url, host.lower())

        def late(reason: object, timeout: float) -> Failure:
            what = f"the PAC file {source.pac.name} did not answer within {timeout:g} s"
            return Failure(PacFailed(what, cause=PAC_SLOW, hint=PAC_SLOW.hint))

        clock: Any = Patient(self._reactor)
        return asking.addTimeout(limit, clock, late)

    def _ask(self, source: Source, trace: Trace | None) -> Deferred[Answer | TunnelError]:
        def said(answer: Answer) -> Answer:
            if trace is not None:
                skipped = "".join(f"; {each}" for each in answer.skipped)
                trace(f"pac {source.pac.name}: {answer.text}{skipped}")
            return answer

        def failed(reason: Failure) -> Any:
            reason.trap(TunnelError)
            if trace is not None:
                trace(f"pac {source.pac.name}: {reason.value}")
            error: Any = reason.value
            return error

        asking: Deferred[Any] = self.ask(source.pac.name)
        return asking.addCallbacks(said, failed)

    def _steps(self, said: dict[str, Answer | TunnelError]) -> list[Step]:
        steps: list[Step] = []
        for name in self._tunnel.via:
            steps += self.stepsOf(name, said[name]) if name in said else [name]
        return [*dict.fromkeys(steps)]

    def stepsOf(self, name: str, said: Answer | TunnelError) -> list[Step]:
        """Return the names of an answer's proxies; and DIRECT where the tunnel allows that."""
        if isinstance(said, TunnelError):
            return [said]
        pac = self._pacs.settings.pacs[name]
        steps: list[Step] = []
        own = ""
        for choice in said.choices:
            if isinstance(choice, str):
                steps += [DIRECT] if DIRECT in self._tunnel.via else []
            elif self._isOwn(choice.host, choice.port):
                own = choice.name
            else:
                steps.append(self._pacs.proxy(pac, choice).name)
        if steps:
            return steps
        if own:
            what = f"the PAC file {name} names {own}, where ptunnel itself listens"
            return [PacFailed(what, cause=PAC_BROKEN, hint=PAC_BROKEN.hint)]
        what = f"the PAC file {name} says DIRECT, which via does not allow"
        return [PacFailed(what, cause=PAC_DIRECT, hint=PAC_DIRECT.hint)]

    def _cancelled(self, reason: Failure) -> Failure:
        if reason.check(CancelledError):
            host = self._tunnel.targetHost.encode("ascii", "replace")
            return Failure(ConnectingCancelledError(HostnameAddress(host, self._tunnel.targetPort)))
        return reason


@implementer(IStreamClientEndpoint)
class PacRoute:
    """Asks the PAC files of a tunnel, then tries the ways that they say, as a L{Route} does.

    `connect` fails as that of Route does, also with L{PacFailed} in place of a way. Cancelling it
    ends the attempt.
    """

    def __init__(self, decision: Decision, build: Build) -> None:
        """@param build: returns the route of some steps."""
        self._decision = decision
        self._build = build
        self._routes: dict[tuple[Step, ...], IStreamClientEndpoint] = {}

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        deciding: Deferred[Any] = self._decision.steps(traceOf(protocolFactory))
        return deciding.addCallback(self._connect, protocolFactory)

    def _connect(self, steps: list[Step], factory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._routeOf(tuple(steps)).connect(factory).addErrback(self._failed)

    def _routeOf(self, steps: tuple[Step, ...]) -> IStreamClientEndpoint:
        if not all(isinstance(step, str) for step in steps):
            return self._build(steps)  # failures are not equal to later ones
        route = self._routes.pop(steps, None)
        self._routes[steps] = route = route or self._build(steps)
        if len(self._routes) > MAX_ROUTES:
            del self._routes[next(iter(self._routes))]
        return route

    def _failed(self, reason: Failure) -> Failure:
        failures = getattr(reason.value, "failures", (reason.value,))
        if all(isinstance(error, Unreachable) for error in failures):
            for source in self._decision.sources():
                source.exhausted()
        return reason
