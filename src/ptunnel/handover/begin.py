"""What a process does about hand-overs at its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ptunnel.config import Settings
from ptunnel.handover.giving import Giver
from ptunnel.handover.successor import succeed
from ptunnel.handover.taking import takeOver
from ptunnel.log import Log
from ptunnel.ports.handed import Handed
from ptunnel.service.service import PtunnelService


def heir(
    reactor: Any,
    settings: Settings,
    log: Log,
    make: Callable[[Handed | None], PtunnelService],
    *,
    takes: bool,
) -> PtunnelService:
    """Make a service that hands its ports over to a next process.

    @param settings: with the path of a hand-over.
    @param make: makes the service, with sockets that listen already.
    @param takes: whether it begins with the ports of the process that serves now.
    @raise NoHandOver: if that does not give them.
    """
    path = settings.handOver
    assert path is not None
    taken = takeOver(path, log) if takes else None
    try:
        service = make(None if taken is None else taken.handed)
    except BaseException:
        if taken is not None:
            taken.abandon()
        raise
    service.succession = taken
    service.giver = Giver(reactor, service, path, log, service.handed)
    service.succeed = lambda: succeed(reactor, log, _environment(service))
    return service


def _environment(service: PtunnelService) -> Mapping[str, str]:
    return {} if service.notifier is None else service.notifier.environment
