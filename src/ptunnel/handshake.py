"""CONNECT as bytes in, bytes out (RFC 9110 section 9.3.6). Knows no reactor; used by endpoint.

A 2xx answer means one thing, whatever its headers say, so its head is only checked line by line.
Every other answer is read by h11, with its framing, to say in words why there is no tunnel.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ptunnel import causes
from ptunnel.auth import ChallengeError, parseChallenges, titlesOf
from ptunnel.causes import Cause
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TargetUnreachable,
    TunnelError,
)

if TYPE_CHECKING:
    import h11

# Real answers have a head of some hundred bytes. curl allows 300 KiB and 5,000 headers, HAProxy
# 15 KiB; a proxy that needs more than this is broken or hostile.
MAX_HEAD = 64 * 1024
MAX_HEADERS = 200
# 100 and 102 may come many times (RFC 9110 section 15.2), but nobody sends more than a few.
MAX_INFORMATIONAL = 10
# How much of a refusal's body is worth a place in a log line.
MAX_EXCERPT = 512
# How much of a 407's body is read to keep its connection; beyond it a new one is cheaper.
MAX_DRAIN = 256 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: [^\0\r\n]*)?\r?\n")
# The beginning of a status line is whole when this, from its own length on, is put behind it.
_STATUS_TEMPLATE = b"HTTP/1.1 200\n"

_NO_HOST = re.compile(r"[\x00-\x20\x7f-\U0010ffff/?#@\[\]]")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f]+(?:[ \t]+[^\x00-\x20\x7f]+)*)?")
# CONNECT has no body (RFC 9110 section 9.3.6), and its Host is the target.
_FIELDS_REFUSED = frozenset([b"host", b"content-length", b"transfer-encoding"])

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_DATE = re.compile(rb"(?i)\ndate:([^\r\n]*)")
# What proxies say of a target's name that they cannot resolve: Squid in a field of its own, others
# as RFC 9209 has it, or in plain words. Compiled when it is needed.
_NO_SUCH_NAME = (
    rb"(?i)ERR_DNS_FAIL|error=dns_|dns lookup fail|unable to determine ip address|"
    rb"(?:name|host|hostname) (?:does not resolve|could not be resolved|not known|not found)|"
    rb"(?:could not|cannot|unable to|failed to) resolve|no such (?:host|domain)|unknown host|"
    rb"name or service not known|dns (?:error|failure|resolution)"
)
# The header fields of a refusal that are needed, with lines that continue them.
_NEEDED = re.compile(
    rb"(?im)^(content-length|transfer-encoding|(?:proxy-)?connection|proxy-authenticate)"
    rb"[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)"
)
_FRAMING = frozenset([b"content-length", b"transfer-encoding"])
_AUTHENTICATION_INFO = re.compile(rb"(?i)\nproxy-authentication-info:([^\r\n]*)")
_MARKUP = re.compile(r"(?is)<(style|script)\b.*?(?:</\1>|$)|<!--.*?(?:-->|$)|<[^>]*(?:>|$)")


@dataclass(frozen=True, slots=True)
class Established:
    """The tunnel stands; `leftover` came behind the answer and is the tunnel's own first bytes."""

    leftover: bytes


@dataclass(frozen=True, slots=True)
class Challenged:
    """407, and somebody may be able to answer it.

    @ivar values: those of its Proxy-Authenticate fields (RFC 9110 section 11.7.1).
    @ivar reusable: whether the answer may go on the same connection.
    @ivar refusal: the failure that it is where nobody can.
    @ivar midway: whether it goes on with what was begun on this connection, which is to be kept
        unless it really ends.
    """

    values: tuple[bytes, ...]
    reusable: bool
    refusal: CredentialsRefused
    midway: bool = False


def authority(host: str, port: int) -> str:
    """`host:port` as CONNECT writes it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connectRequest(host: str, port: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The bytes of a CONNECT request.

    @param host: a name (ASCII) or an address literal without brackets.
    @param headers: further fields, such as Proxy-Authorization.
    @raise ValueError: for a host, port or header that must not stand in a request.
    """
    target = authority(host, port)
    if not 0 < port < 65536 or not host or _NO_HOST.search(host):
        raise ValueError(f"not a target for CONNECT: {target!r}")
    if ":" in host:
        ipaddress.IPv6Address(host)
    for name, value in headers:
        if (
            not _FIELD_NAME.fullmatch(name)
            or name.lower() in _FIELDS_REFUSED
            or not _FIELD_VALUE.fullmatch(value)
        ):
            # Its value may be a secret.
            raise ValueError(f"not a header for CONNECT: {name.decode('ascii', 'replace')!r}")
    lines = [f"CONNECT {target} HTTP/1.1".encode(), f"Host: {target}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def offered(values: Sequence[bytes]) -> tuple[str, ...]:
    """The schemes that a proxy offers, as people write them.

    @param values: those of its Proxy-Authenticate fields.
    """
    if not values:
        return ()
    try:
        return titlesOf(parseChallenges(values))
    except ChallengeError:
        return ()


def _reader(target: str) -> h11.Connection:
    """Reads the answer to a CONNECT request."""
    import h11  # a refusal has time; a command that is started for each connection has not

    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD)
    connection.send(h11.Request(method="CONNECT", target=target, headers=[("Host", target)]))
    connection.send(h11.EndOfMessage())
    return connection


class Handshake:
    """The proxy's side of one CONNECT on one connection, from the first byte of its answer.

    @ivar refusal: the failure that a refused CONNECT will be, as soon as the status is known and
        while the body's beginning is still awaited; else None.
    @ivar challenged: the same for a 407 that may be answered.
    @ivar status: that of the final answer, as soon as its head has come; until then 0.
    """

    __slots__ = (
        "_answerable",
        "_authenticated",
        "_body",
        "_drained",
        "_fields",
        "_head",
        "_hop",
        "_informational",
        "_line",
        "_midway",
        "_port",
        "_reader",
        "_secrets",
        "_start",
        "_target",
        "challenged",
        "refusal",
        "status",
    )

    def __init__(
        self,
        host: str,
        port: int,
        *,
        hop: str = "",
        authenticated: bool = False,
        answerable: bool = False,
        midway: bool = False,
        secrets: Sequence[bytes] = (),
    ) -> None:
        """
        @param host: the target's, as in L{connectRequest}.
        @param hop: the proxy, as failures name it.
        @param authenticated: whether the request carried credentials.
        @param answerable: whether a 407 may be answered.
        @param midway: whether the request carried the beginning of an exchange that only this
            connection can go on with.
        @param secrets: what no failure may show, though the proxy says it.
        """
        self._secrets = secrets
        self._target = authority(host, port)
        self._port = port
        self._hop = hop
        self._authenticated = authenticated
        self._answerable = answerable
        self._midway = midway
        self._head = b""
        self._start = 0  # of the answer that is being read, behind the 1xx before it
        self._line = 0  # of the line that is being read
        self._fields = 0
        self._informational = 0
        self._reader: h11.Connection | None = None
        self._body = b""
        self._drained = 0
        self.refusal: ProxyRefused | None = None
        self.challenged: Challenged | None = None
        self.status = 0

    @property
    def begun(self) -> bool:
        """Whether anything of an answer has come."""
        return bool(self._head)

    @property
    def authenticationInfo(self) -> bytes | None:
        """The value of Proxy-Authentication-Info in an answer of 2xx (RFC 7615 section 4)."""
        match = _AUTHENTICATION_INFO.search(self._head[: self._line], self._start)
        return match[1].strip() if match else None

    @property
    def date(self) -> datetime | None:
        """What the proxy's clock said at its final answer (RFC 9110 section 6.6.1)."""
        match = _DATE.search(self._head[: self._line], self._start)
        if match is None or not self.status:
            return None
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(match[1].decode("ascii").strip())
        except Exception:  # it raises more than ValueError: OverflowError, TypeError
            return None
        return date if date.tzinfo else date.replace(tzinfo=timezone.utc)

    def feed(self, data: bytes) -> Established | Challenged | None:
        """Take what the proxy sent.

        @return: None where more is needed.
        @raise ProxyRefused: for any final answer but 2xx, and 407 where that may be answered.
        @raise ProxyFailed: for what is no answer to CONNECT; at the first impossible byte.
        """
        if self._reader is not None:
            # h11 takes no data for the end.
            return self._readBody(data) if data else None
        self._head += data
        while True:
            end = self._head.find(b"\n", self._line) + 1
            if not end:
                self._checkUnfinished()
                return None
            line = self._head[self._line : end]
            if end > MAX_HEAD:
                raise self._failed(f"sent a head of more than {MAX_HEAD} bytes")
            if self._line == self._start:
                if not _STATUS_LINE.fullmatch(line):
                    raise self._notHTTP()
            elif line in (b"\r\n", b"\n"):
                self._line = end
                outcome = self._headEnded()
                if outcome is not None or self._reader is not None:
                    return outcome
                continue
            elif b"\0" in line:
                raise self._failed("sent a NUL byte in the head of its answer")
            else:
                self._fields += 1
                if self._fields > MAX_HEADERS and self._statusBegun() != b"2":
                    raise self._failed(f"sent more than {MAX_HEADERS} header lines")
            self._line = end

    def end(self) -> TunnelError:
        """What it means that the connection ended here."""
        if self.refusal is not None:
            return self._complete()
        if not self.begun:
            return self._failed("closed the connection without an answer", causes.HUNG_UP)
        return self._failed("closed the connection in the middle of its answer")

    def expire(self, seconds: float) -> TunnelError:
        """What it means that the time was over here.

        @param seconds: the deadline that was set.
        """
        if self.refusal is not None:
            return self._complete()
        what = "finish its answer to" if self.begun else "answer"
        return ProxyTimeout(
            f"{self._who()} did not {what} CONNECT {self._target} within {seconds:g} s",
            hop=self._hop,
            cause=causes.SILENT.id,
        )

    def _checkUnfinished(self) -> None:
        """Look at a line of which the end has not come yet."""
        line = self._head[self._line :]
        if len(self._head) > MAX_HEAD:
            raise self._failed(f"sent a head of more than {MAX_HEAD} bytes")
        if self._line == self._start:
            rest = b"\n" if line.endswith(b"\r") else _STATUS_TEMPLATE[len(line) :] or b"\n"
            if not _STATUS_LINE.fullmatch(line + rest):
                raise self._notHTTP()
        elif b"\0" in line:
            raise self._failed("sent a NUL byte in the head of its answer")

    def _statusBegun(self) -> bytes:
        """The first digit of the status that is being read."""
        return self._head[self._start + 9 : self._start + 10]

    def _headEnded(self) -> Established | Challenged | None:
        status = int(self._head[self._start + 9 : self._start + 12])
        if status >= 200:
            self.status = status
        if 200 <= status < 300:
            return Established(self._head[self._line :])
        if status < 200:
            self._informational += 1
            if status == 101 or self._informational > MAX_INFORMATIONAL:
                what = "switched protocols" if status == 101 else "sent 1xx answers without end"
                raise self._failed(f"{what} instead of answering")
            self._start = self._line
            return None
        reasonEnd = self._head.index(b"\n", self._start)
        self.refusal = self._refused(
            status, _text(self._masked(self._head[self._start + 12 : reasonEnd]))
        )
        self._reader = _reader(self._target)
        fields, rest = self._head[reasonEnd + 1 : self._line], self._head[self._line :]
        version = self._head[self._start : self._start + 8]
        return self._readBody(b"%b %d\r\n%b\r\n" % (version, status, self._needed(fields)) + rest)

    def _needed(self, fields: bytes) -> bytes:
        """The fields of a refusal's head that say where its body ends, and what is asked, as h11
        can read them. All others mean nothing to us, however odd they are.
        """
        lines = [
            (match[1].lower(), b" ".join(match[2].split())) for match in _NEEDED.finditer(fields)
        ]
        names = {name for name, _ in lines}
        if self._midway and not _FRAMING & names and _goesOn(lines):
            # It must go on on this connection, so that there is no body that it could end.
            lines.append((b"content-length", b"0"))
        return b"".join(name + b": " + value + b"\r\n" for name, value in lines)

    def _readBody(self, data: bytes) -> Challenged | None:
        import h11

        reader = self._reader
        assert reader is not None
        try:
            reader.receive_data(data)
            while self._wantsBody():
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    if self.challenged is None or self.challenged.reusable:
                        return None
                    break
                if isinstance(event, h11.Data):
                    self._drained += len(event.data)
                    self._body += event.data[: MAX_EXCERPT - len(self._body)]
                elif isinstance(event, h11.Response):
                    if event.status_code == 407:
                        self._challenge(event)
                else:
                    if reader.trailing_data[0]:  # the answer to a request that was not sent yet
                        self.loseConnection()
                    break
        except h11.RemoteProtocolError:
            isAsking = self._answerable and isinstance(self.refusal, CredentialsRefused)
            if isAsking and self.challenged is None:
                raise self._failed("sent a 407 whose framing makes no sense") from None
            # It is refused all the same; only what its body says stays unknown.
            self.loseConnection()
        if not self._drains():
            self.loseConnection()
        refusal = self._complete()
        if self.challenged is None:
            raise refusal
        return self.challenged

    def _wantsBody(self) -> bool:
        if self.challenged is None:
            return len(self._body) < MAX_EXCERPT
        return self._drains()

    def _drains(self) -> bool:
        """Whether a 407's body is still worth being read."""
        midway = self.challenged is not None and self.challenged.midway
        return midway or self._drained <= MAX_DRAIN

    def _challenge(self, response: h11.Response) -> None:
        fields = response.headers
        values = tuple(value for name, value in fields if name == b"proxy-authenticate")
        refusal = self.refusal
        assert isinstance(refusal, CredentialsRefused)
        if not self._answerable:
            if not self._authenticated and (schemes := offered(values)):
                refusal.hint = f"it offers {', '.join(schemes)}; {refusal.hint}"
            return
        names = {name for name, _ in fields}
        midway = self._midway and _goesOn(fields)
        if names >= _FRAMING:
            raise self._failed("sent a 407 with both Content-Length and Transfer-Encoding")
        options = {
            option.strip().lower()
            for name, value in fields
            if name in (b"connection", b"proxy-connection")
            for option in value.split(b",")
        }
        # NTLM is bound to a connection, and old proxies speak it over HTTP/1.0 with keep-alive.
        persistent = midway or response.http_version >= b"1.1" or b"keep-alive" in options
        framed = bool(_FRAMING & names)
        reusable = persistent and framed and b"close" not in options
        self.challenged = Challenged(values, reusable, refusal, midway)

    def loseConnection(self) -> None:
        """The connection cannot carry the answer to a challenge."""
        if self.challenged is not None:
            self.challenged = replace(self.challenged, reusable=False)

    def _complete(self) -> ProxyRefused:
        refusal = self.refusal
        assert refusal is not None
        refusal.body = _excerpt(self._masked(self._body)[:MAX_EXCERPT])
        said = self._head[self._start :] + self._body
        if refusal.status >= 500 and re.search(_NO_SUCH_NAME, said):
            refusal.cause, refusal.hint = causes.TARGET_NAME.id, causes.TARGET_NAME.hint
        return refusal

    def _refused(self, status: int, reason: str) -> ProxyRefused:
        kind: type[ProxyRefused] = ProxyRefused
        message, cause, hint = f"{self._who()} refuses {self._target}", causes.TARGET_REFUSED, ""
        if status == 407:
            kind = CredentialsRefused
            if self._authenticated:
                message = f"{self._who()} rejects the credentials"
                cause = causes.CREDENTIALS_REJECTED
            else:
                message = f"{self._who()} wants credentials"
                cause = causes.CREDENTIALS_MISSING
            hint = cause.hint
        elif status in (502, 503, 504):
            kind = TargetUnreachable
            message, cause = f"{self._who()} cannot reach {self._target}", causes.TARGET_DOWN
        elif status in (403, 405) and self._port != 443:
            cause = causes.PORT_REFUSED
            hint = cause.hint.format(port=self._port)
        elif status in (400, 404, 405, 501):
            cause = causes.WEB_SERVER
            hint = cause.hint
        message = f"{message}: {status} {reason}".rstrip()
        return kind(message, status=status, reason=reason, hop=self._hop, hint=hint, cause=cause.id)

    def _masked(self, data: bytes) -> bytes:
        """What a proxy says, without what it was told: some send the request back."""
        for secret in self._secrets:
            data = data.replace(secret, b"***")
        return data

    def _who(self) -> str:
        return f"the proxy {self._hop}" if self._hop else "the proxy"

    def _failed(self, what: str, cause: Cause | None = None) -> ProxyFailed:
        message = f"{self._who()} {what}"
        if cause is None:  # its words say it all
            return ProxyFailed(message, hop=self._hop, cause=causes.BROKEN.id)
        return ProxyFailed(message, hop=self._hop, hint=cause.hint, cause=cause.id)

    def _notHTTP(self) -> ProxyFailed:
        start = self._head[self._start :]
        cause = causes.OTHER_SERVER
        if start.startswith((b"\x15\x03", b"\x16\x03")):
            cause = causes.SPEAKS_TLS
        elif start.startswith(b"SSH-"):
            cause = causes.SSH_SERVER
        return self._failed("does not answer as an HTTP proxy", cause)


def _goesOn(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a challenge holds the next part of an exchange, and does not begin one."""
    values = [value for name, value in fields if name == b"proxy-authenticate"]
    try:
        return any(c.token and c.scheme != "basic" for c in parseChallenges(values))
    except ChallengeError:
        return False


def _text(data: bytes) -> str:
    """One line without control characters."""
    return " ".join(_CONTROLS.sub(" ", data.decode("utf-8", "replace")).split())


def _excerpt(body: bytes) -> str:
    """What a reader of the log can use of an error page."""
    text = body.decode("utf-8", "replace")
    return _text(_MARKUP.sub(" ", text).encode()) if "<" in text else _text(body)
