"""The client's side of SOCKS5 as bytes in, bytes out (RFC 1928, RFC 1929), without a reactor.

Each message goes out after the answer to the one before it: servers drop what comes early.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.errors import CredentialsRefused, ProxyFailed, ProxyTimeout, TunnelError
from ptunnel.net.addresses import hostPort
from ptunnel.socks import wire
from ptunnel.socks.answers import boundBy, isAccepted, methodOf
from ptunnel.socks.replies import Asked


class Phase(Enum):
    """Where a handshake is."""

    NEW = "new"
    GREETED = "greeted"  # waits for the method that the proxy chooses
    ASKED = "asked"  # the proxy wants user name and password
    TOLD = "told"  # waits for what it says to them
    READY = "ready"  # the target may be asked for
    REQUESTED = "requested"  # waits for the reply
    ESTABLISHED = "established"
    FAILED = "failed"


_METHODS = {wire.NO_LOGIN: "no authentication", wire.PASSWORD: "user name and password"}


def _nobody(line: str) -> None:
    pass


class ClientHandshake:
    """One handshake on one connection.

    `greeting`, `login` and `request` return what is to be sent; `feed` takes what comes.

    @ivar phase: changed by `enter` only.
    @ivar leftover: the bytes behind the reply: the first ones of the tunnel.
    @ivar asksLogin: whether the proxy chose user name and password.
    @ivar reply: its reply code; None: there was none yet.
    """

    phase = Phase.NEW
    leftover = b""
    asksLogin = False
    reply: int | None = None

    def __init__(
        self,
        host: str,
        port: int,
        *,
        hop: str = "",
        hasLogin: bool = False,
        trace: Callable[[str], None] = _nobody,
    ) -> None:
        """
        @param host: the target's, for failures.
        @param hop: the proxy's name in failures.
        @param hasLogin: whether user name and password may be asked for.
        @param trace: gets a line for each message, without secrets.
        """
        self._asked = Asked(hostPort(host, port), hop)
        self._methods = [wire.NO_LOGIN, *([wire.PASSWORD] if hasLogin else [])]
        self._trace = trace
        self._data = bytearray()

    def __repr__(self) -> str:
        whom, target = self._asked.hop or "a proxy", self._asked.target
        return f"<ClientHandshake with {whom} for {target}: {self.phase.value}>"

    def enter(self, phase: Phase) -> None:
        self.phase = phase

    @property
    def isChallenged(self) -> bool:
        """True while the proxy waits for user name and password."""
        return self.phase is Phase.ASKED

    def greeting(self) -> bytes:
        """Return the first message."""
        self.enter(Phase.GREETED)
        self._trace(f"> SOCKS5: {' or '.join(_METHODS[method] for method in self._methods)}")
        return bytes([wire.VERSION, len(self._methods), *self._methods])

    def login(self, credentials: Credentials) -> bytes:
        """Return the answer to a proxy that has ASKED.

        @raise ValueError: if it cannot be sent. The text quotes neither of them.
        """
        data = wire.login(credentials)
        self.enter(Phase.TOLD)
        self._trace("> user name and password: ***")
        return data

    def request(self, host: str, port: int) -> bytes:
        """Return the request for a target, once READY.

        @param host: a name that the proxy resolves, or an address.
        @raise ValueError: if it cannot be sent.
        """
        data = bytes([wire.VERSION, wire.CONNECT, 0]) + wire.address(host, port)
        self.enter(Phase.REQUESTED)
        self._trace(f"> CONNECT {hostPort(host, port)}")
        return data

    def feed(self, data: bytes) -> bool:
        """Take the next bytes from the proxy.

        @return: True when it has answered: it is ASKED, READY or ESTABLISHED.
        @raise CredentialsRefused: if it accepts no way to log in, or rejects the credentials.
        @raise ProxyRefused: if it refuses the target, or cannot reach it.
        @raise ProxyFailed: if it is no SOCKS5 proxy, or breaks the protocol.
        """
        self._data += data
        try:
            if self.phase is Phase.GREETED:
                return self._chosen()
            if self.phase is Phase.TOLD:
                return self._judged()
            if self.phase is Phase.REQUESTED:
                return self._replied()
            if self.phase is Phase.NEW:  # a server that speaks first
                raise self._asked.noSocks(bytes(self._data[:4]))
            raise self._early()
        except TunnelError as e:
            self._trace(f"< {e.message}")
            self.enter(Phase.FAILED)
            raise

    def _chosen(self) -> bool:
        method = methodOf(self._data, self._methods, self._asked)
        if method is None:
            return False
        self._trace(f"< chooses {_METHODS[method]}")
        self.asksLogin = method == wire.PASSWORD
        self._taken(Phase.ASKED if self.asksLogin else Phase.READY)
        return True

    def _judged(self) -> bool:
        if not isAccepted(self._data, self._asked):
            return False
        self._trace("< accepts them")
        self._taken(Phase.READY)
        return True

    def _replied(self) -> bool:
        if len(self._data) > 1:
            self.reply = self._data[1]
        found = boundBy(self._data, self._asked)
        if found is None:
            return False
        address, end = found
        self._trace(f"< reply 0: granted, from {address}")
        self.leftover = bytes(self._data[end:])
        self.enter(Phase.ESTABLISHED)
        return True

    def _taken(self, phase: Phase) -> None:
        """Forget an answer of two bytes. Nothing may follow it, as nothing was asked for."""
        del self._data[:2]
        if self._data:
            raise self._early()
        self.enter(phase)

    def _early(self) -> ProxyFailed:
        return self._asked.failed("sent more than it was asked for")

    def cut(self) -> CredentialsRefused:
        """The connection has ended in place of an answer to user name and password, which RFC 1929
        wants before it. @return: the failure, if that was a rejection.
        """
        self.enter(Phase.FAILED)
        return self._asked.rejection("closed the connection upon user name and password")

    def end(self) -> ProxyFailed:
        """The connection has ended before the tunnel stood. @return: the failure."""
        phase, begun = self.phase, bool(self._data)
        self.enter(Phase.FAILED)
        if phase is Phase.GREETED and not begun:
            what = "closed the connection without an answer"
            return self._asked.failed(what, causes.NO_SOCKS)
        if begun:
            return self._asked.failed("closed the connection in the middle of its answer")
        upon = "user name and password" if phase is Phase.TOLD else f"CONNECT {self._asked.target}"
        return self._asked.failed(f"closed the connection upon {upon}")

    def expire(self, seconds: float) -> ProxyTimeout:
        """The time is over. @return: the failure."""
        phase = self.phase
        self.enter(Phase.FAILED)
        if phase is Phase.GREETED:
            return self._asked.late("the SOCKS5 greeting", seconds, causes.NO_SOCKS)
        if phase is Phase.TOLD:
            return self._asked.late("user name and password", seconds, causes.BROKEN_SOCKS)
        return self._asked.late(f"CONNECT {self._asked.target}", seconds, causes.SILENT)
