"""The status page with five minutes behind it, for the picture in the README: files as the status
server has them, and a stream of what it would have said, all at once.
"""

from __future__ import annotations

import http.server
import math
import random
import time
from collections.abc import Iterator
from typing import Any

from ptunnel import __version__
from ptunnel.ledger.durations import NONE, Durations
from ptunnel.ledger.figures import (
    ProxyFigures,
    Said,
    ServiceFigures,
    SessionFigures,
    SessionList,
    TunnelFigures,
    WorkerFigures,
)
from ptunnel.status.answers import asJSON
from ptunnel.status.documents import sessionsDocument, statusDocument
from ptunnel.status.pages import readPages
from tests.integration.programs import HOST

STEPS = 151  # of two seconds
UPTIME = 3 * 86400.0 + 17000
# Name, port, target, ways, sessions, bytes a second to and from it.
_TUNNELS = (
    ("imap", 9993, "imap.gmail.com:993", ("corp", "backup"), 214, 40e3, 900e3),
    ("smtp", 9587, "smtp.gmail.com:587", ("corp", "backup"), 12, 260e3, 20e3),
    ("postgres", 5432, "db.example.com:5432", ("corp", "direct"), 48, 150e3, 520e3),
)
_SHARES = (2, 18, 46, 25, 6, 2, 1)  # of a hundred, for buckets side by side


class Showcase(http.server.ThreadingHTTPServer):
    """On a free port. @ivar url: that of the page."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.url = f"http://{HOST}:{self.server_port}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        page = readPages().get(path)
        self.send_response(200 if page or path == "api/v1/stream" else 404)
        self.send_header("Content-Type", page.kind if page else "text/event-stream")
        self.end_headers()
        if page:
            self.wfile.write(page.body)
        elif path == "api/v1/stream":
            for name, document in _documents():
                self.wfile.write(b"event: %s\ndata: %s\n" % (name.encode(), asJSON(document)))
            self.rfile.read(1)  # until the browser goes

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    chance = random.Random(4)
    now = time.time()
    carried = [[4e9 * chance.random(), 9e9 * chance.random()] for _ in _TUNNELS]
    for step in range(STEPS):
        for index, (*_, sent, received) in enumerate(_TUNNELS):
            wave = 1 + 0.5 * math.sin(step / (9 + 5 * index) + index)
            burst = 2.6 if chance.random() > 0.93 else 1.0
            for way, rate in enumerate((sent, received)):
                carried[index][way] += 2 * rate * wave * burst * (0.75 + chance.random() / 2)
        uptime = UPTIME + 2 * step
        figures = ServiceFigures(
            __version__,
            4711,
            "running",
            now - UPTIME - 2 * STEPS,
            uptime,
            tunnels=[_tunnel(i, *map(int, carried[i])) for i in range(len(_TUNNELS))],
            proxies=_proxies(now),
            workers=[WorkerFigures(n, 4711 + n, True) for n in (1, 2)],
            descriptors=602,
            mostDescriptors=16384,
            said=[Said(now - 3000, "notice", "", "reloaded: tunnels.ini: 1 new, 3 unchanged")],
        )
        yield "status", statusDocument(figures, maySteer=False)
    yield "sessions", sessionsDocument(_sessions(chance))


def _tunnel(index: int, sent: int, received: int) -> TunnelFigures:
    name, port, target, via, sessions, *_ = _TUNNELS[index]
    accepted = 9000 * sessions // 20
    return TunnelFigures(
        name,
        f"{HOST}:{port}",
        target,
        via,
        sessions=sessions,
        connecting=index % 2,
        accepted=accepted,
        refused=3 * (index == 2),
        connected=accepted - 9,
        failures={"no-answer": 7, "proxy-busy": 2} if index == 0 else {},
        ends={"end": accepted - sessions, "idle": 31 + index},
        bytesSent=sent,
        bytesReceived=received,
        connectTimes=_durations(accepted, 2 + index),
    )


def _proxies(now: float) -> list[ProxyFigures]:
    return [
        ProxyFigures(
            "corp",
            "proxy.example.com:8443",
            scheme="negotiate",
            connected=121_000,
            connectTimes=_durations(121_000),
        ),
        ProxyFigures(
            "backup",
            "192.0.2.7:3128",
            trouble="connection refused",
            connected=310,
            failures={"connection-refused": 9},
            connectTimes=_durations(310, 4),
            lastError="cannot reach the proxy 192.0.2.7:3128: connection refused",
            lastErrorTime=now - 40,
        ),
        ProxyFigures("direct", connected=12, connectTimes=_durations(12, 1)),
    ]


def _sessions(chance: random.Random) -> SessionList:
    shown = []
    for number in range(100):
        name, _, _, via, *_ = _TUNNELS[number % len(_TUNNELS)]
        size = int(10 ** (3 + 5 * chance.random()))
        client = f"127.0.0.1:{40000 + 97 * number}"
        age = 4000 * chance.random()
        shown.append(
            SessionFigures(
                90211 + number, client, name, via[0], "joined", age, size // 6, size, size / 90
            )
        )
    return SessionList(sum(each[4] for each in _TUNNELS), shown)


def _durations(count: int, first: int = 3) -> Durations:
    """@param first: the bucket in which the fastest are."""
    counts = [0] * len(NONE.counts)
    counts[first : first + len(_SHARES)] = [count * share // 100 for share in _SHARES]
    return Durations(tuple(counts), count * 0.06)
