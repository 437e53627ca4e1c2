"""How the clients of a door ask: by SOCKS or by HTTP, which the first byte tells."""

from __future__ import annotations

from typing import Protocol

from ptunnel.door.kinds import Kind, kindOf
from ptunnel.net.asked import Login, Rejected, Request
from ptunnel.socks.server import ServerHandshake


class Asking(Protocol):
    """What one client says until it has its target, as bytes in, bytes out.

    @ivar name: the protocol, for people.
    @ivar leftover: once it was granted, the bytes behind the request: the tunnel's first ones.
    """

    @property
    def name(self) -> str: ...
    @property
    def leftover(self) -> bytes: ...

    def feed(self, data: bytes) -> Login | Request | None:
        """Take what the client says; send `answers` after it.

        @return: None if more bytes are needed.
        @raise Rejected: if it is not to be served.
        """

    def answers(self) -> bytes:
        """Return what is to be sent now, once."""

    def judge(self, accepted: bool) -> Login | Request | None:
        """Accept a Login, or reject it; else as L{feed}."""

    def grant(self) -> bytes:
        """Return the answer for a target that is connected."""

    def refuse(self, error: BaseException, *, direct: bool = False) -> bytes:
        """Return the answer for a target that is not.

        @param direct: whether there was no proxy, so an Unreachable is about the target.
        """


def askingFor(protocol: str, first: int, *, needsLogin: bool) -> Asking:
    """Return the conversation with a client.

    @param protocol: what the door speaks: "auto", "socks" or "http".
    @param first: the first byte of the client.
    @param needsLogin: whether clients must say who they are.
    @raise Rejected: if it is neither, or not what the door speaks.
    """
    # What is not HTTP gets a page from a door for HTTP, where the first byte says so little.
    kind = Kind.HTTP if protocol == "http" else kindOf(first)
    if protocol not in ("auto", kind.value):
        raise Rejected(f"{kind.value.upper()}, which this door does not speak")
    if kind is Kind.SOCKS:
        return ServerHandshake(needsLogin=needsLogin)
    from ptunnel.door.http.handshake import HttpHandshake  # and h11, where somebody asks

    return HttpHandshake(needsLogin=needsLogin)
