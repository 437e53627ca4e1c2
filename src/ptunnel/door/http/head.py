"""The head of one request, read as strictly as a proxy must (RFC 9112 sections 2, 3 and 5).

h11 is lenient where others are lenient in other ways, and two that read one message differently is
what request smuggling needs. So lines end in CRLF and nothing else, a field is one line, and no
control character passes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ptunnel.door.http.pages import Objection
from ptunnel.door.kinds import Kind, kindOf
from ptunnel.net.asked import Rejected

# Real heads have one to four KiB; those with tickets and large cookies some 30. squid takes 64.
MAX_HEAD = 64 * 1024
MAX_FIELDS = 200
# RFC 9112 section 3 asks for 8,000 at least; squid takes 8 KiB, nginx 8, Apache 8.
MAX_REQUEST_LINE = 16 * 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE = re.compile(rb"(%b{1,64}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n" % _TOKEN)
_OLDEST = re.compile(rb"%b+ +[\x21-\x7e]+ *\r\n" % _TOKEN)
_FIELD = re.compile(rb"(%b+):[ \t]*((?:[^ \t\r\n]+(?:[ \t]+[^ \t\r\n]+)*)?)[ \t]*\r\n" % _TOKEN)
# A whole head that is as it should be: most come in one piece, and need no look at each line.
_LINE = rb"%b+:[^\0-\x08\n-\x1f\x7f]*\r\n" % _TOKEN
_WHOLE = re.compile(
    rb"([A-Za-z]%b{0,63}) ([\x21-\x7e]{1,%d}) HTTP/(1\.[01])\r\n((?:%b)*)\r\n"
    % (_TOKEN, MAX_REQUEST_LINE - 80, _LINE)
)
_FIELDS = re.compile(rb"(%b+):([^\r]*)\r\n" % _TOKEN)
# NUL and the like; a line end that is none; a CR whose LF may still come is none of them.
_WRONG = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]|(?<!\r)\n")

_CRLF = "every line of a request ends in CR LF"


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head.

    @ivar version: b"1.0" or b"1.1".
    @ivar fields: names as they came, and values without white space around them.
    @ivar raw: its bytes, from the request line on.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    raw: bytes = field(repr=False)
    _byName: dict[bytes, list[bytes]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, value in self.fields:
            self._byName.setdefault(name.lower(), []).append(value)

    def __repr__(self) -> str:
        return f"<Head {self.method!r}, {len(self.fields)} fields>"  # they may hold secrets

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field. @param name: in lower case."""
        return self._byName.get(name, [])


class HeadReader:
    """Reads one head, in time linear in its bytes."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._start = 0  # where the request line begins
        self._line = 0  # where the line begins that is being read
        self._seen = 0  # the bytes before it are checked, so a drip costs no more than a stream
        self._request: tuple[bytes, bytes, bytes] | None = None
        self._fields: list[tuple[bytes, bytes]] = []

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._received)

    @property
    def isHead(self) -> bool:
        """Whether it is known to be a HEAD request."""
        return self._request is not None and self._request[0] == b"HEAD"

    @property
    def rest(self) -> bytes:
        """The bytes behind the head, once it is complete."""
        return bytes(self._received[self._line :])

    def feed(self, data: bytes) -> Head | None:
        """Take the next bytes; not to be called after it has returned a Head.

        @raise Objection: at the first line that cannot be, or beyond a limit.
        @raise Rejected: if the client does not speak HTTP.
        """
        received = self._received
        if not received and (whole := _wholeOf(data)):
            received += data
            self._line = len(whole.raw)
            self._request = whole.method, whole.target, whole.version
            return whole
        received += data
        if not self._seen and received:
            _checkFirst(received[0])
        while end := received.find(b"\n", self._seen) + 1:
            line = bytes(received[self._line : end])
            self._checkBytes(end)
            isLast = self._take(line)
            self._line = self._seen = end
            if isLast:
                assert self._request is not None
                return Head(*self._request, self._fields, bytes(received[self._start : end]))
        self._checkBytes(len(received))
        # The last byte is looked at again, with the next one: it may be a CR.
        self._seen = max(self._line, len(received) - 1)
        return None

    def _checkBytes(self, end: int) -> None:
        """Check what has come of a line. @param end: of those bytes."""
        if self._request is None and end - self._line > MAX_REQUEST_LINE:
            raise Objection(414, f"a request line of more than {MAX_REQUEST_LINE} bytes")
        if end > MAX_HEAD:
            raise Objection(431, f"a head of more than {MAX_HEAD} bytes")
        wrong = _WRONG.search(self._received, max(self._line, self._seen - 1), end)
        if wrong is None:
            return
        if wrong[0] == b"\n":
            raise Objection(400, "a line that ends in LF without CR", _CRLF)
        if wrong[0][:1] == b"\r":
            raise Objection(400, "a CR without LF", _CRLF)
        what = "a NUL byte" if wrong[0] == b"\0" else "a control character"
        raise Objection(400, f"{what} in its head")

    def _take(self, line: bytes) -> bool:
        """Take a line with its end. @return: whether it is the last one of the head."""
        if self._request is None:
            # One empty line before a request is ignored (RFC 9112 section 2.2).
            if line == b"\r\n" and not self._start:
                self._start = len(line)
            else:
                self._request = _requestOf(line)
            return False
        if line == b"\r\n":
            return True
        self._fields.append(fieldOf(line))
        if len(self._fields) > MAX_FIELDS:
            raise Objection(431, f"more than {MAX_FIELDS} header fields")
        return False


def _wholeOf(data: bytes) -> Head | None:
    """Return the head with which it begins; None: its lines have to be looked at."""
    match = _WHOLE.match(data)
    if match is None or match.end() > MAX_HEAD:
        return None
    method, target, version, lines = match.groups()
    fields = [(name, value.strip(b" \t")) for name, value in _FIELDS.findall(lines)]
    if len(fields) > MAX_FIELDS:
        return None
    return Head(method, target, version, fields, match[0])


def _checkFirst(first: int) -> None:
    if first in b"\r\n":
        return
    try:
        kind = kindOf(first)
    except Rejected:
        if 0x20 <= first < 0x7F:  # a person, or HTTP that is wrong
            raise Objection(400, "a request line that is none") from None
        raise
    if kind is not Kind.HTTP:
        raise Rejected("SOCKS, which this door does not speak")


def _requestOf(line: bytes) -> tuple[bytes, bytes, bytes]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if _OLDEST.fullmatch(line):
            raise Objection(400, "a request of HTTP/0.9", "Say HTTP/1.1 behind the target.")
        raise Objection(400, "a request line that is none")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        what = "a version of HTTP other than 1.0 and 1.1"
        raise Objection(505, what, "Proxies of HTTP/2 have another port, with TLS, as a rule.")
    return method, target, b"1." + minor


def fieldOf(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of a field.

    @param line: with its CRLF, and without control characters.
    @raise Objection: if it is none.
    """
    match = _FIELD.fullmatch(line)
    if match is not None:
        return match[1], match[2]
    if line[:1] in b" \t":
        raise Objection(400, "a header field that is folded over several lines")
    name, colon, _ = line.partition(b":")
    if colon and name != name.rstrip():
        raise Objection(400, "white space before the colon of a header field")
    raise Objection(400, "a header field that is none")
