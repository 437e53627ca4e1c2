"""`ptunnel sessions`: the sessions of the service, listed or ended."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ptunnel.cli.output import say
from ptunnel.cli.remote.client import STATUS, Client, Declined
from ptunnel.cli.remote.document import Node, dumped
from ptunnel.cli.remote.quantities import rate, size, span
from ptunnel.cli.remote.remoteoptions import SessionsOptions
from ptunnel.cli.remote.tables import Column, Piece, painted, table
from ptunnel.errors import PtunnelError

PATH = f"{STATUS}sessions"
# How many the service lists in one answer.
MOST = 1000
# Those of which people look for the highest first.
FALLING = ("age", "sent", "received", "rate")

COLUMNS = (
    Column("NUMBER", right=True),
    Column("CLIENT", least=12),
    Column("TUNNEL", least=8),
    Column("TARGET", least=9),
    Column("WAY", least=6, drop=3),
    Column("PHASE", drop=4),
    Column("AGE", right=True, drop=1),
    Column("SENT", right=True, drop=1),
    Column("RECEIVED", right=True, drop=1),
    Column("RATE", right=True, drop=2),
)


def sessions(options: SessionsOptions, width: int | None) -> int:
    """@param width: that of the terminal; None: none.
    @return: the exit code.
    @raise PtunnelError: if it cannot be done.
    """
    if options.end is not None:
        return _end(options, options.end)
    found = _listed(options.client(), options)
    if options["json"]:
        say(dumped(found))
        return 0
    total, listed = found["total"], Node(found).nodes("sessions")
    if listed:
        lines = table(COLUMNS, map(row, listed), width)
        say("\n".join(painted(line, False, plain=True) for line in lines))
    if total > len(listed):
        say(f"{len(listed)} of {total}; --limit {total} shows all")
    elif not listed:
        say("no sessions")
    return 0


def _end(options: SessionsOptions, number: int) -> int:
    client = options.steering()
    try:
        client.steer("DELETE", f"{PATH}/{number}")
    except Declined as e:
        if e.code == 404:
            raise PtunnelError(f"{client.name}: there is no session {number}") from None
        raise
    say(f"session {number} is ended")
    return 0


def query(
    *, text: str = "", tunnel: str = "", sort: str, reverse: bool, limit: int, offset: int = 0
) -> str:
    """Return the path of a list of sessions."""
    order = "desc" if (sort in FALLING) != reverse else "asc"
    words = {"q": text, "tunnel": tunnel, "sort": sort, "order": order}
    words |= {"limit": str(limit), "offset": str(offset)}
    return f"{PATH}?{urlencode({key: value for key, value in words.items() if value})}"


def _listed(client: Client, options: SessionsOptions) -> dict[str, Any]:
    """Return a document with as many sessions as are wanted, from as many answers as it takes."""
    found: list[Any] = []
    while True:
        wanted = min(options.limit - len(found), MOST)
        path = query(
            text=options["filter"] or "",
            tunnel=options["tunnel"] or "",
            sort=options["sort"],
            reverse=bool(options["reverse"]),
            limit=wanted,
            offset=len(found),
        )
        document = client.get(path)
        more = document.get("sessions") if isinstance(document, dict) else None
        if not isinstance(more, list):
            raise client.stranger("its answer is not a list of sessions")
        found += more[:wanted]
        total = int(Node(document).number("total") or 0)
        if not more or len(found) >= min(options.limit, total):
            return {"total": max(total, len(found)), "sessions": found}


def row(session: Node) -> tuple[Piece, ...]:
    """Return the cells of a session."""
    texts = (
        session.count("number"),
        session.text("client"),
        session.text("tunnel"),
        session.text("target"),
        session.text("way"),
        session.text("phase"),
        span(session.number("seconds")),
        size(session.number("bytes_sent")),
        size(session.number("bytes_received")),
        rate(session.number("rate")),
    )
    return tuple(map(Piece, texts))
