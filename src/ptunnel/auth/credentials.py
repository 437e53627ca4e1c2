"""A user name and a password for one proxy."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import quote

# A password this short may occur in a text by chance.
MIN_SHOWN = 3


class Secret:
    """A text that no repr, format, log or traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True, init=False)
class Credentials:
    """A user name and a password for one proxy; the repr shows no password.

    @raise ValueError: if a scheme could not carry them: a control character or one that is not
        UTF-8 in either, or a colon in the user name (RFC 7617 section 2, RFC 7616 section 3.4.2).
    """

    username: str
    password: Secret

    def __init__(self, username: str, password: Secret | str) -> None:
        secret = password if isinstance(password, Secret) else Secret(password)
        object.__setattr__(self, "username", username)
        object.__setattr__(self, "password", secret)
        if ":" in username:
            raise ValueError("a user name must not hold a colon (RFC 7617)")
        for what, text in ("user name", username), ("password", secret.reveal()):
            if any(c < " " or c == "\x7f" for c in text):
                raise ValueError(f"a {what} must not hold control characters (RFC 7617)")
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise ValueError(f"a {what} must be text that UTF-8 can carry")

    def basic(self) -> bytes:
        """Return the value of a Proxy-Authorization header (RFC 7617 section 2), in UTF-8."""
        both = f"{self.username}:{self.password.reveal()}"
        return b"Basic " + base64.b64encode(both.encode())

    def secrets(self) -> tuple[bytes, ...]:
        """Return the forms in which a proxy could send the password back. For a very short one only
        the header's value: the password itself would be found in any text.
        """
        token = self.basic().removeprefix(b"Basic ")
        plain = self.password.reveal()
        if len(plain.encode()) <= MIN_SHOWN:
            return (token,)
        # Quoted strictly, and as most libraries quote.
        quoted = quote(plain, safe="").encode(), quote(plain).encode()
        forms = plain.encode(), *quoted, base64.b64encode(plain.encode())
        return tuple(dict.fromkeys((token, *forms)))
