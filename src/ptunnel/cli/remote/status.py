"""`ptunnel status`: the figures of the running service."""

from __future__ import annotations

from collections.abc import Iterator

from ptunnel.cli.output import say
from ptunnel.cli.remote.document import Node, dumped
from ptunnel.cli.remote.quantities import latency, size, span
from ptunnel.cli.remote.remoteoptions import StatusOptions
from ptunnel.cli.remote.tables import Column, Line, Piece, painted, table

# How many of the last warnings are shown.
WARNINGS = 5

TUNNELS = (
    Column("TUNNEL", least=8),
    Column("STATE", drop=1),
    Column("LISTEN", least=14, drop=6),
    Column("TARGET", least=9, drop=7),
    Column("VIA", least=6, drop=9),
    Column("SESSIONS", right=True),
    Column("ALL", right=True, drop=4),
    Column("FAILED", right=True, drop=2),
    Column("REFUSED", right=True, drop=8),
    Column("SENT", right=True, drop=3),
    Column("RECEIVED", right=True, drop=3),
    Column("P50", right=True, drop=5),
    Column("P99", right=True, drop=5),
)
PROXIES = (
    Column("PROXY", least=8),
    Column("ADDRESS", least=9, drop=4),
    Column("HEALTH", least=4),
    Column("SCHEME", drop=3),
    Column("CONNECTED", right=True, drop=1),
    Column("FAILED", right=True, drop=1),
    Column("P50", right=True, drop=2),
    Column("P99", right=True, drop=2),
    Column("LAST ERROR", least=10, drop=5),
)
_STATES = {"running": "green", "starting": "yellow", "stopping": "yellow"}
_LEVELS = {"warning": "yellow", "error": "red"}


def status(options: StatusOptions, width: int | None, colour: bool) -> int:
    """
    @param width: that of the terminal; None: none.
    @param colour: whether it may be coloured.
    @return: the exit code, 0.
    @raise PtunnelError: if no service answers.
    """
    client = options.client()
    document = client.status()
    if options["json"]:
        say(dumped(document))
    elif not options["quiet"]:
        lines = statusLines(Node(document), client.name, width)
        say("\n".join(painted(line, colour, plain=not colour) for line in lines))
    return 0


def statusLines(document: Node, address: str, width: int | None = None) -> Iterator[Line]:
    """Yield the lines. Those of tables fit the width."""
    yield from _head(document, address)
    for columns, rows in (
        (TUNNELS, map(tunnelRow, document.nodes("tunnels"))),
        (PROXIES, map(proxyRow, document.nodes("proxies"))),
    ):
        if cells := list(rows):
            yield ()
            yield from table(columns, cells, width)
    events = [each for each in document.nodes("events") if each.text("level") in _LEVELS]
    if events:
        yield ()
        yield (Piece("LAST WARNINGS", "bold"),)
        yield from map(eventLine, events[-WARNINGS:])


def _head(document: Node, address: str) -> Iterator[Line]:
    state = document.text("state")
    since = f"since {document.text('started')}" if document.text("started") else ""
    where = [f"at {address}", f"process {document.count('pid') or '?'}", since]
    uptime = span(document.number("uptime_seconds"))
    yield (
        Piece(f"ptunnel {document.text('version')} is "),
        Piece(state, _STATES.get(state, "red")),
        Piece(f" {', '.join(filter(None, where))}{f' ({uptime})' if uptime else ''}"),
    )
    yield (Piece(sessionsInWords(document)),)
    yield (Piece(bytesInWords(document)),)
    if workers := document.nodes("workers"):
        yield (Piece(f"workers: {', '.join(map(_worker, workers))}"),)


def _worker(worker: Node) -> str:
    ready = "ready" if worker.flag("ready") else "not ready"
    return f"{worker.count('number')} (process {worker.count('pid') or 'none'}) {ready}"


def sessionsInWords(document: Node) -> str:
    """Return how many sessions there are and were."""
    count = document.count
    return (
        f"sessions: {count('sessions')} now, {count('connecting')} of them connecting; "
        f"{count('sessions_total')} in all, {count('failures_total')} failed, "
        f"{count('refused_total')} refused"
    )


def bytesInWords(document: Node) -> str:
    """Return how much was carried, and the descriptors."""
    sent, received = (size(document.number(f"bytes_{way}")) for way in ("sent", "received"))
    used, limit = (document.node("descriptors").count(key) for key in ("used", "limit"))
    return f"bytes: {sent} sent, {received} received; descriptors: {used} of {limit}"


def tunnelRow(tunnel: Node) -> tuple[Piece, ...]:
    """Return the cells of a tunnel."""
    times = tunnel.node("connect_seconds")
    failed = tunnel.total("failures")
    return (
        Piece(tunnel.text("name")),
        Piece("drained" if tunnel.flag("drained") else "", "yellow"),
        Piece(tunnel.text("listen")),
        Piece(tunnel.text("target") or _asked(tunnel)),
        Piece(", ".join(tunnel.texts("via"))),
        Piece(tunnel.count("sessions")),
        Piece(tunnel.count("sessions_total")),
        Piece(failed, "" if failed == "0" else "yellow"),
        Piece(tunnel.count("refused_total")),
        Piece(size(tunnel.number("bytes_sent"))),
        Piece(size(tunnel.number("bytes_received"))),
        Piece(latency(times.number("p50"))),
        Piece(latency(times.number("p99"))),
    )


def _asked(door: Node) -> str:
    """Return what stands in place of a door's target."""
    protocols = " or ".join(name.upper() for name in door.texts("protocols"))
    return f"asked by {protocols}" if protocols else ""


def proxyRow(proxy: Node) -> tuple[Piece, ...]:
    """Return the cells of a proxy."""
    times = proxy.node("connect_seconds")
    failed = proxy.total("failures")
    said = [proxy.text("last_error_time"), proxy.text("last_error")]
    return (
        Piece(proxy.text("name")),
        Piece(proxy.text("address")),
        health(proxy),
        Piece(proxy.text("scheme")),
        Piece(proxy.count("connected_total")),
        Piece(failed, "" if failed == "0" else "yellow"),
        Piece(latency(times.number("p50"))),
        Piece(latency(times.number("p99"))),
        Piece(" ".join(filter(None, said)) if said[1] else ""),
    )


def health(proxy: Node) -> Piece:
    """Return how a proxy is: well, drained, or what is wrong with it."""
    if isIll(proxy):
        trouble = proxy.text("trouble")
        return Piece(f"ill: {trouble}" if trouble else "ill", "red")
    if rejection := proxy.text("rejection"):
        return Piece(f"rejected: {rejection}", "red")
    if proxy.flag("drained"):
        return Piece("drained", "yellow")
    return Piece("well", "green") if proxy.text("address") else Piece("")


def isIll(proxy: Node) -> bool:
    """Return whether a proxy cannot be reached. The direct way has no address, and is neither: what
    cannot be reached there are single targets.
    """
    return proxy.flag("well") is False and bool(proxy.text("address"))


def eventLine(event: Node) -> Line:
    """Return a line of the log."""
    subject, level = event.text("tunnel"), event.text("level")
    text = f"{subject}: {event.text('message')}" if subject else event.text("message")
    return (
        Piece(f"{event.text('time')} ", "dim"),
        Piece(f"{level} ", _LEVELS.get(level, "")),
        Piece(text),
    )
