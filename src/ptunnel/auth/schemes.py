"""How a scheme answers challenges: the interface, and Basic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from ptunnel import causes
from ptunnel.auth.challenges import Challenge
from ptunnel.auth.credentials import Credentials
from ptunnel.causes import Cause


class Scheme(ABC):
    """One scheme at one proxy, for as long as the credentials are the same; what it learned there
    serves all connections.

    @cvar name: as challenges have it, in lower case.
    @cvar title: as people write it.
    @cvar bound: whether it is a connection that is authenticated, not a request.
    @cvar blocking: whether answers may ask another server first, and block.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    bound: ClassVar[bool] = False
    blocking: ClassVar[bool] = False

    def __init__(self, credentials: Credentials | None, proxyHost: str = "") -> None:
        """
        @param credentials: None only for a scheme that does without them.
        @param proxyHost: the proxy's name, without a port.
        """
        self.credentials = credentials
        self.proxyHost = proxyHost

    @classmethod
    def lacks(cls, credentials: Credentials | None, challenges: Sequence[Challenge]) -> str:
        """What is missing for it, as an advice; "" where nothing is.

        @param challenges: those of this scheme.
        """
        return "" if credentials is not None else causes.CREDENTIALS_MISSING.hint

    @classmethod
    def best(cls, challenges: Sequence[Challenge]) -> Challenge:
        """Of several challenges of this scheme, the one to answer."""
        return challenges[0]

    @abstractmethod
    def begin(self, target: str) -> Exchange:
        """The authentication of one CONNECT. @param target: `host:port`, as the request has it."""


class Exchange(ABC):
    """The authentication of one CONNECT, as values of Proxy-Authorization.

    @ivar midway: whether what was sent so far is a part only, and the rest has to follow on the
        same connection.
    @ivar continues: whether the newest answer is such a rest.
    @ivar channel: what binds it to the TLS connection that it goes through (RFC 5929 section 4);
        b"" where there is none.
    """

    midway = False
    continues = False
    channel = b""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._sent: list[bytes] = []

    @abstractmethod
    def first(self) -> bytes | None:
        """What can be sent unasked to a proxy that has accepted this scheme before; None where it
        has to ask first.

        @raise ChallengeError: where there is nothing to be sent any more.
        """

    @abstractmethod
    def answer(self, challenge: Challenge) -> bytes | None:
        """What to send in answer to a 407; None where that says: the credentials are rejected.

        @raise ChallengeError: for what cannot be answered.
        """

    @property
    def told(self) -> bool:
        """Whether what was sent shows who we are, so that it counts as an attempt."""
        return True

    def accepted(self, info: bytes | None = None) -> None:  # noqa: B027 (most learn nothing by it)
        """The proxy let it pass. @param info: its Proxy-Authentication-Info (RFC 7615)."""

    def secrets(self) -> tuple[bytes, ...]:
        """What went to the proxy, and nobody else is to see."""
        credentials = self._scheme.credentials
        return (*self._sent, *(credentials.secrets() if credentials is not None else ()))


class Basic(Scheme):
    """User name and password as they are (RFC 7617)."""

    name = "basic"
    title = "Basic"

    def begin(self, target: str) -> Exchange:
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
    """None of the schemes that are offered can be used; its text says what to do.

    @ivar cause: whether that is for want of credentials.
    """

    def __init__(self, advice: str, cause: Cause = causes.SCHEME_NOT_SERVED) -> None:
        super().__init__(advice)
        self.cause = cause
