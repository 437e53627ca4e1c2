"""The figures of a service at one moment: frozen values, which processes exchange and add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ptunnel.ledger import MOST_SAID
from ptunnel.ledger.durations import NONE, Durations
from ptunnel.ledger.said import Said


@dataclass(frozen=True, slots=True)
class TunnelFigures:
    """One tunnel or door. Counts are since the start of the service if not told otherwise.

    @ivar listen: the address of its port, such as "127.0.0.1:9993".
    @ivar target: "" of a door.
    @ivar via: the names of its ways, in order.
    @ivar drained: whether it turns new clients away, since it was told to.
    @ivar sessions: how many there are now, those that are still connecting with them.
    @ivar connecting: how many of these have no connection to the target yet.
    @ivar accepted: clients that were served.
    @ivar refused: clients that were not (allow, limits, drained).
    @ivar connected: sessions that got a connection to the target.
    @ivar left: clients that left before that.
    @ivar failures: sessions that got none, by the id of the cause (docs/errors.md), or "unknown".
    @ivar ends: connected sessions that have ended, by cause (docs/logs.md).
    @ivar bytesSent: bytes to the target, of sessions that run with them.
    @ivar bytesReceived: bytes from the target.
    @ivar connectTimes: from a client's arrival to its connection to the target.
    @ivar kind: "tunnel" or "door".
    @ivar protocols: what a door speaks with its clients: "socks", "http"; none of a tunnel.
    """

    name: str
    listen: str = ""
    target: str = ""
    via: Sequence[str] = ()
    drained: bool = False
    sessions: int = 0
    connecting: int = 0
    accepted: int = 0
    refused: int = 0
    connected: int = 0
    left: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    bytesSent: int = 0
    bytesReceived: int = 0
    connectTimes: Durations = NONE
    kind: str = "tunnel"
    protocols: Sequence[str] = ()

    def __add__(self, other: TunnelFigures) -> TunnelFigures:
        """Add up those of one tunnel in two processes."""
        return replace(
            self,
            sessions=self.sessions + other.sessions,
            connecting=self.connecting + other.connecting,
            accepted=self.accepted + other.accepted,
            refused=self.refused + other.refused,
            connected=self.connected + other.connected,
            left=self.left + other.left,
            failures=_sums(self.failures, other.failures),
            ends=_sums(self.ends, other.ends),
            bytesSent=self.bytesSent + other.bytesSent,
            bytesReceived=self.bytesReceived + other.bytesReceived,
            connectTimes=self.connectTimes + other.connectTimes,
        )

    def past(self) -> TunnelFigures:
        """Return what stays of them when the process has ended."""
        return replace(self, sessions=0, connecting=0)


@dataclass(frozen=True, slots=True)
class ProxyFigures:
    """One proxy, or the direct way. Counts are since the start of the service.

    @ivar address: `host:port`; "" for the direct way.
    @ivar trouble: why it cannot be reached; None while it is well, or not known to be ill.
    @ivar drained: whether no new session goes through it, since it was told so.
    @ivar scheme: the authentication scheme that it accepted; None: none so far.
    @ivar rejection: why credentials are not sent for a while; None: they are.
    @ivar connected: attempts through it that reached their target.
    @ivar failures: attempts that did not, by the id of the cause, or "unknown".
    @ivar connectTimes: of those that did: TCP, TLS, CONNECT and its answer.
    @ivar lastError: the last failure of an attempt, in words.
    @ivar lastErrorTime: when that was, in seconds since 1970.
    """

    name: str
    address: str = ""
    trouble: str | None = None
    drained: bool = False
    scheme: str | None = None
    rejection: str | None = None
    connected: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    connectTimes: Durations = NONE
    lastError: str | None = None
    lastErrorTime: float | None = None

    def __add__(self, other: ProxyFigures) -> ProxyFigures:
        """Add up those of one proxy in two processes: it is well if both find it so."""
        later = max(self, other, key=lambda each: each.lastErrorTime or 0.0)
        return replace(
            self,
            trouble=self.trouble or other.trouble,
            scheme=self.scheme or other.scheme,
            rejection=self.rejection or other.rejection,
            connected=self.connected + other.connected,
            failures=_sums(self.failures, other.failures),
            connectTimes=self.connectTimes + other.connectTimes,
            lastError=later.lastError,
            lastErrorTime=later.lastErrorTime,
        )

    def past(self) -> ProxyFigures:
        """Return what stays of them when the process has ended."""
        return replace(self, trouble=None, scheme=None, rejection=None)


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One worker process. @ivar pid: None while there is none."""

    number: int
    pid: int | None
    ready: bool


State = Literal["starting", "running", "stopping"]


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """The whole service.

    @ivar state: "running" once all ports are bound and somebody accepts on them.
    @ivar started: seconds since 1970.
    @ivar uptime: seconds since then, of a clock that nobody sets.
    @ivar former: how many sessions there are of tunnels that a reload has removed.
    @ivar workers: none if the service is one process.
    @ivar descriptors: how many are in use, of the process or of the fullest worker.
    @ivar mostDescriptors: how many that process may have.
    @ivar said: the last lines of the log, the newest last.
    """

    version: str
    pid: int
    state: State
    started: float
    uptime: float
    tunnels: Sequence[TunnelFigures] = ()
    proxies: Sequence[ProxyFigures] = ()
    former: int = 0
    workers: Sequence[WorkerFigures] = ()
    descriptors: int = 0
    mostDescriptors: int = 0
    said: Sequence[Said] = ()

    @property
    def sessions(self) -> int:
        """How many sessions there are, of all tunnels."""
        return self.former + sum(tunnel.sessions for tunnel in self.tunnels)

    def past(self) -> ServiceFigures:
        """Return what stays of those of a worker when its process has ended."""
        tunnels = [each.past() for each in self.tunnels]
        proxies = [each.past() for each in self.proxies]
        kept = replace(self, tunnels=tunnels, proxies=proxies, former=0)
        return replace(kept, descriptors=0, mostDescriptors=0)

    def joined(self, other: ServiceFigures) -> ServiceFigures:
        """Return both of two pasts, with the tunnels and proxies of either."""
        return replace(
            self,
            tunnels=_either(self.tunnels, other.tunnels),
            proxies=_either(self.proxies, other.proxies),
        )

    def plus(self, others: Iterable[ServiceFigures]) -> ServiceFigures:
        """Add those of workers, whose tunnels and proxies are ours."""
        total = self
        for other in others:
            fullest = max(total, other, key=lambda each: each.descriptors)
            total = replace(
                total,
                tunnels=_together(total.tunnels, other.tunnels),
                proxies=_together(total.proxies, other.proxies),
                former=total.former + other.former,
                descriptors=fullest.descriptors,
                mostDescriptors=fullest.mostDescriptors,
                said=sorted([*total.said, *other.said], key=lambda line: line.time)[-MOST_SAID:],
            )
        return total


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """One session that runs.

    @ivar number: unlike that of any other session of the service.
    @ivar client: its address, such as "127.0.0.1:50000".
    @ivar way: the proxy taken, or "direct"; None while it is not known.
    @ivar phase: as in docs/architecture.md: "connecting", "joined" and so on.
    @ivar seconds: its age.
    @ivar rate: bytes a second, both ways, since it was last looked; None for the first time.
    @ivar target: what the client of a door has asked for; "" before that, and of a tunnel.
    """

    number: int
    client: str
    tunnel: str
    way: str | None
    phase: str
    seconds: float
    bytesSent: int
    bytesReceived: int
    rate: float | None = None
    target: str = ""


SortKey = Literal[
    "number", "client", "tunnel", "target", "way", "phase", "age", "sent", "received", "rate"
]


@dataclass(frozen=True, slots=True)
class Query:
    """Which sessions to list.

    @ivar text: only those with this in client, tunnel, target, way or phase, or that are number 7
        for "#7"; "": all.
    @ivar tunnel: only those of this tunnel; None: all.
    @ivar limit: how many at most, from `offset` on.
    """

    text: str = ""
    tunnel: str | None = None
    sort: SortKey = "number"
    descending: bool = False
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SessionList:
    """The answer to a Query. @ivar total: how many fit it, shown or not."""

    total: int
    sessions: Sequence[SessionFigures] = ()


_FIELDS: dict[SortKey, str] = {
    "number": "number",
    "client": "client",
    "tunnel": "tunnel",
    "target": "target",
    "way": "way",
    "phase": "phase",
    "age": "seconds",
    "sent": "bytesSent",
    "received": "bytesReceived",
    "rate": "rate",
}


def sortedBy(query: Query, rows: Iterable[SessionFigures]) -> list[SessionFigures]:
    """Return rows in the order of a query; those without a value come first, or last."""
    field = _FIELDS[query.sort]

    def key(row: SessionFigures) -> tuple[bool, Any, int]:
        value = getattr(row, field)
        return value is not None, value, row.number

    return sorted(rows, key=key, reverse=query.descending)


def _either(ours: Sequence[Any], theirs: Sequence[Any]) -> Sequence[Any]:
    names = {each.name for each in ours}
    return [*_together(ours, theirs), *(each for each in theirs if each.name not in names)]


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def _together(ours: Sequence[Any], theirs: Sequence[Any]) -> Sequence[Any]:
    found = {each.name: each for each in theirs}
    return [each + found[each.name] if each.name in found else each for each in ours]
