"""What strangers say, as a part of a log line: secrets masked, then markup and control characters
taken out, then cut. Masking comes first, since what is cut could hide a secret from the mask.

Proxies send back what they were told, in the spelling of the page that they put it into.
"""

from __future__ import annotations

import contextlib
import html
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence

from ptunnel.text import flat

# How much of a refusal is worth a place in a log line, in characters: of its body, of its reason.
MAX_EXCERPT = 512
MAX_REASON = 200

MASK = "***"
# A secret of so few bytes may stand in any text by chance, so it is not looked for.
MIN_SECRET = 4
# What is so long in a header's value is no word.
_TOKEN = 8
# How many bytes one byte of a secret takes at most: an entity within an entity, `&amp;#x00065;`.
_WIDEST = 13
# How much is looked at to find the excerpt: error pages begin with a style sheet, as a rule.
_LOOKED_AT = 4096
# Spellings within spellings: an entity, in a URL, in JSON.
_LAYERS = 3

_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]+")
_MARKUP = re.compile(r"(?is)<(style|script)\b.*?(?:</\1>|$)|<!--.*?(?:-->|$)|<[^>]*(?:>|$)")

_ESCAPES = re.compile(
    r"""(?isx)
    (?P<percent> (?:%[0-9a-f]{2})+ )
    | (?P<entity> &(?:\#[0-9]{1,9} | \#x[0-9a-f]{1,8} | [a-z][a-z0-9]{1,31});? )
    | (?P<utf16> (?:\\u[0-9a-f]{4})+ )
    | \\(?:u\{(?P<braced>[0-9a-f]{1,6})\} | U(?P<long>[0-9a-f]{8}) | x(?P<byte>[0-9a-f]{2}))
    | \\(?P<octal>[0-3][0-7]{2})
    | \\(?P<plain>.)
    """
)
# The beginning of one of these, where a text breaks off.
_UNFINISHED = re.compile(r"(?:%[0-9A-Fa-f]?|&[#0-9A-Za-z]{0,32}|\\[^\\\s]{0,9}|[\udc80-\udcff]+)\Z")


def room(secrets: Sequence[bytes]) -> int:
    """How many bytes of a text L{excerpt} needs at most. What begins within its part that may be
    shown, and is secret, has then come whole.
    """
    return _LOOKED_AT + _WIDEST * max(map(len, secrets), default=0)


def oneLine(said: bytes, secrets: Sequence[bytes] = (), limit: int = MAX_EXCERPT) -> str:
    """A text on one line, without secrets and control characters, of at most so many characters.

    @param secrets: what the text may not show, in whatever spelling.
    """
    return _unlessSplit(flat(masked(said, secrets)), secrets)[:limit]


def excerpt(page: bytes, secrets: Sequence[bytes] = ()) -> str:
    """The beginning of a page as L{oneLine}, without its markup.

    @param page: all of it, or at least its first L{room} bytes.
    """
    shown = masked(page, secrets, _LOOKED_AT)
    return _unlessSplit(flat(_MARKUP.sub(" ", shown)), secrets)[:MAX_EXCERPT]


def _unlessSplit(text: str, secrets: Sequence[bytes]) -> str:
    """A text, or a mask in its place where a secret stands in it with something between its
    letters: markup, a line's end, what is not seen.
    """
    long = [_joined(secret.decode("utf-8", "replace")) for secret in secrets]
    long = [secret for secret in long if len(secret) >= _TOKEN]
    if not long:
        return text
    joined = _joined(html.unescape(text))
    return MASK if any(secret in joined for secret in long) else text


def _joined(text: str) -> str:
    return _UNSEEN.sub("", text)


def maskedHead(head: bytes, secrets: Sequence[bytes] = ()) -> list[str]:
    """The lines of an answer's head, as L{oneLine} but of any length; its beginning where it is
    long. A line that goes on in the next one (RFC 9112 section 5.2) is one.
    """
    whole = re.sub(rb"\r?\n[ \t]+", b" ", head)
    shown = masked(whole[: room(secrets)], secrets, _LOOKED_AT)
    return [flat(line) for line in shown.strip().split("\n")]


def secretsOf(value: bytes) -> tuple[bytes, ...]:
    """What is secret of a header's value that a user set: all of it, and the parts of it that are
    long enough not to be words: `Bearer` is none, the token behind it is.
    """
    parts = re.split(rb"[\s,;:=\"']+", value)
    return (value, *(part for part in parts if len(part) >= _TOKEN), *parts[1:2])


def masked(said: bytes, secrets: Sequence[bytes], limit: int | None = None) -> str:
    """A text with a mask in the place of each secret, however it is spelled: as it is, in base64
    alone or amid other text, in hexadecimal; with percents, HTML entities or backslashes; in upper
    or lower case. The beginning of a secret at the text's end is one as well.

    @param limit: how many of its characters are wanted; None: all.
    """
    text = said.decode("utf-8", "surrogateescape")
    kept: list[str] = []
    at = 0
    for start, end in sorted(_hidden(text, secrets)):
        if start >= at:
            kept += text[at : start if limit is None else min(start, limit)], MASK
        at = max(at, end)
        if limit is not None and at >= limit:
            break
    kept.append(text[at:limit])
    return "".join(kept).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _hidden(text: str, secrets: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where secrets stand in a text: starts and ends."""
    forms = sorted({f for s in secrets for f in _forms(s)}, key=len, reverse=True)
    if not forms:
        return
    pattern = re.compile("|".join(map(_anyCase, forms)), re.IGNORECASE)
    # What the end cuts off may look like another escape: `&#83` for `&#8364;`.
    for whole in dict.fromkeys((text, _UNFINISHED.sub("", text))):
        for shown, spans in _layers(whole):
            for match in pattern.finditer(shown):
                yield spans[match.start()][0], spans[match.end() - 1][1]
            begun = _begun(shown, forms)
            if begun < len(shown):
                yield spans[begun][0], len(text)


def _forms(secret: bytes) -> Iterator[str]:
    """The forms of a secret that no escapes make."""
    if len(secret) < MIN_SECRET:
        return
    plain = secret.decode("utf-8", "surrogateescape")
    yield plain.rstrip("=") or plain  # the padding of base64 is often left out
    for shown, _ in _layers(plain):  # what looks like an escape in it is taken for one
        if len(shown) >= MIN_SECRET:
            yield shown
    yield plain.replace(" ", "+")
    yield secret.decode("latin-1")  # UTF-8 that is taken for Latin-1, byte by byte
    with contextlib.suppress(UnicodeEncodeError):
        yield plain.encode("latin-1").decode("utf-8", "surrogateescape")
    yield secret.hex()
    for offset in range(3):  # bits of the neighbours are in the characters at both ends
        first, last = -(-offset * 4 // 3), (offset + len(secret)) * 4 // 3
        core = b64encode(b"\0" * offset + secret)[first:last].decode()
        if len(core) > MIN_SECRET:
            yield core


def _anyCase(form: str) -> str:
    """A pattern for a form; base64 has another alphabet for URLs."""
    escaped = re.escape(form)
    return re.sub(r"\\[+]|\\-|-", "[+-]", re.sub(r"[/_]", "[/_]", escaped))


def _begun(text: str, forms: Sequence[str]) -> int:
    """Where the beginning of a secret stands that the text's end cuts off; else its length."""
    lowered = _UNFINISHED.sub("", text).lower()
    at = len(text)
    for form in (form.lower() for form in forms):
        start = lowered.find(form[:MIN_SECRET], max(0, len(lowered) - len(form) + 1))
        while start >= 0:
            if form.startswith(lowered[start:]):
                at = min(at, start)
                break
            start = lowered.find(form[:MIN_SECRET], start + 1)
    return at


_Spans = list[tuple[int, int]]


def _layers(text: str) -> Iterator[tuple[str, _Spans]]:
    """A text, and the same without one layer of escapes after the other; and for each of their
    characters where it comes from.
    """
    spans = [(at, at + 1) for at in range(len(text))]
    yield text, spans
    for _ in range(_LAYERS):
        decoded, spans = _decoded(text, spans)
        if decoded == text:
            return
        text = decoded
        yield text, spans


def _decoded(text: str, spans: _Spans) -> tuple[str, _Spans]:
    """A text without one layer of escapes.

    @param spans: where each of its characters comes from.
    """
    parts: list[str] = []
    origins: _Spans = []
    at = 0
    for match in _ESCAPES.finditer(text):
        parts.append(text[at : match.start()])
        origins += spans[at : match.start()]
        at = match.end()
        assert match.lastgroup is not None
        said = _READ[match.lastgroup](match[match.lastgroup])
        parts.append(said)
        origins += [(spans[match.start()][0], spans[at - 1][1])] * len(said)
    parts.append(text[at:])
    return "".join(parts), origins + spans[at:]


def _percents(run: str) -> str:
    return bytes.fromhex(run.replace("%", "")).decode("utf-8", "surrogateescape")


def _entity(said: str) -> str:
    import html  # its table is large, and few programs meet a refusal

    return html.unescape(said)


def _utf16(run: str) -> str:
    units = bytes.fromhex(re.sub(r"(?i)\\u", "", run))
    return units.decode("utf-16-be", "replace")


def _codePoint(digits: str) -> str:
    number = int(digits, 16)
    return chr(number) if number < 0x110000 else "\ufffd"


_READ: dict[str, Callable[[str], str]] = {
    "percent": _percents,
    "entity": _entity,
    "utf16": _utf16,
    "braced": _codePoint,
    "long": _codePoint,
    "byte": _codePoint,
    "octal": lambda digits: chr(int(digits, 8)),
    "plain": lambda character: character,
}
