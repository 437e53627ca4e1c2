"""What a client asks of us before it is carried: who it is, and where to."""

from __future__ import annotations

from dataclasses import dataclass


class Rejected(ValueError):
    """The client is not to be served. The text says why, and quotes nothing secret.

    @ivar answer: what it is to be sent before the connection is closed; may be b"".
    """

    def __init__(self, why: str, answer: bytes = b"") -> None:
        super().__init__(why)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Login:
    """The client has said who it is.

    @ivar password: not in the repr.
    """

    username: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Login({self.username!r}, ***)"


@dataclass(frozen=True, slots=True)
class Request:
    """The client asks for a target.

    @ivar host: an address without brackets, or a name that was not looked up; it fits into a
        request.
    """

    host: str
    port: int
