"""Parsers of durations, numbers, names and headers; and the quoting of mistakes.

A parser's L{ConfigError} is `"the text": what is wrong; what would be right`. The caller puts the
place of the text before it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from ptunnel.config.values import DIRECT
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# epoll_wait takes at most 2**31 ms, some 24 days; a reactor fails with a timer beyond that.
MAX_DURATION = 20 * 24 * 3600
# More than the most descriptors of a process (fs.nr_open is 1,048,576).
MAX_CONNECTIONS = 1_000_000
# More than any machine has processors.
MAX_WORKERS = 1024
MAX_SHOWN = 80
# RFC 7301 section 3.1, in bytes: of one name, and of the list, in which each has one byte more.
MAX_ALPN_NAME = 255
MAX_ALPN = 65535

# For a regular expression's [...]: the white space of str.strip(), and invisible marks.
BLANKS = r"\s\u200b\u2060\ufeff"
QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_SCHEME = r"\W*[A-Za-z][A-Za-z0-9+.-]*://"
_PASSWORD = re.compile(rf"(?s)^((?:{_SCHEME}|(?!{_SCHEME}))[^:]*:).*@")
_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_REFUSED_HEADERS = {
    "host": "it is always the target",
    "content-length": "a CONNECT request has no body",
    "transfer-encoding": "a CONNECT request has no body",
    "proxy-authorization": "give username and password-file instead",
}

# The keys of a section, each with the field for its value, and its parser.
Keys = dict[str, tuple[str, Callable[[str], Any]]]

P = ParamSpec("P")
T = TypeVar("T")


def clean(text: str) -> str:
    """Return the text as one short line, without a possible password between a colon and an `@`."""
    text = _PASSWORD.sub(r"\1***@", text)
    text = printable(text)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def show(text: str) -> str:
    """Return the text as an error message quotes it."""
    return f'"{clean(text)}"'


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message: a known word that is close, or all known words."""
    import difflib  # slow to import, and for errors only

    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    what = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return printable(f"; {what}")


def quoting(parse: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Decorate a parser: its ConfigErrors get the quoted text before the message."""

    @functools.wraps(parse)
    def call(text: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(text, *args, **kwargs)
        except ConfigError as e:
            raise ConfigError(f"{show(text)}: {e}") from None

    return call


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
    if scheme := _URL_SCHEME.search(text):
        raise ConfigError(f"{scheme[0]} does not belong here; write {form}")


def addressing(parse: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Like `quoting`, for a parser of an address."""

    @quoting
    @functools.wraps(parse)
    def call(text: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        checkAround(text)
        return parse(text, *args, **kwargs)

    return call


@quoting
def parseDuration(text: str) -> float | None:
    """`30`, `30s`, `5m`, `1h`, `500ms`.

    @return: seconds; None, which is "no limit", for `0`.
    """
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|)", text)
    if match is None:
        raise ConfigError("not a duration; write 30, 30s, 5m, 1h, 500ms, or 0 for none")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > MAX_DURATION:
        raise ConfigError(f"longer than {MAX_DURATION // 3600}h; write 0 for none")
    return seconds or None


@quoting
def parseLimit(text: str) -> int | None:
    """A number of connections; None, which is "no limit", for `0`."""
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > MAX_CONNECTIONS:
        raise ConfigError(f"not a number from 1 to {MAX_CONNECTIONS}, or 0 for no limit")
    return int(text) or None


@quoting
def parseRate(text: str) -> float | None:
    """A number of sessions a second; None, which is "no limit", for `0`."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text):
        raise ConfigError("not a number of sessions a second; write 20 or 0.5, or 0 for no limit")
    return float(text) or None


@quoting
def parseVia(text: str) -> tuple[str, ...]:
    """Names of proxies, separated by commas; `direct` only as the last."""
    names = tuple(" ".join(name.split()) for name in text.split(","))
    if not all(names):
        raise ConfigError("a name is missing; write the names of proxies, separated by commas")
    if len(set(names)) < len(names):
        raise ConfigError("a name stands twice")
    if DIRECT in names[:-1]:
        raise ConfigError(
            "direct must come last: it is used when no proxy can be reached, "
            "so nothing behind it would be tried"
        )
    return names


@quoting
def parseThrough(text: str) -> str:
    """The name of one proxy."""
    if "," in text:
        raise ConfigError("more than one name; a proxy is reached through one other")
    name = " ".join(text.split())
    if name == DIRECT:
        raise ConfigError("direct means a connection without a proxy; leave the key out")
    return name


@quoting
def parseYesNo(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ConfigError("must be yes or no")
    return text == "yes"


@quoting
def parseAlpn(text: str) -> tuple[str, ...]:
    """Names of protocols, separated by commas, best first (RFC 7301)."""
    names = tuple(name.strip(" ") for name in text.split(","))
    if not all(names):
        raise ConfigError("a name is missing; write the names of protocols, separated by commas")
    if len(set(names)) < len(names):
        raise ConfigError("a name stands twice")
    for name in names:
        if not (name.isascii() and name.isprintable()) or len(name) > MAX_ALPN_NAME:
            what = f"a name must be 1 to {MAX_ALPN_NAME} ASCII characters, none of them control"
            raise ConfigError(what)
    if sum(len(name) + 1 for name in names) > MAX_ALPN:
        raise ConfigError(f"all names together must be less than {MAX_ALPN} bytes")
    return names


@quoting
def parseWorkers(text: str) -> int:
    """A number of processes."""
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ConfigError(f"not a number from 1 to {MAX_WORKERS}")
    return int(text)


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts one of these words."""

    @quoting
    def parseChoice(text: str) -> str:
        if text not in words:
            raise ConfigError(f"must be one of {', '.join(words)}")
        return text

    return parseChoice


def parseSendProxy(text: str) -> str | None:
    """The version of PROXY headers to a target; None for `no`."""
    word = choice("no", "v1", "v2")(text)
    return None if word == "no" else word


def parseHeaders(text: str) -> tuple[tuple[str, str], ...]:
    """Header fields, `Name: value`, one a line; the first line may be empty."""
    return tuple(
        parseHeader(line, f"header {number} is not a header; write Name: value, one a line")
        for number, line in enumerate(text.removeprefix("\n").split("\n"), 1)
    )


def parseHeader(line: str, otherwise: str = "not a header; write Name: value") -> tuple[str, str]:
    """Parse one header field. Errors quote no value, which may be secret.

    @param otherwise: the message for text that is not a header.
    """
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise ConfigError(otherwise)
    # h11 takes text as ASCII, and proxies agree on nothing else.
    if not (value.replace("\t", "").isprintable() and value.isascii()):
        raise ConfigError(f"{show(name)}: the value must be ASCII without control characters")
    if name.lower() in _REFUSED_HEADERS:
        raise ConfigError(f"{show(name)}: not allowed: {_REFUSED_HEADERS[name.lower()]}")
    return name, value.strip()
