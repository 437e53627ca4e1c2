"""What FindProxyForURL has returned: `PROXY a:8080; SOCKS5 b:1080; DIRECT`."""

from __future__ import annotations

from typing import NamedTuple

from ptunnel.config import DIRECT, Proxy, parseProxy
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# More than any list that is of use. A connection tries them one after the other.
MAX_CHOICES = 32
MAX_SHOWN = 80
# As browsers have it, where an entry has no port.
_PORT = 80
_KINDS: dict[str, str] = {
    "PROXY": "",
    "HTTP": "",
    "HTTPS": "https://",
    "SOCKS": "socks5h://",
    "SOCKS5": "socks5h://",
}
_SKIPPED = {"SOCKS4": "SOCKS4 is not spoken with proxies", "QUIC": "QUIC is not spoken"}


class Answer(NamedTuple):
    """
    @ivar text: as it was returned, with single spaces.
    @ivar choices: in order, each once, proxies and DIRECT; not empty. The name of a proxy is its
        `host:port`.
    @ivar skipped: for each entry that is not served, the entry and the reason.
    """

    text: str
    choices: tuple[Proxy | str, ...]
    skipped: tuple[str, ...]


def parseAnswer(text: str) -> Answer:
    """
    @raise ValueError: if it is not such a list, or no entry of it can be served. The message quotes
        the entry, in one short line.
    """
    choices: list[Proxy | str] = []
    skipped: list[str] = []
    entries = [" ".join(entry.split()) for entry in text.split(";")]
    entries = [entry for entry in entries if entry]
    if not entries:
        raise ValueError("it answers nothing")
    if len(entries) > MAX_CHOICES:
        raise ValueError(f"it answers more than {MAX_CHOICES} proxies: {quoted(text)}")
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if reason := _SKIPPED.get(kind.upper()):
            skipped.append(f"{quoted(entry)}: {reason}")
            continue
        choice = _choice(kind.upper(), rest)
        if choice is None:
            raise ValueError(f"it answers what is no proxy: {quoted(entry)}")
        if choice not in choices:
            choices.append(choice)
    if not choices:
        raise ValueError("; ".join(skipped))
    return Answer("; ".join(entries), tuple(choices), tuple(skipped))


def _choice(kind: str, rest: str) -> Proxy | str | None:
    if kind == "DIRECT":
        return None if rest else DIRECT
    # An entry is an address and nothing else: neither a user nor a URL.
    if kind not in _KINDS or not rest or any(c in rest for c in "@/ ?#"):
        return None
    scheme = _KINDS[kind]
    try:
        return parseProxy(scheme + rest, defaultPort=None if scheme else _PORT)
    except ConfigError:
        return None


def quoted(text: str, most: int = MAX_SHOWN) -> str:
    """Return text of others in quotes, in one line of at most so many characters."""
    text = printable(text[: most + 1])
    return f'"{text}"' if len(text) <= most else f'"{text[: most - 3]}..."'
