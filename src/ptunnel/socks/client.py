"""The client's side of SOCKS5 as bytes in, bytes out (RFC 1928, RFC 1929), without a reactor.

Each message goes out after the answer to the one before it: servers drop what comes early.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from ptunnel.auth import Credentials
from ptunnel.errors import CredentialsRefused, ProxyFailed, ProxyTimeout, TunnelError
from ptunnel.net.addresses import hostPort
from ptunnel.socks import wire
from ptunnel.socks.answers import boundBy, isAccepted, methodOf
from ptunnel.socks.replies import GREETING, LOGIN, Asked
from ptunnel.socks.side import Side

_Failure = TypeVar("_Failure", bound=TunnelError)


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


class ClientHandshake(Side):
    """One handshake on one connection.

    `greeting`, `login` and `request` return what is to be sent; `feed` takes what comes.

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
        super().__init__()

    def subject(self) -> str:
        return f"{self._asked.hop or 'a proxy'} for {self._asked.target}"

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
        steps = {
            Phase.GREETED: self._chosen,
            Phase.TOLD: self._judged,
            Phase.REQUESTED: self._replied,
        }
        try:
            if self.phase in steps:
                return steps[self.phase]()
            if self.phase is Phase.NEW:  # a server that speaks first
                raise self._asked.noSocks(bytes(self._data[:4]))
            raise self._early()
        except TunnelError as e:
            self._trace(f"< {e.message}")
            self._fail(e)
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

    def _upon(self) -> str:
        upon = {Phase.GREETED: GREETING, Phase.TOLD: LOGIN}
        return upon.get(self.phase, f"CONNECT {self._asked.target}")

    def cut(self) -> CredentialsRefused:
        """The connection has ended in place of an answer to user name and password, which RFC 1929
        wants before it. @return: the failure, if that was a rejection.
        """
        return self._fail(self._asked.rejection(f"closed the connection upon {LOGIN}"))

    def end(self) -> ProxyFailed:
        """The connection has ended before the tunnel stood. @return: the failure."""
        return self._fail(self._asked.ended(self._upon(), begun=bool(self._data)))

    def expire(self, seconds: float) -> ProxyTimeout:
        """The time is over. @return: the failure."""
        return self._fail(self._asked.late(self._upon(), seconds))

    def _fail(self, failure: _Failure) -> _Failure:
        self.enter(Phase.FAILED)
        return failure
