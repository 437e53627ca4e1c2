"""The parameters of a list of sessions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast, get_args

from ptunnel.ledger.figures import Query, SortKey
from ptunnel.status.answers import refuse

# How many sessions an answer has at most. More would hold memory for a client that does not read.
MOST_LISTED = 1000
# Characters of a text that is searched for.
_LONGEST = 200
_SORTS: tuple[SortKey, ...] = get_args(SortKey)
_KNOWN = ("q", "tunnel", "sort", "order", "limit", "offset")


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
        limit=_number("limit", args.get("limit", "100"), MOST_LISTED),
        offset=_number("offset", args.get("offset", "0"), 10**9),
    )


def _oneOf(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        refuse(400, f"{name}: it must be one of {', '.join(known)}")
    return value


def _number(name: str, value: str, most: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", value) or int(value) > most:
        refuse(400, f"{name}: it must be a number from 0 to {most}")
    return int(value)
