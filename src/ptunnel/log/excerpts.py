"""Makes texts of strangers fit for a log line: masks secrets, then removes markup and control
characters, then cuts. Masking comes first, because a cut could hide a secret from it.

Proxies send credentials back, in the spelling of the page that quotes them.
"""

from __future__ import annotations

import contextlib
import html
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence

from ptunnel.text import flat

# The most characters of a refusal in a log line: of its body, of its reason.
MAX_EXCERPT = 512
MAX_REASON = 200

MASK = "***"
# A secret of fewer bytes may be in any text by chance, so it is not looked for.
MIN_SECRET = 4
# A part of a header's value of this length is not taken for a word.
_TOKEN = 8
# The most bytes that one byte of a secret takes: an entity within an entity, `&amp;#x00065;`.
_WIDEST = 13
# The bytes that are searched for the excerpt: most error pages begin with a style sheet.
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
    """Return the most bytes of a text that L{excerpt} needs. They hold all of a secret that begins
    in the part that may be shown.
    """
    return _LOOKED_AT + _WIDEST * max(map(len, secrets), default=0)


def oneLine(said: bytes, secrets: Sequence[bytes] = (), limit: int = MAX_EXCERPT) -> str:
    """Return a text on one line, without secrets and control characters, and cut.

    @param secrets: the secrets to mask, in any spelling.
    @param limit: the most characters.
    """
    return _unlessSplit(flat(masked(said, secrets)), secrets)[:limit]


def excerpt(page: bytes, secrets: Sequence[bytes] = ()) -> str:
    """Return the beginning of a page as L{oneLine}, without its markup.

    @param page: the whole page, or at least its first L{room} bytes.
    """
    shown = masked(page, secrets, _LOOKED_AT)
    return _unlessSplit(flat(_MARKUP.sub(" ", shown)), secrets)[:MAX_EXCERPT]


def _unlessSplit(text: str, secrets: Sequence[bytes]) -> str:
    """Return a text, or a mask for all of it if it contains a secret that is interrupted by markup,
    line ends or invisible characters.
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
    """Return the first lines of an answer's head, as L{oneLine} but of any length. A line that is
    continued in the next one (RFC 9112 section 5.2) is one.
    """
    whole = re.sub(rb"\r?\n[ \t]+", b" ", head)
    shown = masked(whole[: room(secrets)], secrets, _LOOKED_AT)
    return [flat(line) for line in shown.strip().split("\n")]


def secretsOf(value: bytes) -> tuple[bytes, ...]:
    """Return the secrets in a header's value that a user set: the whole value, and its parts that
    are too long for words. Of `Bearer TOKEN`, only the token is one.
    """
    parts = re.split(rb"[\s,;:=\"']+", value)
    return (value, *(part for part in parts if len(part) >= _TOKEN), *parts[1:2])


def masked(said: bytes, secrets: Sequence[bytes], limit: int | None = None) -> str:
    """Return a text with a mask for each secret in any spelling: plain, in base64 alone or amid
    other text, in hexadecimal; with percents, HTML entities or backslashes; in upper or lower case.
    The beginning of a secret at the end of the text is masked too.

    @param limit: the number of characters needed; None: all.
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
    """Yield the start and end of each secret in a text."""
    forms = sorted({f for s in secrets for f in _forms(s)}, key=len, reverse=True)
    if not forms:
        return
    pattern = re.compile("|".join(map(_anyCase, forms)), re.IGNORECASE)
    # A cut escape at the end may look like another one: `&#83` for `&#8364;`.
    for whole in dict.fromkeys((text, _UNFINISHED.sub("", text))):
        for shown, spans in _layers(whole):
            for match in pattern.finditer(shown):
                yield spans[match.start()][0], spans[match.end() - 1][1]
            begun = _begun(shown, forms)
            if begun < len(shown):
                yield spans[begun][0], len(text)


def _forms(secret: bytes) -> Iterator[str]:
    """Yield the forms of a secret other than by escapes."""
    if len(secret) < MIN_SECRET:
        return
    plain = secret.decode("utf-8", "surrogateescape")
    yield plain.rstrip("=") or plain  # the padding of base64 is often omitted
    for shown, _ in _layers(plain):  # parts of it may look like escapes
        if len(shown) >= MIN_SECRET:
            yield shown
    yield plain.replace(" ", "+")
    yield secret.decode("latin-1")  # UTF-8 that is taken for Latin-1, byte by byte
    with contextlib.suppress(UnicodeEncodeError):
        yield plain.encode("latin-1").decode("utf-8", "surrogateescape")
    yield secret.hex()
    for offset in range(3):  # the characters at both ends hold bits of the neighbours
        first, last = -(-offset * 4 // 3), (offset + len(secret)) * 4 // 3
        core = b64encode(b"\0" * offset + secret)[first:last].decode()
        if len(core) > MIN_SECRET:
            yield core


def _anyCase(form: str) -> str:
    """Return a pattern for a form, which also matches the alphabet of base64 for URLs."""
    escaped = re.escape(form)
    return re.sub(r"\\[+]|\\-|-", "[+-]", re.sub(r"[/_]", "[/_]", escaped))


def _begun(text: str, forms: Sequence[str]) -> int:
    """Return the start of a secret that the end of the text cuts off; else the text's length."""
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
    """Yield a text, then the same with one more layer of escapes decoded each time; and the origin
    of each character in the text.
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
    """Decode one layer of escapes.

    @param spans: the origin of each character.
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
