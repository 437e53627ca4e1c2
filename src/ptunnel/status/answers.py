"""What is asked, what is answered, and how a refusal looks: values without input or output."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn, cast, get_args

from ptunnel.ledger.figures import Query, SortKey

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

# How many sessions an answer has at most. More would hold memory for a client that does not read.
MOST_LISTED = 1000
# Characters of a text that is searched for.
_LONGEST = 200
_SORTS: tuple[SortKey, ...] = get_args(SortKey)
_KNOWN = ("q", "tunnel", "sort", "order", "limit", "offset")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    @ivar path: its segments, decoded; those of "/" are ("",).
    @ivar args: the first value of each parameter.
    @ivar headers: all values of each field, by its name in lower case.
    @ivar here: the address to which the client has connected; None: a Unix socket.
    @ivar client: the client's address for the log.
    @ivar version: "HTTP/1.1" or another.
    """

    method: str
    path: tuple[str, ...]
    args: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    here: str | None = "127.0.0.1"
    client: str = ""
    version: str = "HTTP/1.1"

    def header(self, name: str) -> str | None:
        """Return the only value of a header field; None if there is none.

        @raise Refused: if there are several.
        """
        values = self.headers.get(name.lower(), ())
        if len(values) > 1:
            refuse(400, f"the header {name} is given {len(values)} times")
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its whole body."""

    code: int
    body: bytes = b""
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The phrase behind the code."""
        return HTTPStatus(self.code).phrase


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: events, with the sessions that fit a query."""

    query: Query
    maySteer: bool


class Refused(Exception):
    """A request that is not served. @ivar answer: what the client gets."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


def asJSON(value: Any) -> bytes:
    """Return a value as one line of JSON. What JSON does not know becomes text."""
    try:
        text = json.dumps(value, default=str, allow_nan=False, separators=(",", ":"))
    except ValueError:  # an infinite number
        return asJSON(json.loads(json.dumps(value, default=str), parse_constant=str))
    return text.encode("ascii") + b"\n"


def problem(code: int, text: str, **headers: str) -> Answer:
    """Return an answer that says in a line what is wrong.

    @param headers: further header fields, "_" in place of "-".
    """
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(code, asJSON({"error": text}), headers=fields)


def refuse(code: int, text: str, **headers: str) -> NoReturn:
    """@raise Refused: with that L{problem}."""
    raise Refused(problem(code, text, **headers))


def queryOf(args: Mapping[str, str]) -> Query:
    """@raise Refused: 400, for a parameter that is not known or has a value that is none."""
    for name in args:
        if name not in _KNOWN:
            refuse(400, f"a parameter is not known; there are {', '.join(_KNOWN)}")
    text = args.get("q", "")
    if len(text) > _LONGEST:
        refuse(400, f"q: longer than {_LONGEST} characters")
    sort = _oneOf("sort", args.get("sort", "number"), _SORTS)
    order = _oneOf("order", args.get("order", "asc"), ("asc", "desc"))
    return Query(
        text=text,
        tunnel=args.get("tunnel") or None,
        sort=cast(SortKey, sort),
        descending=order == "desc",
        limit=min(_number("limit", args.get("limit", "100")), MOST_LISTED),
        offset=_number("offset", args.get("offset", "0")),
    )


def _oneOf(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        refuse(400, f"{name}: it must be one of {', '.join(known)}")
    return value


def _number(name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", value):
        refuse(400, f"{name}: it must be a number")
    return int(value)
