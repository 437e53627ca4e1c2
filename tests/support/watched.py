"""A service as the status server sees it, with numbers that move and names that are hostile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from twisted.internet.defer import Deferred, succeed

from ptunnel import __version__
from ptunnel.ledger.durations import Durations
from ptunnel.ledger.figures import (
    ProxyFigures,
    Query,
    ServiceFigures,
    SessionFigures,
    SessionList,
    TunnelFigures,
    WorkerFigures,
)
from ptunnel.ledger.said import Said
from ptunnel.ledger.watched import Reloaded

SCRIPT = "<script>alert(1)</script>"

_COLUMNS: dict[str, Callable[[SessionFigures], Any]] = {
    "number": lambda s: s.number,
    "client": lambda s: s.client,
    "tunnel": lambda s: s.tunnel,
    "target": lambda s: s.target,
    "way": lambda s: s.way or "",
    "phase": lambda s: s.phase,
    "age": lambda s: s.seconds,
    "sent": lambda s: s.bytesSent,
    "received": lambda s: s.bytesReceived,
    "rate": lambda s: s.rate or 0.0,
}
_CAUSES = ("refused", "no-answer", "credentials-rejected", "target-name")


class FakeWatched:
    """Offers what a Watched does.

    @ivar state: "starting", "running" or "stopping".
    @ivar drained: what was drained, as ("tunnel", "mail").
    @ivar ended: the numbers of sessions that were ended.
    @ivar reloaded: what a reload comes to. @ivar reloads: how many there were.
    """

    def __init__(
        self,
        sessions: int = 30,
        *,
        workers: int = 0,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """@param seconds: a clock; the numbers grow with it."""
        self._seconds = seconds
        self._began = seconds()
        self._started = time.time()
        self._workers = workers
        self.state: Literal["starting", "running", "stopping"] = "running"
        self.drained: set[tuple[str, str]] = set()
        self.ended: list[int] = []
        self.reloaded = Reloaded(True, "reloaded: /etc/ptunnel/tunnels.ini: 3 unchanged")
        self.reloads = 0
        self._numbers = dict.fromkeys(range(1, sessions + 1))

    @property
    def _age(self) -> float:
        return self._seconds() - self._began

    # As Watched

    def figures(self) -> ServiceFigures:
        age = self._age
        workers = [WorkerFigures(n + 1, os.getpid() + n + 1, True) for n in range(self._workers)]
        return ServiceFigures(
            version=__version__,
            pid=os.getpid(),
            state=self.state,
            started=self._started,
            uptime=age,
            tunnels=[self._tunnel(n, name) for n, name in enumerate(self._tunnelNames)],
            proxies=self._proxies(),
            workers=workers,
            descriptors=40 + 2 * len(self._numbers),
            mostDescriptors=1024,
            said=self._said(),
        )

    def listed(self, query: Query) -> Deferred[SessionList]:
        found = [s for s in map(self._session, self._numbers) if _fits(s, query)]
        found.sort(key=_COLUMNS[query.sort], reverse=query.descending)
        return succeed(SessionList(len(found), found[query.offset : query.offset + query.limit]))

    def endSession(self, number: int) -> Deferred[bool]:
        if number not in self._numbers:
            return succeed(False)
        del self._numbers[number]
        self.ended.append(number)
        return succeed(True)

    def setDrained(self, kind: Literal["tunnel", "proxy"], name: str, drained: bool) -> None:
        names = self._tunnelNames if kind == "tunnel" else [p.name for p in self._proxies()]
        if name not in names:
            raise KeyError(name)
        (self.drained.add if drained else self.drained.discard)((kind, name))

    # As the reload of a service

    def reload(self) -> Deferred[Reloaded]:
        self.reloads += 1
        return succeed(self.reloaded)

    # The numbers

    _tunnelNames = ("mail", "db/main", SCRIPT)

    def _tunnel(self, index: int, name: str) -> TunnelFigures:
        age = self._age
        own = [n for n in self._numbers if n % 3 == index]
        count = 100 + int(age * (index + 1))
        return TunnelFigures(
            name=name,
            listen=f"127.0.0.1:{9993 + index}",
            target="" if name == SCRIPT else "imap.example.com:993",
            via=("corp", "backup", "direct"),
            drained=("tunnel", name) in self.drained,
            sessions=len(own),
            connecting=min(1, len(own)),
            accepted=count,
            refused=3 * index,
            connected=count - 10,
            left=2,
            failures=dict.fromkeys(_CAUSES, index + 1),
            ends={"end": count - len(own), "idle": index},
            bytesSent=int(1e6 + age * 20_000 * (index + 1)),
            bytesReceived=int(1e7 + age * 300_000 * (index + 1)),
            connectTimes=_durations(count),
            kind="door" if name == SCRIPT else "tunnel",
            protocols=("socks", "http") if name == SCRIPT else (),
        )

    def _proxies(self) -> list[ProxyFigures]:
        proxies = [
            ProxyFigures("corp", "proxy.example.com:3128", scheme="ntlm", connected=900),
            ProxyFigures(
                "backup",
                "192.0.2.7:8080",
                trouble="cannot reach the proxy 192.0.2.7:8080: connection refused",
                rejection="it rejected the credentials; they are not sent for 54 s",
                failures={"refused": 12},
                lastError=f"cannot reach the proxy 192.0.2.7:8080: {SCRIPT}",
                lastErrorTime=self._started,
            ),
            ProxyFigures("direct", connected=5),
        ]
        return [
            replace(
                proxy,
                drained=("proxy", proxy.name) in self.drained,
                connectTimes=_durations(proxy.connected),
            )
            for proxy in proxies
        ]

    def _said(self) -> list[Said]:
        lines = [
            Said(self._started, "notice", "mail", "listening on 127.0.0.1:9993, to a via corp"),
            Said(
                self._started + 1,
                "warning",
                SCRIPT,
                f"the proxy refuses port 993: {SCRIPT}",
                {"client": "127.0.0.1:50001", "cause": "port-refused", "status": 403},
                worker=1 if self._workers else None,
            ),
        ]
        more = [
            Said(self._started + each, "warning", "db/main", f"event {each}", {"session": each})
            for each in range(5, int(self._age), 5)
        ]
        return [*lines, *more][-200:]

    def _session(self, number: int) -> SessionFigures:
        age = self._age + number
        client = SCRIPT if number == 3 else f"127.0.0.{number % 250 + 1}:{40000 + number % 20000}"
        rate = float(1000 * (number % 17))
        return SessionFigures(
            number=number,
            client=client,
            tunnel=self._tunnelNames[number % 3],
            way=None if number % 10 == 1 else ("corp", "backup", "direct")[number % 3],
            phase="connecting" if number % 10 == 1 else "joined",
            seconds=age,
            bytesSent=int(age * rate / 10),
            bytesReceived=int(age * rate),
            rate=rate,
            target=f"{SCRIPT}:{number}" if number % 3 == 2 else "",
        )


def _fits(session: SessionFigures, query: Query) -> bool:
    if query.tunnel is not None and session.tunnel != query.tunnel:
        return False
    words = [session.client, session.tunnel, session.target, session.way or "", session.phase]
    words.append(str(session.number))
    return any(query.text.lower() in word.lower() for word in words)


def _durations(count: int) -> Durations:
    shares = (0, 0, 1, 5, 30, 40, 15, 5, 2, 1, 1, 0, 0, 0, 0)
    counts = tuple(count * share // 100 for share in shares)
    return Durations(counts, sum(counts) * 0.04)
