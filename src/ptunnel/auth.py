"""Answers to a proxy's challenges. Knows no reactor; used by handshake and endpoint."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

# A password of so few characters may stand in a text by chance.
MIN_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password for one proxy; the repr shows no password.

    @raise ValueError: where Basic could not carry them: a control character or what is no UTF-8
        in either, or a colon in the user name (RFC 7617 section 2).
    """

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if ":" in self.username:
            raise ValueError("a user name must not hold a colon (RFC 7617)")
        for what, text in ("user name", self.username), ("password", self.password):
            if any(c < " " or c == "\x7f" for c in text):
                raise ValueError(f"a {what} must not hold control characters (RFC 7617)")
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise ValueError(f"a {what} must be text that UTF-8 can carry")

    def basic(self) -> bytes:
        """The value of a Proxy-Authorization header (RFC 7617 section 2), in UTF-8."""
        return b"Basic " + base64.b64encode(f"{self.username}:{self.password}".encode())

    def secrets(self) -> tuple[bytes, ...]:
        """The forms in which the password could come back from a proxy. One of a few characters
        is looked for only as a part of the header: it would be found in any text.
        """
        token = self.basic().removeprefix(b"Basic ")
        plain = self.password.encode()
        return (token, plain) if len(plain) > MIN_SHOWN else (token,)
