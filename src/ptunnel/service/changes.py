"""What a reload changes: the tunnels and keys that differ between two settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ptunnel.config import Listen, Port, Settings, TcpListen, UnixListen

# How many names of each kind a line shows.
_SHOWN = 8
# Fields of Settings that cannot change while the service runs, and their keys.
_FIXED = {"workers": "workers", "logFormat": "log-format", "handOver": "hand-over"}
_LIVE = {
    "logLevel": "log-level",
    "drainDelay": "drain-delay",
    "drainTimeout": "drain-timeout",
    "maxConnections": "max-connections",
    "status": "status",
    "statusToken": "status-token-file",
    "statusHosts": "status-hosts",
}


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload has changed, by the names of tunnels. Its str is a line for the log.

    @ivar added: their ports are new.
    @ivar removed: their ports are closed; sessions go on.
    @ivar changed: new sessions use the new settings. A tunnel that moved to another port is here
        too.
    @ivar keys: keys of the whole service that have new values.
    @ivar restart: keys whose new values apply after a restart only.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        kinds = ("added", "removed", "changed", "unchanged")
        parts = [_listed(kind, getattr(self, kind)) for kind in kinds if getattr(self, kind)]
        return ", ".join([*parts, *(f"{key} is new" for key in self.keys)])


def _listed(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {kind} ({shown}{more})"


def portOf(tunnel: Port) -> tuple[Listen | str, ...]:
    """Return what is equal for tunnels that can use the same socket, one after the other."""
    listen = tunnel.listen
    if isinstance(listen, UnixListen):
        return ("unix", listen.path)
    if (
        isinstance(listen, TcpListen) and not listen.port
    ):  # any free port: the name tells them apart
        return listen, tunnel.name
    return (listen,)


def isSame(old: Port, before: Settings, new: Port, after: Settings) -> bool:
    """Return whether a tunnel serves clients in the same way after a reload as before."""
    return old == new and before.ways(old) == after.ways(new)


def changesOf(before: Settings, after: Settings) -> Changes:
    """Return what differs between two settings."""
    old = {tunnel.name: tunnel for tunnel in before.ports}
    new = {tunnel.name: tunnel for tunnel in after.ports}
    same = {n for n in old.keys() & new.keys() if isSame(old[n], before, new[n], after)}
    return Changes(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and name not in same),
        unchanged=tuple(name for name in new if name in same),
        keys=_differing(before, after, _LIVE),
        restart=_differing(before, after, _FIXED),
    )


def possible(before: Settings, after: Settings) -> Settings:
    """Return the new settings, with the old values of what cannot change in a running service."""
    kept = {field: getattr(before, field) for field in (*_FIXED, "layout")}
    return replace(after, **kept)


def _differing(before: Settings, after: Settings, keys: dict[str, str]) -> tuple[str, ...]:
    return tuple(k for field, k in keys.items() if getattr(before, field) != getattr(after, field))
