"""The keys for TLS to a proxy or to a target.

The keys of a tunnel are those of a proxy with `tls-` before them. Files are read only if TLS is
used, because an unused default may name a file that does not exist.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ptunnel.config.files import isOpen
from ptunnel.config.parsers.addresses import parseHost
from ptunnel.config.parsers.words import Keys, choice, parseAlpn, parseYesNo
from ptunnel.config.values import STARTTLS
from ptunnel.errors import ConfigError
from ptunnel.text import printable
from ptunnel.tls import TlsFileError, TlsSettings, check

_FILES = {"ca-file": "caFile", "client-cert": "certFile", "client-key": "keyFile"}
PROXY_TLS_KEYS: Keys = {
    **{key: (field, str) for key, field in _FILES.items()},
    "server-name": ("serverName", parseHost),
    "verify": ("verify", parseYesNo),
}
_PREFIX = "tls-"
# The keys that have a meaning only with TLS.
_HOW: Keys = {
    **{_PREFIX + key: value for key, value in PROXY_TLS_KEYS.items()},
    "tls-alpn": ("alpn", parseAlpn),
}
TUNNEL_TLS_KEYS: Keys = {
    "tls": ("tls", parseYesNo),
    "starttls": ("starttls", choice(*STARTTLS, "no")),
    **_HOW,
}
_FIELDS = {field for field, _ in _HOW.values()}


class TlsFile(NamedTuple):
    """
    @ivar place: its place in error messages: its key, and the name as written.
    @ivar path: absolute.
    """

    place: str
    path: str


def locate(where: str, values: Mapping[str, Any], folder: str, prefix: str = "") -> dict[str, Any]:
    """Return the values of a section, with a L{TlsFile} for the name of each file.

    @param where: the section in error messages.
    @param folder: the folder for relative names of files.
    @param prefix: the prefix of the section's keys.
    @raise ConfigError: for a key without a certificate.
    """
    if "keyFile" in values and "certFile" not in values:
        raise ConfigError(f"{where} {prefix}client-key: the key {prefix}client-cert is missing")
    located = dict(values)
    for key, field in _FILES.items():
        if field in values:
            place = f'{where} {prefix}{key}: "{printable(values[field])}"'
            path = os.path.abspath(os.path.join(folder, values[field]))
            located[field] = TlsFile(place, path)
    return located


def makeTls(values: Mapping[str, Any], base: TlsSettings, warnings: list[str]) -> TlsSettings:
    """
    @param values: as L{locate} returns them.
    @param base: the defaults.
    @param warnings: gets a warning about a key file that others may read.
    @raise ConfigError: for the first file that cannot be used.
    """
    fields = {field: values[field] for field in _FIELDS if field in values}
    files = {field: file for field in _FILES.values() if (file := fields.get(field)) is not None}
    for field, file in files.items():
        if os.path.exists(file.path) and not os.path.isfile(
            file.path
        ):  # reading a pipe would block
            raise ConfigError(f"{file.place}: not a regular file")
        fields[field] = file.path
    tls = replace(base, **fields)
    try:
        if files:  # OpenSSL is slow to import
            check(tls)
    except TlsFileError as e:
        raise ConfigError(f"{files[e.field].place}: {e.message}") from None
    key: TlsFile | None = files.get("keyFile") or files.get("certFile")
    if key is not None and isOpen(os.stat(key.path)):
        warning = f"{key.place}: the key can be read by others than its owner; chmod 600 helps"
        if warning not in warnings:  # a default gets one warning, not one for each tunnel
            warnings.append(warning)
    return tls


def tunnelValues(where: str, values: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return the values of a [tunnel] or of [ptunnel], located.

    @raise ConfigError: if they contradict each other.
    """
    if values.get("tls") is False and values.get("starttls", "no") != "no":
        what = "tls = no is given too, and starttls is TLS; leave one of them out"
        raise ConfigError(f"{where} starttls: {what}")
    return locate(where, values, folder, _PREFIX)


def tunnelTls(
    where: str, own: Mapping[str, Any], defaults: Mapping[str, Any], warnings: list[str]
) -> dict[str, Any]:
    """Return the fields `tls` and `starttls` of a tunnel.

    Its own values override the defaults: its `tls = no` their starttls, and its certificate their
    certificate and key.

    @param own: the values of its section, located.
    @param defaults: those of [ptunnel], located.
    @param warnings: gets further warnings.
    @raise ConfigError: for a key without TLS, or a file that cannot be used.
    """
    values = {**defaults, **own}
    if "certFile" in own and "keyFile" not in own:
        values.pop("keyFile", None)
    starttls = values.get("starttls", "no")
    if own.get("tls") is False or not (values.get("tls") or starttls != "no"):
        for key, (field, _) in _HOW.items():
            if field in own:
                what = "only TLS has a use for it; write tls = yes, or starttls = PROTOCOL"
                raise ConfigError(f"{where} {key}: {what}")
        return {"tls": None, "starttls": None}
    tls = makeTls(values, TlsSettings(), warnings)
    if not tls.verify:
        warnings.append(
            f"{where}: tls-verify = no: anyone between here and the target can pose as it, and "
            "read and change the data"
        )
    return {"tls": tls, "starttls": None if starttls == "no" else starttls}


def withoutTls(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that do not concern TLS."""
    return {f: value for f, value in values.items() if f not in {*_FIELDS, "tls", "starttls"}}
