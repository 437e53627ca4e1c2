"""What is said of a session that has ended."""

from __future__ import annotations

from typing import Any

from ptunnel.relay.outcome import Cause, Ended

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


def account(
    ended: Ended, connecting: float, whole: float, holdEnd: bool
) -> tuple[str, dict[str, Any]]:
    """Return the line of a session, without its name, and the same in fields for machines.

    @param connecting: seconds from the client's arrival to the connection.
    @param whole: seconds from there to the end.
    @param holdEnd: whether the client's end was held back.
    """
    how = _CAUSES[ended.cause].format(_WHO[ended.first])
    if ended.unanswered and ended.sent and not holdEnd:
        how += ", then by the target, which answered nothing (hold-end),"
    text = (
        f"{how} after {whole:.3f} s: {ended.sent} bytes out, {ended.received} in, "
        f"connected in {connecting:.3f} s"
    )
    return text, {
        "cause": ended.cause,
        "seconds": round(whole, 3),
        "sent": ended.sent,
        "received": ended.received,
        "connecting": round(connecting, 3),
    }
