"""Where a request leads: what its target says, and that Host says the same (RFC 9112, 3.2)."""

from __future__ import annotations

import re

from ptunnel.door.http.head import Head
from ptunnel.door.http.pages import Objection
from ptunnel.net.asked import Request, nameOf

HTTP_PORT = 80

_URL = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)")
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(?::(.*))?")
_PORT = re.compile(rb"[1-9][0-9]{0,4}")

_HINT_CONNECT = "CONNECT names its target as host:port, an IPv6 address in brackets."
_HINT_SCHEME = (
    "This proxy fetches http:// URLs; for all others its clients ask for a tunnel, CONNECT."
)
_SAID_SELF = "You have reached a proxy, and not a web site."
_HINT_SELF = (
    "Set this address and port as the HTTP proxy of your browser or program, or as http_proxy and "
    "https_proxy in the environment."
)


def connectTarget(head: Head) -> Request:
    """Return the target of CONNECT. @raise Objection: if it is none, or Host has another one."""
    if b"/" in head.target or b"?" in head.target or b"#" in head.target:
        raise Objection(400, "CONNECT with a URL", _HINT_CONNECT)
    target = _requestOf(head.target, None)
    _checkHost(head, head.target, target, target.port)  # some leave the port out of it
    return target


def urlTarget(head: Head) -> tuple[Request, bytes]:
    """Return where an http:// URL leads, and the target in origin form.

    @raise Objection: if it is none, or Host has another one.
    """
    match = _URL.fullmatch(head.target)
    if match is None:
        raise _noUrl(head.target)
    scheme, authority, path = match.groups()
    if scheme.lower() != b"http":
        raise Objection(501, "a URL that is not http://", _HINT_SCHEME)
    if b"#" in path:
        raise Objection(400, "a URL with a fragment")
    target = _requestOf(authority, HTTP_PORT)
    if not head.values(b"host") and head.version != b"1.0":
        raise Objection(400, "HTTP/1.1 without Host")
    _checkHost(head, authority, target, HTTP_PORT)
    if not path and head.method == b"OPTIONS":
        return target, b"*"
    return target, path if path.startswith(b"/") else b"/" + path


def _noUrl(target: bytes) -> Objection:
    if target.startswith(b"/") or target == b"*":
        return Objection(
            400, "a request to this proxy itself, as to a web server", _HINT_SELF, _SAID_SELF
        )
    return Objection(400, "a target that is no URL", _HINT_SCHEME)


def _checkHost(head: Head, written: bytes, target: Request, default: int) -> None:
    """Check that Host, where there is one, is the target. @param written: the target as it came."""
    hosts = head.values(b"host")
    if len(hosts) > 1:
        raise Objection(400, "several Host fields")
    if not hosts:
        return
    if hosts[0] == written:
        return
    try:
        agrees = _requestOf(hosts[0], default) == target
    except Objection:
        raise Objection(400, "a Host that is no host") from None
    if not agrees:
        raise Objection(400, "a target that disagrees with Host")


def _requestOf(authority: bytes, default: int | None) -> Request:
    """Return host and port, the name in lower case.

    @param default: the port where there is none; None: there must be one.
    """
    if b"@" in authority:
        raise Objection(400, "a target with a user name in it")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        hint = _HINT_CONNECT if authority.count(b":") > 1 else ""
        raise Objection(400, "a target whose host is none", hint)
    host, port = match.groups()
    isBracketed = host.startswith(b"[")
    name = nameOf(host[1:-1] if isBracketed else host)
    if name is None or isBracketed != (":" in name):
        raise Objection(400, "a target whose host is none")
    if port is None and default is None:
        raise Objection(400, "CONNECT without a port", _HINT_CONNECT)
    if port is None:
        assert default is not None
        return Request(name.lower(), default)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise Objection(400, "a target whose port is none")
    return Request(name.lower(), int(port))
