"""The options of the commands that ask the running service."""

from __future__ import annotations

import os
import re

from twisted.python import usage

from ptunnel.cli.baseoptions import BaseOptions
from ptunnel.cli.remote.client import Client
from ptunnel.cli.remote.place import Place, placeOf
from ptunnel.config import readToken
from ptunnel.errors import ConfigError

SORTS = ("number", "client", "tunnel", "target", "way", "phase", "age", "sent", "received", "rate")
"""By what sessions can be sorted (docs/status.md)."""


class RemoteOptions(BaseOptions):
    """
    @ivar command: its name.
    @ivar steers: whether it changes something.
    @ivar place: whom to ask.
    """

    command: str
    steers = False
    optParameters = [
        ["status", None, None, "The status address; default: status in the config file."],
    ]
    place: Place

    @property
    def synopsis(self) -> str:  # type: ignore[override]
        return f"{self.command} [options]"

    def postOptions(self) -> None:
        if self.words:
            raise ConfigError(f"{self.command} takes no argument, and nothing beside its options")
        given = self["config"], self["status"], self.get("token-file")
        self.place = placeOf(*given, os.environ, steers=self.steers)

    def client(self) -> Client:
        """Return a client that only looks."""
        return Client(self.place.address)

    def steering(self) -> Client:
        """Return a client that may change something. @raise ConfigError: for the token."""
        file = self.place.token
        token = None if file is None else readToken(file, os.environ)
        return Client(self.place.address, token)


class StatusOptions(RemoteOptions):
    """The options of `ptunnel status`."""

    command = "status"
    longdesc = (
        "Print the figures of the running service, which is asked at its status address. Exit "
        "code 1 when none answers there."
    )
    optFlags = [
        ["json", None, "Print the JSON document of the API (docs/status.md)."],
        ["quiet", "q", "Print nothing; the exit code says whether it runs."],
    ]


class TopOptions(RemoteOptions):
    """The options of `ptunnel top`."""

    command = "top"
    longdesc = (
        "Show the figures of the running service on the whole screen, new ones every two seconds. "
        "The bottom line has the keys."
    )


class SessionsOptions(RemoteOptions):
    """The options of `ptunnel sessions`.

    @ivar end: the number of the session to end; None: list them.
    @ivar limit: how many to list at most.
    """

    command = "sessions"
    longdesc = "List the sessions of the running service, or end one."
    optParameters = [
        ["end", None, None, "End the session of this number."],
        ["token-file", None, None, "The token for --end; default: status-token-file."],
        ["tunnel", None, None, "Only those of this tunnel or door."],
        [
            "filter",
            None,
            None,
            "Only those with this in client, tunnel, target, way, phase or number.",
        ],
        ["sort", None, "number", f"By {', '.join(SORTS[:-1])} or {SORTS[-1]}."],
        ["limit", None, "100", "How many at most."],
    ]
    optFlags = [
        ["reverse", None, "Sort the other way round."],
        ["json", None, "Print them as a JSON document (docs/status.md)."],
    ]
    end: int | None = None
    limit: int

    def postOptions(self) -> None:
        if self["sort"] not in SORTS:
            raise usage.UsageError(f"--sort: it must be one of {', '.join(SORTS)}")
        self.limit = _number("--limit", self["limit"])
        if self["end"] is not None:
            self.end = _number("--end", self["end"])
            self.steers = True
        super().postOptions()


class ReloadOptions(RemoteOptions):
    """The options of `ptunnel reload`."""

    command = "reload"
    steers = True
    longdesc = (
        "Let the running service read its config file again, as SIGHUP does. Exit code 1, and "
        "nothing has changed, when the file has a mistake."
    )
    optParameters = [["token-file", None, None, "The token; default: status-token-file."]]


def _number(option: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise ConfigError(f"{option}: it must be a number")
    return int(text)
