"""Which status address a command asks, and with which token."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ptunnel.config import (
    CONFIG,
    TcpListen,
    TokenFile,
    UnixListen,
    defaultConfig,
    defaultPlaces,
    parseStatus,
    passwordFile,
    readKeys,
)
from ptunnel.errors import ConfigError
from ptunnel.text import printable

Address = TcpListen | UnixListen


@dataclass(frozen=True, slots=True)
class Place:
    """A status address.

    @ivar token: the file with the token of those who may steer; None: there is none.
    """

    address: Address
    token: TokenFile | None = None


def placeOf(
    config: str | None,
    status: str | None,
    tokenFile: str | None,
    environ: Mapping[str, str],
    *,
    steers: bool = False,
) -> Place:
    """Find the status address: that of an option, else of the config file.

    @param config: the value of --config; without it the variable CONFIG or the default names one.
    @param status: the value of --status.
    @param tokenFile: the value of --token-file.
    @param steers: whether a token is needed. Over a Unix socket none is.
    @raise ConfigError: if there is no address, or it cannot be used.
    """
    address = None if status is None else _parsed("--status", status)
    token = None if tokenFile is None else _token("--token-file", tokenFile, "", environ)
    if address is not None and (token or not steers or isinstance(address, UnixListen)):
        return Place(address, token)
    file = config or environ.get(CONFIG) or defaultConfig(environ)
    if file is None:
        if address is None:
            raise ConfigError(_noFile(environ))
        return Place(address)
    try:
        keys = readKeys(file, "status", "status-token-file")
    except ConfigError as e:
        option = "--status" if address is None else "--token-file"
        raise ConfigError(f"{e}; with {option} it is not needed") from None
    where = f"{printable(file)}: [ptunnel]"
    address = address or _ofFile(where, keys)
    name = keys.get("status-token-file")
    if token or name is None or not steers or isinstance(address, UnixListen):
        return Place(address, token)
    folder = os.path.dirname(file)
    return Place(address, _token(f"{where} status-token-file", name, folder, environ))


def _ofFile(where: str, keys: Mapping[str, str]) -> Address:
    if keys.get("status", "off") == "off":
        raise ConfigError(
            f"{where}: it has no status address, at which the service could be asked; "
            "write status = 127.0.0.1:8620, or give --status"
        )
    return _parsed(f"{where} status", keys["status"])


def _noFile(environ: Mapping[str, str]) -> str:
    places = " nor ".join(map(printable, defaultPlaces(environ)))
    looked = f"; there is no config file at {places}" if places else ""
    return f"no status address: give --status, or a config file that has the key status{looked}"


def _parsed(where: str, text: str) -> Address:
    try:
        address = parseStatus(text)
        if address is None:
            raise ConfigError("off is no address")
        if isinstance(address, UnixListen):
            return address
        if not address.port:
            raise ConfigError("port 0 is any free one, and the log says which: give --status")
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from None
    return TcpListen(_reachable(address.host), address.port)


def _reachable(host: str) -> str:
    """Return where to connect to whoever listens at an address, which may be that of all."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not literal.is_unspecified:
        return host
    return "127.0.0.1" if literal.version == 4 else "::1"


def _token(where: str, name: str, folder: str, environ: Mapping[str, str]) -> TokenFile:
    try:
        return TokenFile(passwordFile(name, folder, environ).path, where)
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from None
