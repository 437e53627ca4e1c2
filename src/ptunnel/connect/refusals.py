"""Why a proxy refuses a CONNECT: its answer, put into words and given a cause.

A status says little: for a name that does not resolve squid answers 500, Apache 502, privoxy 404;
for a closed port tinyproxy answers 500, Apache 503. So the header fields and the page come first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TargetUnreachable,
)
from ptunnel.log.excerpts import MAX_REASON, excerpt, oneLine

_REASON = re.compile(rb"HTTP/1\.[0-9] [0-9]{3} ?([^\r\n]*)")

# Words of squid's X-Squid-Error, and of RFC 9209's Proxy-Status.
_FIELDS = re.compile(
    rb"(?im)^(?:x-squid-error:[ \t]*(ERR_[A-Z_]+)|proxy-status:[^\n]*\berror=([a-z_]+))"
)
_BY_FIELD = {
    b"ERR_DNS_FAIL": causes.TARGET_NAME,
    b"ERR_CANNOT_FORWARD": causes.TARGET_NAME,  # it has no address to try
    b"ERR_INVALID_URL": causes.TARGET_NAME,  # with an underscore, for example
    b"ERR_CONNECT_FAIL": causes.TARGET_DOWN,
    b"ERR_READ_TIMEOUT": causes.TARGET_DOWN,
    b"ERR_READ_ERROR": causes.TARGET_DOWN,
    b"ERR_LIFETIME_EXP": causes.TARGET_DOWN,
    b"ERR_ACCESS_DENIED": causes.TARGET_REFUSED,
    b"ERR_FORWARDING_DENIED": causes.TARGET_REFUSED,
    b"ERR_SOCKET_FAILURE": causes.PROXY_OVERLOADED,
    b"ERR_SHUTTING_DOWN": causes.PROXY_OVERLOADED,
    b"ERR_ICAP_FAILURE": causes.PROXY_OVERLOADED,
    b"dns_error": causes.TARGET_NAME,
    b"dns_timeout": causes.TARGET_NAME,
    b"destination_unavailable": causes.TARGET_DOWN,
    b"destination_ip_unroutable": causes.TARGET_DOWN,
    b"connection_refused": causes.TARGET_DOWN,
    b"connection_terminated": causes.TARGET_DOWN,
    b"connection_timeout": causes.TARGET_DOWN,
    b"destination_ip_prohibited": causes.TARGET_REFUSED,
    b"http_request_denied": causes.TARGET_REFUSED,
    b"connection_limit_reached": causes.PROXY_OVERLOADED,
    b"proxy_internal_error": causes.PROXY_OVERLOADED,
    b"proxy_configuration_error": causes.PROXY_OVERLOADED,
}
# Plain words of a reason or page. Apache says "capacity problems" for a closed port.
_BY_WORDS: tuple[tuple[str, Cause], ...] = (
    (
        r"dns[ _](?:lookup )?(?:fail|error|resolution|unresolved)|(?:could |can)not be resolved|"
        r"err_cannot_forward|"
        r"(?:name|host|hostname|domain) (?:does not resolve|could not be resolved|not known)|"
        r"(?:name|host|hostname|domain|server)(?: was)? not found|cannot find server|nxdomain|"
        r"(?:could not|cannot|can't|unable to|failed to) (?:resolve|determine ip address)|"
        r"no such (?:host|domain)|(?:unknown|unresolved) (?:host|domain)|getaddrinfo|"
        r"name or service not known|name resolution|failed to lookup address|"
        r"(?:name|domain)[^<>]{0,80} (?:does not exist|(?:could |can)not be (?:resolved|found))",
        causes.TARGET_NAME,
    ),
    (
        r"no server is available to handle this request|no healthy upstream|"
        r"too many (?:open )?(?:connections|clients|requests|users|files)|connection limit|"
        r"maximum number of (?:open )?(?:connections|clients|users)|reset reason: overflow|"
        r"\boverloaded\b|(?:proxy|server) is (?:too )?busy",
        causes.PROXY_OVERLOADED,
    ),
    (
        r"access (?:is )?denied|(?:blocked|denied|forbidden|prohibited) by|"
        r"administratively prohibited",
        causes.TARGET_REFUSED,
    ),
)
_RETRY_AFTER = re.compile(rb"(?im)^retry-after:")


@dataclass(frozen=True, slots=True)
class Asked:
    """A CONNECT request, as its failures need it.

    @ivar host: the target's, without brackets.
    @ivar authority: the target's `host:port`.
    @ivar hop: the proxy's name in failures, or "".
    @ivar authenticated: True if the request carried credentials.
    @ivar secrets: never shown in a failure.
    """

    host: str
    port: int
    authority: str
    hop: str = ""
    authenticated: bool = False
    secrets: Sequence[bytes] = ()

    @property
    def who(self) -> str:
        """The proxy, with the article."""
        return f"the proxy {self.hop}" if self.hop else "the proxy"

    def failed(self, what: str, cause: Cause = causes.BROKEN) -> ProxyFailed:
        """The failure of an answer that is missing, or not valid.

        @param what: what the proxy did, in words that follow its name.
        """
        hint = "" if cause is causes.BROKEN else cause.hint  # the words say it all
        return ProxyFailed(f"{self.who} {what}", hop=self.hop, hint=hint, cause=cause)

    def hungUp(self, begun: bool) -> ProxyFailed:
        """The failure of a connection that ended too soon.

        @param begun: True if a byte of an answer had come.
        """
        if begun:
            return self.failed("closed the connection in the middle of its answer")
        return self.failed("closed the connection without an answer", causes.HUNG_UP)

    def late(self, begun: bool, seconds: float) -> ProxyTimeout:
        """The failure of an answer that was not complete within so many seconds.

        @param begun: True if a byte of it had come.
        """
        what = "finish its answer to" if begun else "answer"
        message = f"did not {what} CONNECT {self.authority} within {seconds:g} s"
        return ProxyTimeout(f"{self.who} {message}", hop=self.hop, cause=causes.SILENT)


def refusalOf(
    asked: Asked, head: bytes, body: bytes = b"", offers: Sequence[str] = ()
) -> ProxyRefused:
    """Return the failure for a final answer other than 2xx.

    @param head: its status line and header fields.
    @param body: the part of its body that has come, or its first L{ptunnel.log.excerpts.room}
        bytes.
    @param offers: the schemes of a 407, for the hint.
    """
    status = int(head[9:12])
    match = _REASON.match(head)
    assert match is not None
    reason = oneLine(match[1], asked.secrets, MAX_REASON)
    page = excerpt(body, asked.secrets)
    cause = _causeOf(asked, status, head, body)
    kind, what = _KINDS.get(cause, (ProxyRefused, "refuses {target}"))
    message = f"{asked.who} {what.format(target=asked.authority)}: {status} {reason}".rstrip()
    hint = cause.hint.format(port=asked.port) if cause in _HINTED else ""
    if offers:
        hint = f"it offers {', '.join(offers)}; {hint}"
    return kind(
        message, status=status, reason=reason, body=page, hop=asked.hop, hint=hint, cause=cause
    )


_KINDS: dict[Cause, tuple[type[ProxyRefused], str]] = {
    causes.CREDENTIALS_REJECTED: (CredentialsRefused, "rejects the credentials"),
    causes.CREDENTIALS_MISSING: (CredentialsRefused, "wants credentials"),
    causes.TARGET_NAME: (TargetUnreachable, "cannot reach {target}"),
    causes.TARGET_DOWN: (TargetUnreachable, "cannot reach {target}"),
    causes.PROXY_OVERLOADED: (ProxyRefused, "cannot serve {target} now"),
}
# The causes whose hint is a part of the failure's line; for the others the line says enough.
_HINTED = frozenset(
    [
        causes.CREDENTIALS_REJECTED,
        causes.CREDENTIALS_MISSING,
        causes.TARGET_NAME,
        causes.PROXY_OVERLOADED,
        causes.PORT_REFUSED,
        causes.WEB_SERVER,
    ]
)


def _causeOf(asked: Asked, status: int, head: bytes, body: bytes) -> Cause:
    if status == 407:
        return causes.CREDENTIALS_REJECTED if asked.authenticated else causes.CREDENTIALS_MISSING
    said = _byField(head) if status >= 400 else None
    if said is causes.TARGET_REFUSED and status < 500:
        said = None  # the status says more: the port may be the reason
    elif said is None and (status in (404, 408, 410, 429) or status >= 500):
        said = _byWords(head, body)
    if said is causes.TARGET_NAME and _isAddress(asked.host):
        return causes.TARGET_DOWN
    return said or _byStatus(status, asked.port)


def _byField(head: bytes) -> Cause | None:
    field = _FIELDS.search(head)
    return _BY_FIELD.get((field[1] or b"").upper() or field[2].lower()) if field else None


def _byWords(head: bytes, body: bytes) -> Cause | None:
    reason = head.partition(b"\n")[0]
    text = " ".join((reason + b" " + body).decode("latin-1").split())
    for words, cause in _BY_WORDS:
        if re.search(words, text, re.IGNORECASE):
            return cause
    return causes.PROXY_OVERLOADED if _RETRY_AFTER.search(head) else None


def _byStatus(status: int, port: int) -> Cause:
    if status in (403, 405) and port != 443:
        return causes.PORT_REFUSED
    if status in (400, 404, 405, 501, 505):
        return causes.WEB_SERVER
    if status in (408, 429):
        return causes.PROXY_OVERLOADED
    # 511 comes from a network that requires a login; it says nothing about a target.
    return causes.TARGET_DOWN if 500 <= status < 600 and status != 511 else causes.TARGET_REFUSED


def _isAddress(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
