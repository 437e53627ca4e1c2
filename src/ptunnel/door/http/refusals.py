"""What a client of an HTTP door gets where its target is not connected: status, words, hint.

The words are of our own. A failure's message may name proxies and files, and quote others.
"""

from __future__ import annotations

from dataclasses import dataclass

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.door.http.pages import answer
from ptunnel.errors import (
    CertificateRefused,
    CredentialsRefused,
    CredentialsUnavailable,
    LocalFailure,
    NotServed,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    RouteFailed,
    TargetUnreachable,
    Unreachable,
)


@dataclass(frozen=True, slots=True)
class _Said:
    """@ivar error: of Proxy-Status (RFC 9209 section 2.3)."""

    status: int
    words: str
    error: str
    hint: str = ""


_UNREACHED = _Said(502, "The target cannot be reached.", "destination_unavailable")
_NO_ENTRY = _Said(
    502, "The next proxy does not accept this one's login.", "proxy_configuration_error"
)
_OF_PROXY = _Said(502, "The next proxy cannot be reached.", "destination_unavailable")
_FORBIDDEN = _Said(403, "The next proxy refuses this target.", "http_request_denied")
_OWN = _Said(503, "The machine of this proxy cannot make the connection.", "proxy_internal_error")
_UNKNOWN = _Said(502, "The connection could not be made.", "proxy_internal_error")

_BY_CAUSE: dict[Cause, _Said] = {
    causes.PORT_REFUSED: _Said(
        403,
        "The next proxy refuses this port.",
        "http_request_denied",
        "Many proxies allow port 443 only; their administrators can allow others.",
    ),
    causes.TARGET_REFUSED: _FORBIDDEN,
    causes.TARGET_NAME: _Said(502, "The target's name does not resolve.", "dns_error"),
    causes.TARGET_DOWN: _UNREACHED,
    causes.PROXY_OVERLOADED: _Said(
        503, "The next proxy has too much to do.", "connection_limit_reached"
    ),
    causes.DRAINED: _Said(503, "This proxy was drained.", "proxy_internal_error"),
    causes.LEADS_BACK: _Said(502, "The target is this proxy itself.", "proxy_loop_detected"),
    causes.CREDENTIALS_MISSING: _NO_ENTRY,
    causes.CREDENTIALS_REJECTED: _NO_ENTRY,
    causes.SCHEME_NOT_SERVED: _NO_ENTRY,
}
# Of a connection that was tried from here.
_OF_TARGETS: dict[Cause, _Said] = {
    causes.NO_ANSWER: _Said(504, "The target does not answer.", "connection_timeout"),
    causes.NO_ROUTE: _Said(502, "There is no route to the target.", "destination_ip_unroutable"),
    causes.REFUSED: _Said(502, "The target refuses the connection.", "connection_refused"),
}
_LATE = _Said(504, "The next proxy does not answer.", "connection_timeout")
# The first kind that fits counts.
_BY_KIND: tuple[tuple[type[BaseException], _Said], ...] = (
    (NotServed, _Said(403, "This proxy does not serve this target.", "http_request_denied")),
    (CredentialsRefused, _NO_ENTRY),
    (CredentialsUnavailable, _NO_ENTRY),
    (TargetUnreachable, _UNREACHED),
    (ProxyRefused, _FORBIDDEN),
    (ProxyTimeout, _LATE),
    (ProxyFailed, _Said(502, "The next proxy does not answer as one.", "http_protocol_error")),
    (CertificateRefused, _Said(502, "TLS to the next proxy fails.", "tls_certificate_error")),
    (LocalFailure, _OWN),
)


def refusal(error: BaseException, *, direct: bool = False, isHead: bool = False) -> bytes:
    """Return the answer that tells a client of a failure; the connection closes after it.

    @param error: of several ways, the one that says most about the target counts.
    @param direct: whether there was no proxy, so an Unreachable is about the target.
    @param isHead: whether the request was HEAD.
    """
    error = _telling(error)
    said = _saidOf(error, direct)
    hint = said.hint or _hintOf(error)
    fields = [("Proxy-Status", f"ptunnel; error={said.error}")]
    reason = said.words.rstrip(".")
    return answer(said.status, [said.words, hint], reason=reason, fields=fields, isHead=isHead)


def loginNeeded(*, isHead: bool = False) -> bytes:
    """Return the answer for a client that must say who it is, and has not, or not rightly."""
    words = "This proxy serves those who give its user name and password."
    hint = "Programs take them in the proxy's URL, as a rule: http://USER:PASSWORD@HOST:PORT"
    fields = [("Proxy-Authenticate", 'Basic realm="ptunnel", charset="UTF-8"')]
    return answer(407, [words, hint], fields=fields, isHead=isHead)


def _telling(error: BaseException) -> BaseException:
    while isinstance(error, RouteFailed) and error.failures:
        ofTarget = (
            each
            for each in error.failures
            if isinstance(each, ProxyRefused) and not isinstance(each, CredentialsRefused)
        )
        error = next(ofTarget, error.failures[0])
    return error


def _saidOf(error: BaseException, direct: bool) -> _Said:
    cause = getattr(error, "cause", None)
    if getattr(error, "status", 0) == 504:
        return _Said(504, _UNREACHED.words, "connection_timeout")
    if cause in _BY_CAUSE:
        return _BY_CAUSE[cause]
    if isinstance(error, Unreachable):
        if direct:
            return _OF_TARGETS.get(cause, _UNREACHED) if cause else _UNREACHED
        return _LATE if cause is causes.NO_ANSWER else _OF_PROXY
    return next((said for kind, said in _BY_KIND if isinstance(error, kind)), _UNKNOWN)


def _hintOf(error: BaseException) -> str:
    """Return its cause's hint, as a sentence; "" for one with blanks, which others may fill in."""
    cause = getattr(error, "cause", None)
    hint = cause.hint if isinstance(cause, Cause) and "{" not in cause.hint else ""
    if not hint:
        return ""
    return hint[0].upper() + hint[1:] + ("" if hint.endswith("?") else ".")
