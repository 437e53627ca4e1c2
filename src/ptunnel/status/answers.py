"""What is asked, what is answered, and how a refusal looks: values without input or output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn

from ptunnel.ledger.figures import Query

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


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
    return json.dumps(value, default=str, separators=(",", ":")).encode("ascii") + b"\n"


def problem(code: int, text: str, **headers: str) -> Answer:
    """Return an answer that says in a line what is wrong.

    @param headers: further header fields, "_" in place of "-".
    """
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(code, asJSON({"error": text}), headers=fields)


def refuse(code: int, text: str, **headers: str) -> NoReturn:
    """@raise Refused: with that L{problem}."""
    raise Refused(problem(code, text, **headers))
