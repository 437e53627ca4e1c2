"""The server's side of HTTP for one request, as bytes in, bytes out, without a reactor.

It has the methods of L{ptunnel.socks.server.ServerHandshake}.
"""

from __future__ import annotations

from enum import Enum

from ptunnel import causes
from ptunnel.door.http.gate import Connect, Forward, Gate
from ptunnel.door.http.refusals import loginNeeded, refusal
from ptunnel.net.asked import Login, Rejected, Request
from ptunnel.net.phases import Phased

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Phase(Enum):
    """Where a handshake is."""

    REQUEST = "request"  # waits for the request
    JUDGING = "judging"  # has it, with user name and password, and waits for `judge`
    ASKED = "asked"  # has it, and waits for `grant` or `refuse`
    OVER = "over"


class HttpHandshake(Phased):
    """One client's request. `feed` takes what it says.

    @cvar name: the protocol, for people.
    @ivar forward: the request, if it is for an http:// URL; it is not granted, but forwarded. None:
        it is for a tunnel.
    """

    name = "HTTP"
    phase = Phase.REQUEST
    forward: Forward | None = None

    def __init__(self, *, needsLogin: bool = False) -> None:
        """@param needsLogin: whether clients must say who they are."""
        self._needsLogin = needsLogin
        self._gate = Gate()
        self._behind = bytearray()
        self._request: Request | None = None

    def subject(self) -> str:
        return "with a client"

    @property
    def leftover(self) -> bytes:
        """Once it is granted, the bytes behind the request: the tunnel's first ones."""
        return bytes(self._behind)

    def answers(self) -> bytes:
        """Return what is to be sent now: nothing before L{grant} or L{refuse}."""
        return b""

    def feed(self, data: bytes) -> Login | Request | None:
        """Take what the client says.

        While a Login or Request is pending, what comes is kept; pause the client meanwhile.

        @return: None if more bytes are needed.
        @raise Rejected: if it is not to be served.
        """
        if self.phase is not Phase.REQUEST:
            if self.forward is not None:
                self.forward.receive(data)
            else:
                self._behind += data
            return None
        try:
            found = self._gate.feed(data)
            return None if found is None else self._asked(found)
        except Rejected:
            self.enter(Phase.OVER)
            raise

    def judge(self, accepted: bool) -> Login | Request | None:
        """Accept a Login, or reject it. @return: the Request.

        @raise Rejected: if it is rejected.
        """
        if not accepted:
            self.enter(Phase.OVER)
            raise self._noLogin("a wrong user name or password")
        self.enter(Phase.ASKED)
        return self._request

    def grant(self) -> bytes:
        """Return the answer for a tunnel to a target that is connected; behind it the tunnel
        begins.
        """
        self.enter(Phase.OVER)
        return ESTABLISHED

    def refuse(self, error: BaseException, *, direct: bool = False) -> bytes:
        """Return the answer for a target that is not. @param direct: as in L{refusal}."""
        self.enter(Phase.OVER)
        return refusal(error, direct=direct, isHead=self._gate.isHead)

    def _asked(self, found: Connect | Forward) -> Login | Request:
        self._request = found.request
        if isinstance(found, Forward):
            self.forward = found
        else:
            self._behind += found.leftover
        if not self._needsLogin:
            self.enter(Phase.ASKED)
            return found.request
        if found.login is None:
            raise self._noLogin("no user name and password")
        self.enter(Phase.JUDGING)
        return found.login

    def _noLogin(self, why: str) -> Rejected:
        return Rejected(why, loginNeeded(isHead=self._gate.isHead), causes.CLIENT_LOGIN)
