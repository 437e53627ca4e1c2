"""Failures of TLS, worded for users; OpenSSL's own words are for programmers."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.error import ConnectionClosed

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.errors import CertificateRefused, TunnelError, Unreachable, reasonOf

F = TypeVar("F", bound=TunnelError)

# Alerts about a client's certificate, in OpenSSL's words (RFC 8446 section 6.2). Before TLS 1.3
# many servers send "bad certificate" if they got none.
_ABOUT_OURS = {
    "access denied",
    "bad certificate",
    "certificate expired",
    "certificate revoked",
    "certificate unknown",
    "unknown ca",
    "unsupported certificate",
}

_NO_TLS = {"wrong version number", "packet length too long"}

_TOO_OLD = "it speaks no version of TLS that is safe, 1.2 or later", causes.TLS_VERSION

# Other words of OpenSSL's, each with ours and the cause.
_FAILURES: dict[str, tuple[str, Cause]] = {
    "protocol version": _TOO_OLD,
    "unsupported protocol": _TOO_OLD,
    "handshake failure": (
        'it broke the handshake off ("handshake failure")',
        causes.TLS_HANDSHAKE,
    ),
    "unrecognized name": ("it does not know the name that it is asked for", causes.TLS_NAME),
    "no application protocol": (
        "it speaks none of the protocols that are offered to it",
        causes.TLS,
    ),
}


def tlsFailure(error: BaseException, hop: str = "", *, target: bool = False) -> TunnelError:
    """Return the error for a broken TLS connection.

    @param error: the reason for which the transport was lost: OpenSSL's error or, in the
        handshake, ConnectionLost.
    @param hop: the name of the other end.
    @param target: whether that is the target and not a proxy.
    @return: CertificateRefused for a client certificate, else Unreachable.
    """
    if isinstance(error, ConnectionClosed):
        closed = "the connection was closed in the middle of the handshake"
        return failed(Unreachable, hop, closed, _noTls(target))
    words = wordsOf(error)
    for word in words:
        # "tlsv1 alert unknown ca", "tlsv1 unrecognized name", "wrong version number"
        what = word.rpartition(" alert ")[2].removeprefix("tlsv1 ")
        if what == "certificate required":
            lack = "it wants a client certificate"
            return failed(CertificateRefused, hop, lack, causes.CLIENT_CERTIFICATE)
        if what in _ABOUT_OURS and " alert " in word:
            refusal = f'it refuses our client certificate, or that there is none ("{what}")'
            return failed(CertificateRefused, hop, refusal, causes.CLIENT_CERTIFICATE)
        if what in _NO_TLS:
            return failed(Unreachable, hop, "it does not speak TLS", _noTls(target))
        if what in _FAILURES:
            return failed(Unreachable, hop, *_FAILURES[what])
    return failed(Unreachable, hop, ", ".join(words) or reasonOf(error), causes.TLS)


def noHandshake(hop: str, seconds: float, *, target: bool = False) -> Unreachable:
    """Return the error for a handshake that was not done in time.

    @param hop: the name of the other end.
    @param seconds: the time that the handshake had.
    @param target: whether that is the target and not a proxy.
    """
    message = overTls(hop, f"no handshake within {seconds:g} s")
    return Unreachable(message, hop=hop, cause=_noTls(target))


def failed(kind: type[F], hop: str, what: str, cause: Cause) -> F:
    """Return an error for a failure of TLS with a hop."""
    return kind(overTls(hop, what), hop=hop, hint=cause.hint, cause=cause)


def overTls(hop: str, what: str) -> str:
    """Return the message of such an error."""
    return f"cannot reach {hop} over TLS: {what}"


def _noTls(target: bool) -> Cause:
    return causes.TARGET_NO_TLS if target else causes.NO_TLS


def wordsOf(error: BaseException) -> list[str]:
    """Return the reasons in OpenSSL's error, a list of library, function and reason."""
    queue = error.args[0] if error.args else None
    return [str(entry[-1]) for entry in queue if entry[-1]] if isinstance(queue, list) else []
