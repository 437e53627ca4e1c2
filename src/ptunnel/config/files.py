"""Config and password files as text.

The errors name only the fault. The caller puts the name of the file before it.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from ptunnel.config.values import PasswordFile, TokenFile
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# Configs and passwords are far smaller. Anything larger is the wrong file or endless.
MAX_FILE = 1024 * 1024
# The prefix of the name of a file that systemd passes to a unit.
CREDENTIAL = "credential:"
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"


class FileText(NamedTuple):
    """
    @ivar isOpen: whether others than the owner may read the file.
    @ivar isShared: whether others than the owner may change it.
    @ivar isPipe: whether it can be read only once.
    """

    text: str
    isOpen: bool
    isShared: bool
    isPipe: bool


def readText(path: str, *, pipes: bool = False) -> FileText:
    """
    @param pipes: whether a pipe, as in `-c <(...)`, is read to its end in place of a file, and
        /dev/null too.
    @raise ConfigError: if it cannot be read, is not a file, or is not text in UTF-8.
    """
    data, status = _readBytes(path, pipes)
    mode = status.st_mode
    isPipe = stat.S_ISFIFO(mode)
    if isPipe and not data:
        raise ConfigError("nothing came through the pipe")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError("UTF-16; it must be text in UTF-8")
    if b"\0" in data:
        raise ConfigError("a binary file; it must be text in UTF-8")
    _checkSize(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8") from None
    isRegular = stat.S_ISREG(mode)
    isShared = isRegular and bool(mode & (stat.S_IWGRP | stat.S_IWOTH))
    return FileText(text, isRegular and isOpen(status), isShared, isPipe)


def readScript(path: str) -> str:
    """
    @return: the text of a PAC file.
    @raise ConfigError: if it cannot be read, is not a file, or is no text.
    """
    return decodeScript(_readBytes(path, pipes=False)[0])


def decodeScript(data: bytes) -> str:
    """Return the text of a PAC file. Old ones have comments in Latin-1.

    @raise ConfigError: if it is no text, or too large.
    """
    _checkSize(data)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise ConfigError("not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _checkSize(data: bytes) -> None:
    if len(data) > MAX_FILE:
        raise ConfigError(f"larger than {MAX_FILE} bytes")


def _readBytes(path: str, pipes: bool) -> tuple[bytes, os.stat_result]:
    """@return: at most one byte more than a file may have."""
    try:
        with open(path, "rb", opener=_openAtOnce) as file:
            status = os.fstat(file.fileno())
            mode = status.st_mode
            isPipe = stat.S_ISFIFO(mode)
            if not stat.S_ISREG(mode) and not (pipes and (isPipe or path == os.devnull)):
                raise ConfigError("not a regular file")
            os.set_blocking(file.fileno(), True)
            return file.read(MAX_FILE + 1), status
    except OSError as e:
        raise ConfigError(e.strerror or "cannot be read") from None
    except ValueError:
        raise ConfigError("not a file name") from None


def isOpen(status: os.stat_result) -> bool:
    """Return whether others than the owner may read a secret in a file, as ssh decides it.

    The group of a file of another owner is that owner's decision.
    """
    own = status.st_uid == os.geteuid()
    return bool(status.st_mode & (stat.S_IRWXO | (stat.S_IRWXG if own else 0)))


def openFileWarning(where: str, path: str) -> str:
    """Return the warning about a file with a secret that others may read."""
    return f'{where}: "{printable(path)}" can be read by others than its owner; chmod 600 helps'


def readPassword(path: str, *, pipes: bool = False) -> FileText:
    """
    @return: the first line of the file.
    @raise ConfigError: as L{readText}, and if it is empty or has more than one line.
    """
    file = readText(path, pipes=pipes)
    text = oneLine(file.text)
    if not text:
        raise ConfigError("the file is empty")
    return file._replace(text=text)


def readToken(file: TokenFile, environ: Mapping[str, str]) -> str:
    """
    @return: the token in a file.
    @raise ConfigError: if it cannot be read, is no token, or if others may read it.
    """
    try:
        text = readText(file.path)
        first, *more = text.text.splitlines() or [""]
        if not first or any(map(str.strip, more)):
            raise ConfigError("it must be the token alone, in one line")
        if not all("!" <= c <= "~" for c in first):
            raise ConfigError("a token is of printable ASCII characters, without blanks")
        if text.isOpen and not isCredential(file.path, environ):
            raise ConfigError("it can be read by others than its owner; chmod 600 helps")
    except ConfigError as e:
        raise ConfigError(f'{file.where}: "{printable(file.path)}": {e}') from None
    return first


def oneLine(text: str) -> str:
    """Return the first line. Empty lines after it are ignored.

    @raise ConfigError: if other lines follow it, also after an empty first line.
    """
    first, newline, more = text.partition("\n")
    first = first.removesuffix("\r") if newline else first
    if not first and more.strip():
        raise ConfigError("the first line is empty")
    if more.strip() or "\r" in first:
        raise ConfigError("more than one line; it must be the password alone")
    return first


def pairWarning(where: str, username: str, password: str) -> str:
    """Return the warning about a password that looks like `user:password`; else ""."""
    name = username.rpartition("\\")[2].partition("@")[0].lower()
    start = password.partition(":")
    if not start[1] or start[0].lower() not in (username.lower(), name):
        return ""
    return f"{where}: it begins with the user name and a colon; it must be the password alone"


def passwordFile(name: str, folder: str, environ: Mapping[str, str]) -> PasswordFile:
    """
    @param name: a path, or `credential:NAME` for a file that systemd passes to this unit.
    @param folder: the folder for a relative path.
    """
    if name.startswith(CREDENTIAL):
        name = name.removeprefix(CREDENTIAL)
        if "/" in name or name in ("", ".", ".."):
            raise ConfigError("not the name of a credential; write credential:NAME")
        folder = environ.get(CREDENTIALS_DIRECTORY, "")
        if not folder:
            raise ConfigError(
                f"{CREDENTIALS_DIRECTORY} is not set; systemd sets it for a unit that has "
                "LoadCredential="
            )
    elif not name:
        raise ConfigError("not a file name")
    return PasswordFile(os.path.abspath(os.path.join(folder, name)))


def isCredential(path: str, environ: Mapping[str, str]) -> bool:
    """Return whether systemd keeps the file where no other user can read it, whatever its mode."""
    folder = environ.get(CREDENTIALS_DIRECTORY)
    return bool(folder) and os.path.dirname(path) == os.path.abspath(str(folder))


def _openAtOnce(path: str, flags: int) -> int:
    # Opening a pipe without a writer, or a device, may block without limit.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
