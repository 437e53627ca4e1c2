"""Which kind of leg each of two transports gets."""

from __future__ import annotations

from twisted.internet.interfaces import ITransport

from ptunnel.relay.legs.kernel import KernelLeg
from ptunnel.relay.legs.leg import Joint, Leg
from ptunnel.relay.legs.producers import ProducersLeg
from ptunnel.relay.legs.socketleg import SocketLeg, isPlain
from ptunnel.relay.legs.tlsleg import TlsLeg, isTls, isTlsOverPlain


def firstLegs(joint: Joint, a: ITransport, b: ITransport, inKernel: bool) -> tuple[Leg, Leg]:
    """Make the legs with which a splice begins."""
    kind = KernelLeg if inKernel and isPlain(a) and isPlain(b) else ProducersLeg
    return kind(joint, a), kind(joint, b)


def tlsOverSocket(*legs: Leg) -> ITransport | None:
    """Return the transport that is TLS over a socket, for which there may be faster legs than those
    by producers a turn later; None: neither is.
    """
    return next((leg.transport for leg in legs if isTls(leg.transport)), None)


def fasterLegs(one: Leg, two: Leg) -> tuple[Leg, Leg] | None:
    """Make legs that continue in place of two by producers; None where a transport does not allow
    it now, or begins to end.
    """
    if any(leg.lost or leg.readEnded or leg.wroteLast for leg in (one, two)):
        return None
    for leg in one, two:
        leg.transport.unregisterProducer()
    kinds = _fastLeg(one.transport), _fastLeg(two.transport)
    if kinds[0] is None or kinds[1] is None:
        for leg in one, two:
            leg.other.transport.registerProducer(leg, True)
        return None
    return kinds[0].inPlaceOf(one), kinds[1].inPlaceOf(two)


def _fastLeg(transport: ITransport) -> type[SocketLeg] | None:
    if isPlain(transport):
        return KernelLeg
    return TlsLeg if isTlsOverPlain(transport) else None
