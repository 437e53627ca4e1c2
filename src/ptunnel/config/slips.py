"""Mistakes around addresses, with a message for each kind: blanks, quotes, comments, schemes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from ptunnel.config.words import quoting
from ptunnel.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")

# For a regular expression's [...]: the white space of str.strip(), and invisible marks.
BLANKS = r"\s\u200b\u2060\ufeff"
QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def checkAround(text: str) -> None:
    """@raise ConfigError: for text around or after an address that is not part of it."""
    before, behind = re.match(f"[{BLANKS}]+", text), re.search(rf"[{BLANKS}]+\Z", text)
    if behind is not None and behind[0].startswith("\r"):
        what = "a carriage return stands behind it, as in files from Windows; take it out"
        raise ConfigError(what)
    for blanks, where in (before, "before"), (behind, "behind"):
        if blanks is not None:
            what = "a line break" if "\n" in blanks[0] else "white space"
            raise ConfigError(f"{what} stands {where} it; take it out")
    # With a user and password it may be part of these.
    if text.endswith(tuple(QUOTES)) or (text.startswith(tuple(QUOTES)) and "@" not in text):
        raise ConfigError("quotes stand around it, and are read as part of it; take them out")
    if "@" not in text and (comment := re.search(r"\s([#;])", text)):
        what = f"a {comment[1]} and what stands behind it are read as part of it; take it out"
        raise ConfigError(what)


def checkNoScheme(text: str, form: str) -> None:
    """@param form: the right form, for the message.
    @raise ConfigError: for a URL in place of an address.
    """
    if scheme := _SCHEME.search(text):
        raise ConfigError(f"{scheme[0]} does not belong here; write {form}")


def addressing(parse: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Like `quoting`, for a parser of an address."""

    @quoting
    @functools.wraps(parse)
    def call(text: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        checkAround(text)
        return parse(text, *args, **kwargs)

    return call
