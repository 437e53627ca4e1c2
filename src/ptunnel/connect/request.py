"""A CONNECT request as bytes (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from ptunnel._version import __version__
from ptunnel.net.addresses import hostPort

USER_AGENT = (b"User-Agent", f"ptunnel/{__version__}".encode())

_NO_HOST = re.compile(r"[\x00-\x20\x7f-\U0010ffff/?#@\[\]]")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f]+(?:[ \t]+[^\x00-\x20\x7f]+)*)?")
# CONNECT has no body (RFC 9110 section 9.3.6), and its Host is the target.
_FIELDS_REFUSED = frozenset([b"host", b"content-length", b"transfer-encoding"])


def connectRequest(host: str, port: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the bytes of a CONNECT request.

    @param host: a name (ASCII) or an address literal without brackets.
    @param headers: further fields, such as Proxy-Authorization.
    @raise ValueError: for a host, port or header that a request must not contain.
    """
    target = hostPort(host, port)
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


class ConnectRequest:
    """The requests for one target, which differ in the credentials only.

    @ivar target: `host:port`.
    @ivar secrets: the parts of the header fields that no failure may show.
    """

    def __init__(self, host: str, port: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """
        @param headers: further fields. User-Agent is C{ptunnel/VERSION} unless it is among them.
        @raise ValueError: as L{connectRequest}.
        """
        self.host = host
        self.port = port
        self.target = hostPort(host, port)
        given = [(name.encode(), value.encode()) for name, value in headers]
        self.secrets = _secretsOf(given)
        self._fields = given
        if not any(name.lower() == b"user-agent" for name, _ in given):
            self._fields = [USER_AGENT, *given]  # some proxies refuse a request without
        self._plain = connectRequest(host, port, self._fields)

    def encode(self, authorization: bytes | None = None, bound: bool = False) -> bytes:
        """Return the bytes of the request.

        @param authorization: the value of Proxy-Authorization.
        @param bound: True if it authenticates the connection, which must then be kept.
        """
        if authorization is None:
            return self._plain
        fields = [*self._fields, (b"Proxy-Authorization", authorization)]
        if bound:
            fields.append((b"Proxy-Connection", b"keep-alive"))
        return connectRequest(self.host, self.port, fields)


def _secretsOf(fields: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """Return the parts of these header fields that no failure may show."""
    if not fields:
        return ()
    from ptunnel.log.excerpts import secretsOf

    return tuple(secret for _, value in fields for secret in secretsOf(value))
