"""NTLM and Negotiate, the schemes of Windows domains, by pyspnego.

Both authenticate a connection, in several steps (RFC 4559, MS-NTHT). pyspnego is imported only if
a proxy asks for them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from ptunnel.auth.challenges import Challenge, ChallengeError
from ptunnel.auth.credentials import Credentials
from ptunnel.auth.schemes import Exchange, Scheme
from ptunnel.text import printable


class _Spnego(Scheme):
    """@cvar extra: the extra of the package to install."""

    bound = True
    extra: ClassVar[str]

    @classmethod
    def lacks(cls, credentials: Credentials | None, challenges: Sequence[Challenge]) -> str:
        if find_spec("spnego") is None:
            return f"for {cls.title}, pip install 'ptunnel[{cls.extra}]'"
        return super().lacks(credentials, challenges)

    def begin(self, target: str, method: str = "CONNECT") -> Exchange:
        return _SpnegoExchange(self)


class Ntlm(_Spnego):
    """A challenge and response for Windows accounts."""

    name = "ntlm"
    title = "NTLM"
    extra = "ntlm"


class Negotiate(_Spnego):
    """A Kerberos ticket for HTTP/proxyhost, or NTLM in its place."""

    name = "negotiate"
    title = "Negotiate"
    extra = "negotiate"
    blocking = True  # it may have to fetch a ticket from its server

    @classmethod
    def lacks(cls, credentials: Credentials | None, challenges: Sequence[Challenge]) -> str:
        lack = super().lacks(credentials, challenges)
        return lack if credentials is not None or find_spec("spnego") is None else _lacksTickets()


def _lacksTickets() -> str:
    """Return advice about what a ticket of the user's own needs; "" if nothing is missing."""
    if find_spec("gssapi") is None:
        return "give a user name and password, or for Kerberos pip install 'ptunnel[negotiate]'"
    return ""


class _SpnegoExchange(Exchange):
    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self._context: Any = None
        self._isRestarted = False

    def first(self) -> bytes | None:
        return self._step(None)

    def answer(self, challenge: Challenge) -> bytes | None:
        if not challenge.token:
            if self.told:
                return None
            # It starts (again) from the beginning, and no identity was sent yet.
            if self._isRestarted:
                raise ChallengeError(f"it does not go on with {self._scheme.title}")
            self._isRestarted, self._context = self._context is not None, None
            return self._step(None)
        try:
            token = base64.b64decode(challenge.token, validate=True)
        except (binascii.Error, ValueError):
            raise ChallengeError(f"its {self._scheme.title} token is not base64") from None
        if self._context is None:
            raise ChallengeError(f"its {self._scheme.title} token came before ours")
        if not self.midway:
            return None
        return self._step(token)

    @property
    def told(self) -> bool:
        """NTLM's first message contains no identity; a ticket does."""
        if self._context is None:
            return False
        return not self.midway or self._context.negotiated_protocol != "ntlm"

    def _step(self, token: bytes | None) -> bytes:
        title = self._scheme.title
        try:
            if self._context is None:
                self._context = self._newContext()
            answer = self._context.step(token)
        except ImportError:
            what = f"for {title}, pip install 'ptunnel[negotiate]'"
            raise ChallengeError(what) from None
        except Exception as e:  # any error of pyspnego or the libraries below it
            if token is not None:
                raise ChallengeError(f"its {title} token makes no sense") from None
            raise ChallengeError(f"{title} cannot begin: {_words(e)}") from None
        if not answer:
            raise ChallengeError(f"its {title} token asks for nothing")
        self.midway, self.continues = not self._context.complete, token is not None
        encoded = base64.b64encode(answer)
        self._sent.append(encoded)
        return title.encode() + b" " + encoded

    def _newContext(self) -> Any:
        import spnego
        from spnego.channel_bindings import GssChannelBindings

        credentials = self._scheme.credentials
        bindings = GssChannelBindings(application_data=self.channel) if self.channel else None
        return spnego.client(
            credentials.username if credentials is not None else None,
            credentials.password.reveal() if credentials is not None else None,
            hostname=self._scheme.proxyHost,
            service="HTTP",
            protocol=self._scheme.name,
            channel_bindings=bindings,
        )


def _words(error: Exception) -> str:
    """Return why there is no context. The texts of pyspnego's own errors contain no secret."""
    text = " ".join(str(error).split())
    with contextlib.suppress(ImportError):
        from spnego.exceptions import SpnegoError

        if isinstance(error, SpnegoError):
            base = getattr(error, "base_error", None) or getattr(error, "_base_error", None)
            text = " ".join(str(base or error).split())
    if "credentials cache" in text.lower() or "no kerberos credentials" in text.lower():
        return "there is no Kerberos ticket; run kinit"
    return printable(text)[:200] or type(error).__name__
