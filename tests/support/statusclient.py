"""A status server in memory, and what its clients see."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock

from ptunnel.ledger.watched import Watched
from ptunnel.log import Log
from ptunnel.net.descriptors import Descriptors
from ptunnel.status.access import Access, Token
from ptunnel.status.api import Api, Reload
from ptunnel.status.pace import Pace
from ptunnel.status.site import Site
from ptunnel.status.streams import Streams
from tests.support.loopback import MemoryTCP
from tests.support.watched import FakeWatched

HERE = IPv4Address("TCP", "127.0.0.1", 8620)
PATH = UNIXAddress("/run/ptunnel/status.socket")
TOKEN = "sekrit"


class Connection(MemoryTCP):
    """One to the server. @ivar here: the address that the client has connected to."""

    def __init__(self, site: Site, here: Any = HERE) -> None:
        self.here = here
        protocol = site.buildProtocol(None)
        self.refused = protocol is None
        peer = IPv4Address("TCP", "127.0.0.1", 50000) if here is not PATH else UNIXAddress(None)
        super().__init__(protocol, peer)

    def getHost(self) -> Any:
        return self.here

    def ask(self, line: str, *fields: str, host: str | None = "localhost") -> Said:
        """Send a request, with its header fields. @param line: such as "GET /"."""
        names = [] if host is None else [f"Host: {host}"]
        head = "\r\n".join([f"{line} HTTP/1.1", *names, *fields, "", ""])
        return self.send(head.encode("latin-1"))

    def send(self, data: bytes) -> Said:
        """@return: what has been answered to it."""
        before = len(self.sent)
        self.receive(data)
        return Said(self.sent[before:])


class Said:
    """What a server has answered. @ivar rest: what follows the first answer."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *fields = head.decode("ascii").split("\r\n")
        self.code = int(first.split()[1]) if first else 0
        pairs = (line.partition(": ") for line in fields)
        self.headers = {name.lower(): value for name, _, value in pairs}
        length = int(self.headers.get("content-length", len(rest)))
        self.body, self.rest = rest[:length], rest[length:]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        [(name, text)] = self.json.items()
        assert name == "error" and "\n" not in text, self.body
        return str(text)


class StatusServed:
    """A status server of a service in memory.

    @ivar token: the content of its token file; None: it has none.
    """

    def __init__(
        self,
        watched: Watched | None = None,
        *,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        reload: Reload | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        self.clock = Clock()
        self.watched: Any = watched or FakeWatched(seconds=self.clock.seconds)
        self.descriptors = descriptors or Descriptors(10**6)
        log = Log("debug")
        self.api = Api(self.watched, reload or getattr(self.watched, "reload", None), log)
        file = Token("/no/such/file", lambda: token, log) if token is not None else None
        self.api.access = Access(hosts, file, log, self.clock)
        pace = Pace(self.clock)
        self.streams = Streams(self.clock, self.watched, pace, log)
        self.site = Site(self.clock, self.api, self.streams, pace, log, self.descriptors)

    def connect(self, here: Any = HERE) -> Connection:
        return Connection(self.site, here)

    def ask(
        self, line: str, *fields: str, host: str | None = "localhost", here: Any = HERE
    ) -> Said:
        """Send a request on a connection of its own."""
        return self.connect(here).ask(line, *fields, host=host)
