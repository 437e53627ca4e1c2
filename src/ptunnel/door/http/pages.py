"""The small pages that a client gets in place of what it asked for.

They are read by people, in a browser or behind `curl` in a terminal. Nothing in them comes from
elsewhere, and no page says more of this machine than the hint of a known cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from http import HTTPStatus

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1>
{text}
<p><small>ptunnel</small></p></body></html>
"""

Field = tuple[str, str]


class Objection(Exception):
    """Why a request is not served, before it is known how its answer must look.

    @ivar why: in a few words that a log line and a page can end with; they quote nothing.
    @ivar hint: what to do, for the page only.
    @ivar said: what the page says in place of why; "": that.
    """

    def __init__(self, status: int, why: str, hint: str = "", said: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.hint = hint
        self.said = said or f"This proxy does not take the request: {why}."

    def answer(self, *, isHead: bool = False) -> bytes:
        """Return what the client gets. @param isHead: as in L{answer}."""
        return answer(self.status, [self.said, self.hint], isHead=isHead)


def answer(
    status: int,
    paragraphs: Iterable[str],
    *,
    reason: str = "",
    fields: Iterable[Field] = (),
    isHead: bool = False,
) -> bytes:
    """Return a whole answer, after which the connection closes.

    @param paragraphs: the text of the page; empty ones are left out.
    @param reason: what the status line has behind the status, which is all that some programs
        show; "": the status's usual phrase.
    @param fields: more header fields, trusted.
    @param isHead: whether the request was HEAD, whose answer has the fields alone.
    """
    title = f"{status} {HTTPStatus(status).phrase}"
    text = "\n".join(f"<p>{escape(each)}</p>" for each in paragraphs if each)
    body = _PAGE.format(title=title, text=text).encode("utf-8")
    lines = [
        f"HTTP/1.1 {status} {reason}" if reason else f"HTTP/1.1 {title}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name}: {value}" for name, value in fields),
    ]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    return head if isHead else head + body
