"""The interface of a scheme that answers challenges, and Basic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ptunnel import causes
from ptunnel.auth.credentials import Credentials
from ptunnel.causes import Cause

if TYPE_CHECKING:
    from ptunnel.auth.challenges import Challenge

SchemeName = Literal["basic", "digest", "ntlm", "negotiate"]
"""A scheme as challenges have it, in lower case."""

AuthMethod = Literal["auto", SchemeName, "none"]
"""A scheme as it is chosen: "auto", the strongest that the proxy offers; "none", no scheme."""

AUTH_METHODS: tuple[AuthMethod, ...] = get_args(AuthMethod)


class Scheme(ABC):
    """One scheme at one proxy, with the same credentials. Its state is shared by all connections.

    @cvar name: its name in challenges, in lower case.
    @cvar title: its name in messages.
    @cvar bound: whether the scheme authenticates the connection, so it must be reused.
    @cvar blocking: whether an answer may block, for example on a request to another server.
    """

    name: ClassVar[SchemeName]
    title: ClassVar[str]
    bound: ClassVar[bool] = False
    blocking: ClassVar[bool] = False

    def __init__(self, credentials: Credentials | None, proxyHost: str = "") -> None:
        """
        @param credentials: None only for a scheme that needs none.
        @param proxyHost: the proxy's name, without a port.
        """
        self.credentials = credentials
        self.proxyHost = proxyHost

    @classmethod
    def lacks(cls, credentials: Credentials | None, challenges: Sequence[Challenge]) -> str:
        """Return advice about a missing requirement; "" if nothing is missing.

        @param challenges: the challenges of this scheme.
        """
        return "" if credentials is not None else causes.CREDENTIALS_MISSING.hint

    @classmethod
    def best(cls, challenges: Sequence[Challenge]) -> Challenge:
        """Return the one to answer, of several challenges of this scheme."""
        return challenges[0]

    @abstractmethod
    def begin(self, target: str, method: str = "CONNECT") -> Exchange:
        """Begin the authentication of one request.

        @param target: as the request has it: `host:port` of CONNECT, else a URL.
        """


class Exchange(ABC):
    """The authentication of one request, as values of Proxy-Authorization.

    @ivar midway: whether more messages have to follow on the same connection.
    @ivar continues: whether the newest answer was such a further message.
    @ivar channel: the channel binding of the TLS connection to the proxy (RFC 5929 section 4); b""
        for none.
    """

    midway = False
    continues = False
    channel = b""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._sent: list[bytes] = []

    @abstractmethod
    def first(self) -> bytes | None:
        """Return the value to send before a challenge, to a proxy that has accepted this scheme
        before; None if a challenge is needed first.

        @raise ChallengeError: if nothing can be sent any more.
        """

    @abstractmethod
    def answer(self, challenge: Challenge) -> bytes | None:
        """Return the answer to a 407; None if the 407 means that the credentials were rejected.

        @raise ChallengeError: for a challenge that cannot be answered.
        """

    @property
    def told(self) -> bool:
        """Whether an identity was sent, so that it counts as an attempt."""
        return True

    def accepted(self, info: bytes | None = None) -> None:  # noqa: B027 (most learn nothing by it)
        """Note the proxy's acceptance. @param info: its Proxy-Authentication-Info (RFC 7615)."""

    def secrets(self) -> tuple[bytes, ...]:
        """Return the secrets that went to the proxy, for masking."""
        credentials = self._scheme.credentials
        return (*self._sent, *(credentials.secrets() if credentials is not None else ()))


class Basic(Scheme):
    """User name and password in clear (RFC 7617)."""

    name = "basic"
    title = "Basic"

    def begin(self, target: str, method: str = "CONNECT") -> Exchange:
        return _BasicExchange(self)


class _BasicExchange(Exchange):
    _done = False

    def first(self) -> bytes | None:
        credentials = self._scheme.credentials
        assert credentials is not None
        self._done = True
        return credentials.basic()

    def answer(self, challenge: Challenge) -> bytes | None:
        return None if self._done else self.first()


class NoScheme(ValueError):
    """None of the offered schemes can be used. The text says what to do.

    @ivar cause: the Cause of the failure.
    """

    def __init__(self, advice: str, cause: Cause = causes.SCHEME_NOT_SERVED) -> None:
        super().__init__(advice)
        self.cause = cause
