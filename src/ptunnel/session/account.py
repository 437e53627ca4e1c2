"""What is said of a session at its end: in words, and in fields for machines (docs/logs.md)."""

from __future__ import annotations

from typing import Any, NamedTuple

from ptunnel.errors import (
    LocalFailure,
    NotServed,
    ProxyTimeout,
    RouteFailed,
    TunnelError,
    isShortage,
    reasonOf,
    remedyOf,
)
from ptunnel.relay.outcome import Cause, Ended
from ptunnel.session.introduce import PRELUDE_WAIT

_WHO = {0: "client", 1: "target", None: "tunnel"}

_CAUSES: dict[Cause, str] = {
    "end": "closed by the {}",
    "reset": "reset by the {}",
    "cut": "cut off by the {}, whose TLS connection ended without a close_notify,",
    "idle": "closed as idle",
    "half-close": "closed as idle after one side had ended",
    "linger": "aborted: what was left could not be sent",
    "closed": "closed from here",
    "aborted": "aborted from here",
}

# Termination codes, as HAProxy's: who ended the session, and in which phase. By which side was
# first: the client, the target, neither.
_CODES: dict[Cause, tuple[str, str, str]] = {
    "end": ("--", "--", "--"),
    "reset": ("CD", "SD", "SD"),
    "cut": ("CD", "SD", "SD"),
    "idle": ("cD", "cD", "cD"),
    "half-close": ("sL", "cL", "cL"),  # the other side is waited for
    "linger": ("sL", "cL", "cL"),
    "closed": ("KD", "KD", "KD"),
    "aborted": ("KD", "KD", "KD"),
}


class Account(NamedTuple):
    """@ivar text: the line, without the name of the session and the termination code."""

    text: str
    fields: dict[str, Any]


LATE = "late"
_UNUSED = {"bytes_sent": 0, "bytes_received": 0}


def ofEnded(ended: Ended, connecting: float, whole: float, holdEnd: bool) -> Account:
    """Return the account of a session that was joined.

    @param connecting: seconds from the client's arrival to the connection.
    @param whole: seconds from there to the end.
    @param holdEnd: whether the client's end was held back.
    """
    how = _CAUSES[ended.cause].format(_WHO[ended.first])
    if ended.unanswered and ended.sent and not holdEnd:
        how += ", then by the target, which answered nothing (hold-end),"
    code = _CODES[ended.cause][2 if ended.first is None else ended.first]
    text = (
        f"{how} after {whole:.3f} s: {ended.sent} bytes out, {ended.received} in, "
        f"connected in {connecting:.3f} s"
    )
    return Account(
        text,
        {
            "code": code,
            "cause": ended.cause,
            "seconds": round(whole, 3),
            "connect_seconds": round(connecting, 3),
            "bytes_sent": ended.sent,
            "bytes_received": ended.received,
        },
    )


def ofLeaving(whole: float, endedBy: str = "C", isConnecting: bool = True) -> Account:
    """Return the account of a session that ended before it had a tunnel.

    @param endedBy: "C": the client did not wait. "K": it was ended from here.
    @param isConnecting: False where it had not said its target, at a door; or had one, and the
        protocol's first messages were not through.
    """
    how = "left" if endedBy == "C" else "is ended from here"
    code = endedBy + ("C" if isConnecting else "R")
    fields = {"code": code, "seconds": round(whole, 3), **_UNUSED}
    return Account(f"{how} before it had a tunnel", fields)


def ofDelay(connecting: float, whole: float) -> Account:
    """Return the account of a client that did not begin, in a protocol with STARTTLS."""
    times = {"seconds": round(whole, 3), "connect_seconds": round(connecting, 3)}
    text = f"is closed: its session did not begin within {PRELUDE_WAIT:g} s"
    return Account(text, {"code": "cR", "cause": LATE, **times, **_UNUSED})


def ofSilence(whole: float) -> Account:
    """Return the account of a client that did not say its target, at a door."""
    text = f"is closed: it did not say its target within {whole:.0f} s"
    return Account(text, {"code": "cR", "cause": LATE, "seconds": round(whole, 3), **_UNUSED})


def ofFailure(
    error: BaseException | None, whole: float, connecting: float | None = None
) -> Account:
    """Return the account of a session that gets no tunnel.

    @param whole: seconds from the client's arrival.
    @param connecting: seconds from there to the connection, behind which the first messages of
        the target's protocol have failed; None: there was no connection.
    """
    last = error.failures[-1] if isinstance(error, RouteFailed) and error.failures else error
    cause = getattr(last, "cause", None)
    isAsked = connecting is not None or isinstance(last, NotServed)
    fields = {
        "code": _whose(last) + ("R" if isAsked else "C"),
        "cause": None if cause is None else cause.id,
        "status": getattr(last, "status", None),
        "seconds": round(whole, 3),
        "connect_seconds": None if connecting is None else round(connecting, 3),
        **_UNUSED,
    }
    if hop := getattr(last, "hop", ""):
        fields["way"] = hop
    return Account(f"gets no tunnel: {reasonOf(error)}{_remedy(error)}", fields)


def ofRefusal(error: BaseException | None, whole: float) -> Account:
    """Return the account of a request that is not answered by whom it was for, at a door. Its
    client's session may go on.

    @param whole: seconds from the client's arrival.
    """
    text, fields = ofFailure(error, whole)
    kept = {name: fields[name] for name in ("cause", "status", "seconds")}
    return Account(text.replace("gets no tunnel", "gets no answer", 1), kept)


def _remedy(error: BaseException | None) -> str:
    """Return what to do about a shortage of this machine, such as one of epoll at the joining."""
    isBare = isShortage(error) and not isinstance(error, TunnelError)
    return f" ({remedyOf(error)})" if isBare else ""


def _whose(error: BaseException | None) -> str:
    if isinstance(error, LocalFailure) or isShortage(error):
        return "R"
    if isinstance(error, NotServed):
        return "P"
    if isinstance(error, ProxyTimeout):
        return "s"
    return "S"
