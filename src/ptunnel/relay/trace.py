"""The lines of a trace about two joined transports."""

from __future__ import annotations

from ptunnel.relay.legs.kernel import KernelLeg
from ptunnel.relay.legs.leg import Leg
from ptunnel.relay.legs.producers import ProducersLeg
from ptunnel.relay.legs.tlsleg import TlsLeg
from ptunnel.relay.outcome import Ended

_SIDES = ("client", "target")
_WAYS: dict[type[Leg], str] = {
    ProducersLeg: "producers",
    KernelLeg: "the kernel (splice)",
    TlsLeg: "TLS over a plain socket",
}


def joined(client: Leg, target: Leg) -> str:
    return f"joined: client by {_WAYS[type(client)]}, target by {_WAYS[type(target)]}"


def sourceEnded(side: int) -> str:
    """@param side: 0 for the client, 1 for the target."""
    return f"the {_SIDES[side]} has ended its direction"


def passesOnEnd(side: int, isHeld: bool) -> str:
    what = "is held back (hold-end)" if isHeld else "is passed on"
    return f"the end of the {_SIDES[side]} {what}"


def closed(side: int, clean: bool) -> str:
    how = "" if clean else " without an orderly end"
    return f"the connection of the {_SIDES[side]} is closed{how}"


def ended(how: Ended) -> str:
    first = "" if how.first is None else f", first by the {_SIDES[how.first]}"
    return f"ended: {how.cause}{first}; {how.sent} bytes out, {how.received} in"
