"""From a draft and the defaults to a tunnel or a door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptunnel.config.ini import DOOR_KEYS, Draft
from ptunnel.config.tls import tunnelTls, withoutTls
from ptunnel.config.values import DIRECT, Door, Listen, Port, Tunnel, pathOf
from ptunnel.errors import ConfigError


def portFrom(
    draft: Draft,
    listen: Listen,
    via: tuple[str, ...],
    defaults: Mapping[str, Any],
    warnings: list[str],
) -> Tunnel | Door:
    """
    @param defaults: of TUNNEL_KEYS, by field.
    @param warnings: gets further warnings.
    """
    if draft.target is None:
        fields = fieldsOf({**defaults, **draft.values}, DOOR_KEYS) | {"via": via}
        port: Tunnel | Door = Door(draft.name, listen, where=draft.where, **fields)
    else:
        port = _tunnel(draft, listen, via, defaults, warnings)
    if draft.values.get("balance", "first") != "first" and not hasChoice(port):
        what = f"nothing to choose from: the {port.kind} goes via {', '.join(via)}"
        warnings.append(f"{draft.where} balance: {what}")
    return port


def _tunnel(
    draft: Draft,
    listen: Listen,
    via: tuple[str, ...],
    defaults: Mapping[str, Any],
    warnings: list[str],
) -> Tunnel:
    assert draft.target is not None
    fields = withoutTls({**defaults, **draft.values})
    fields |= tunnelTls(draft.where, draft.values, defaults, warnings)
    fields["via"] = via
    host, port = draft.target
    if pathOf(host) is not None and (tls := fields["tls"]) and tls.verify and not tls.serverName:
        what = "a Unix socket has no name to verify; write tls-server-name = NAME"
        raise ConfigError(f"{draft.where} tls: {what}")
    return Tunnel(draft.name, listen, host, port, where=draft.where, **fields)


def hasChoice(port: Port) -> bool:
    """Return whether it goes via more than one proxy."""
    return sum(name != DIRECT for name in port.via) > 1


def fieldsOf(values: Mapping[str, Any], keys: Mapping[str, tuple[str, object]]) -> dict[str, Any]:
    """Return those values that belong to some keys, by field."""
    return {field: values[field] for field, _ in keys.values() if field in values}
