"""The server's side of SOCKS5, 4 and 4a as bytes in, bytes out (RFC 1928, RFC 1929), without a
reactor.
"""

from __future__ import annotations

from enum import Enum

from ptunnel import causes
from ptunnel.net.asked import Login, Rejected, Request, nameOf
from ptunnel.socks import wire
from ptunnel.socks.replies import replyFor
from ptunnel.socks.side import Side


class Phase(Enum):
    """Where a handshake is."""

    GREETING = "greeting"  # waits for the greeting of SOCKS5, or the request of SOCKS4
    LOGIN = "login"  # waits for user name and password
    JUDGING = "judging"  # has them, and waits for `judge`
    REQUEST = "request"  # waits for the request
    ASKED = "asked"  # has it, and waits for `grant` or `refuse`
    OVER = "over"


class ServerHandshake(Side):
    """One client's handshake. `feed` takes what it says; `answers` is to be sent after each call.

    @ivar leftover: once it was granted, the bytes behind the request: the tunnel's first ones.
    """

    phase = Phase.GREETING
    name = "SOCKS"

    def __init__(self, *, needsLogin: bool = False) -> None:
        """@param needsLogin: whether clients must say who they are, which SOCKS4 cannot."""
        self._needsLogin, self._version, self._unsent = needsLogin, wire.VERSION, b""
        super().__init__()

    @property
    def leftover(self) -> bytes:
        return bytes(self._data)

    def answers(self) -> bytes:
        """Return what is to be sent now, once."""
        unsent, self._unsent = self._unsent, b""
        return unsent

    def feed(self, data: bytes) -> Login | Request | None:
        """Take what the client says; send `answers` after it.

        While a Login or Request is pending, what comes is kept, and not looked at; pause the client
        meanwhile.

        @return: None if more bytes are needed.
        @raise Rejected: if it breaks the protocol, or asks for what is not served.
        """
        self._data += data
        try:
            if self.phase is Phase.GREETING:
                if self._data[:1] == bytes([wire.VERSION_4]):
                    return self._request4()
                self._greeted()
            if self.phase is Phase.LOGIN:
                return self._login()
            return self._request() if self.phase is Phase.REQUEST else None
        except Rejected:
            self.enter(Phase.OVER)
            raise

    def judge(self, accepted: bool) -> Login | Request | None:
        """Accept a Login, or reject it; send `answers` after it. @return: as L{feed}.

        @raise Rejected: if it is rejected, and as L{feed}.
        """
        if not accepted:
            self.enter(Phase.OVER)
            answer = bytes([wire.LOGIN_VERSION, 1])
            raise Rejected("a wrong user name or password", answer, causes.CLIENT_LOGIN)
        self._unsent += bytes([wire.LOGIN_VERSION, 0])
        self.enter(Phase.REQUEST)
        return self.feed(b"")

    def grant(self, host: str = "0.0.0.0", port: int = 0) -> bytes:
        """Return the reply for a target that is connected; behind it the tunnel begins.

        @param host: the address from which it was connected to, a literal; that of a proxy is
            unknown.
        """
        self.enter(Phase.OVER)
        return wire.reply(self._version, wire.GRANTED, host, port)

    def refuse(self, error: BaseException, *, direct: bool = False) -> bytes:
        """Return the reply for a target that is not. @param direct: as in L{replyFor}."""
        self.enter(Phase.OVER)
        return self._reply(replyFor(error, direct=direct))

    def _greeted(self) -> None:
        data = self._data
        if not data:
            return
        if data[0] != wire.VERSION:
            raise Rejected(f"version {data[0]}, which is not SOCKS")
        if len(data) < 2 or len(data) < 2 + data[1]:
            return
        offered = data[2 : 2 + data[1]]
        del data[: 2 + len(offered)]
        # Some clients offer nothing but user name and password, whether they are wanted or not.
        wanted = [wire.PASSWORD] if self._needsLogin else [wire.NO_LOGIN, wire.PASSWORD]
        method = next((each for each in wanted if each in offered), wire.NO_METHOD)
        answer = bytes([wire.VERSION, method])
        if method == wire.NO_METHOD:
            why = "no user name and password" if self._needsLogin else "no method that is served"
            raise Rejected(why, answer, causes.CLIENT_LOGIN)
        self._unsent += answer
        self.enter(Phase.LOGIN if method == wire.PASSWORD else Phase.REQUEST)

    def _login(self) -> Login | None:
        data = self._data
        if data and data[0] != wire.LOGIN_VERSION:
            raise Rejected("a login of another version", bytes([wire.LOGIN_VERSION, 1]))
        found = wire.takeLogin(data)
        if found is None:
            return None
        username, password, end = found
        del data[:end]
        self.enter(Phase.JUDGING)
        return Login(username, password)

    def _request(self) -> Request | None:
        data = self._data
        if data and data[0] != wire.VERSION:
            raise Rejected("a request of another version", self._reply(wire.GENERAL))
        if len(data) < 2:
            return None
        self._checkCommand(data[1])
        try:
            found = wire.takeAddress(data, 3)
        except wire.BadAddress as e:
            raise Rejected(str(e), self._reply(wire.NO_ADDRESS_TYPE)) from None
        return None if found is None else self._asked(*found)

    def _request4(self) -> Request | None:
        self._version = wire.VERSION_4
        data = self._data
        if len(data) < 8:
            return None
        self._checkCommand(data[1])
        if self._needsLogin:
            why = "SOCKS4, which has no passwords"
            raise Rejected(why, self._reply(wire.NOT_ALLOWED), causes.CLIENT_LOGIN)
        try:
            found = wire.takeRequest4(data)
        except wire.BadAddress as e:
            raise Rejected(str(e), self._reply(wire.GENERAL)) from None
        return None if found is None else self._asked(*found)

    def _checkCommand(self, command: int) -> None:
        if command != wire.CONNECT:
            what = f"command {command}, and only CONNECT is served"
            raise Rejected(what, self._reply(wire.NO_COMMAND))

    def _asked(self, host: bytes | str, port: int, end: int) -> Request:
        """@param end: where the request ends."""
        del self._data[:end]
        name = nameOf(host) if isinstance(host, bytes) else host
        if name is None or not port:
            what = "a name that is none" if name is None else "port 0"
            raise Rejected(what, self._reply(wire.HOST_UNREACHABLE))
        self.enter(Phase.ASKED)
        return Request(name, port)

    def _reply(self, code: int) -> bytes:
        return wire.reply(self._version, code)
