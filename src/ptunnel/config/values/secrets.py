"""Where secrets come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ptunnel.auth import Secret


@dataclass(frozen=True, slots=True)
class PasswordFile:
    """A file whose one line is the password; the path is absolute."""

    path: str


@dataclass(frozen=True, slots=True)
class PasswordEnv:
    """An environment variable whose value is the password."""

    variable: str


@dataclass(frozen=True, slots=True)
class PasswordCommand:
    """A command for /bin/sh that prints the password. It may hold secrets of its own."""

    command: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PasswordKeyring:
    """A service under which the desktop's keyring keeps the password."""

    service: str


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file whose one line is the token of those who may steer; the path is absolute.

    @ivar where: its place in error messages.
    """

    path: str
    where: str = field(default="", compare=False)


PasswordSource = Secret | PasswordFile | PasswordEnv | PasswordCommand | PasswordKeyring
