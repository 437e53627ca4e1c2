"""From the settings of a tunnel or door to the factory that serves its clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ptunnel.config import DIRECT, Door, Port, Tunnel, isBypassed
from ptunnel.log import Log
from ptunnel.net.descriptors import PROCESS
from ptunnel.net.dial import Forbid
from ptunnel.route.routes import Routes
from ptunnel.session.admission import Total
from ptunnel.session.tunnel import TunnelFactory
from ptunnel.starttls import UPGRADES

if TYPE_CHECKING:
    from ptunnel.door.targets import Targets

T = TypeVar("T")


def factoryFor(
    reactor: Any, port: Tunnel | Door, routes: Routes, total: Total | None, log: Log
) -> TunnelFactory:
    """@param total: the limit of all ports together."""
    how = _terms(port) | {"total": total, "log": log, "reactor": reactor}
    if isinstance(port, Door):
        return _doorFactory(reactor, port, routes, how)
    prelude = UPGRADES[port.starttls].prelude if port.starttls else None
    return TunnelFactory(routes.to(port), prelude=prelude, **how)


def _terms(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "idleTimeout": port.idleTimeout,
        "halfCloseTimeout": port.halfCloseTimeout,
        "maxConnections": port.maxConnections or None,
        "maxPerClient": port.maxPerClient,
        "rateLimit": port.rateLimit,
        "allow": port.allow,
        "inKernel": port.kernelSplice,
        "holdEnd": port.holdEnd,
        "descriptors": PROCESS,
        "keepAlive": port.keepAlive,
    }


def _doorFactory(reactor: Any, door: Door, routes: Routes, how: dict[str, Any]) -> TunnelFactory:
    from ptunnel.door.factory import DoorFactory  # most services have none
    from ptunnel.door.login import Judge
    from ptunnel.door.targets import Targets

    targets = Targets(door.targets, routes.own.has)
    judge = None
    if door.username is not None and door.password is not None:
        from ptunnel.route.passwords import PasswordReader

        reader = PasswordReader(reactor, door.password, door.username, f"the door {door.name}")
        judge = Judge(reader.read, reader.changed)
    return DoorFactory(
        partial(_lead, routes.to, door, targets),
        forwards=partial(_lead, routes.forwards, door, targets),
        protocol=door.protocol,
        targets=targets,
        judge=judge,
        connectTimeout=door.connectTimeout,
        **how,
    )


def _lead(
    make: Callable[[Tunnel, Forbid], T], door: Door, targets: Targets, host: str, port: int
) -> T:
    """Return what leads to a target of a door. @param make: that of a Routes."""
    isBypass = door.noProxy and isBypassed({"no_proxy": door.noProxy}, host, port)
    tunnel = Tunnel(
        door.name,
        door.listen,
        host,
        port,
        via=(DIRECT,) if isBypass else door.via,
        connectTimeout=door.connectTimeout,
        balance=door.balance,
        where=door.where,
    )
    return make(tunnel, lambda address: targets.addressRefusal(host, port, address))
