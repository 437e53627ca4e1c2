"""Who we are at the next proxy, for one request."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from ptunnel.errors import CredentialsRefused, TunnelError
from ptunnel.log import Trace
from ptunnel.login.authentication import Authentication
from ptunnel.login.login import Login

# How long a request with new credentials keeps a second one from trying, in seconds. A proxy says
# soon that it rejects them, as a rule; what takes longer is its way to the origin.
VERDICT_WAIT = 3.0


def needsAsking(login: Login, isOpen: bool) -> bool:
    """Return whether a request has something to send, or a failure to report, before a challenge.

    @param isOpen: whether a request has passed on its connection.
    """
    if not login.speaksFirst:
        return False
    known = login.known
    return not isOpen or (known is not None and not known.bound)


class Asker:
    """The authentication of one request, perhaps on several connections."""

    def __init__(
        self, login: Login, target: str, method: bytes, uri: bytes, trace: Trace | None
    ) -> None:
        """
        @param target: `host:port`. @param uri: as the request has it.
        """
        self._login = login
        self._authentication = Authentication(
            login, target, trace, method=method.decode("ascii"), uri=uri.decode("ascii")
        )
        self._sentAt: float | None = None

    @property
    def isBound(self) -> bool:
        """Whether the scheme in use authenticates the connection, which must then be kept."""
        return self._authentication.exchanges.bound

    @property
    def isMidway(self) -> bool:
        """Whether more messages have to follow on the same connection."""
        return self._authentication.exchanges.midway

    @property
    def continues(self) -> bool:
        """Whether the newest answer has to go on the connection that brought the challenge."""
        return self._authentication.exchanges.continues

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets that went to the proxy."""
        return self._authentication.exchanges.secrets()

    @inlineCallbacks
    def first(self, channel: bytes | None) -> Generator[Deferred[Any], Any, bytes | None]:
        """Return the value of Proxy-Authorization before any challenge, or None.

        @param channel: the binding of the TLS connection on which it goes out; None: it has none.
        @return: a Deferred; it fails with a TunnelError.
        """
        value: bytes | None = yield self._authentication.first()
        if self._authentication.isOpening:
            value = yield self._authentication.open(channel)
        return value

    def answer(
        self, values: Sequence[bytes], refusal: CredentialsRefused, channel: bytes | None
    ) -> Deferred[bytes | None]:
        """Return the value for the next request; see L{Authentication.answer}."""
        return self._authentication.answer(values, refusal, channel)

    def giveWay(self, error: TunnelError) -> Deferred[bytes | None]:
        """Return what another scheme sends on a new connection."""
        return self._authentication.giveWay(error)

    def sent(self, now: float) -> None:
        """Let others wait for the verdict on the credentials, though not for long."""
        self._authentication.sent()
        self._sentAt = now

    def passed(self, status: int, info: bytes | None) -> None:
        """Note a final answer other than 407."""
        self._sentAt = None
        if status < 400:
            self._authentication.accepted(info)
        else:
            # It may be the origin's answer, or that of a proxy which has not looked at who we are.
            self._authentication.refused(None)

    def late(self, seconds: float) -> TunnelError:
        """Return the failure of a value that was not ready within so many seconds."""
        return self._authentication.late(seconds)

    def leave(self) -> None:
        """End it, whatever its outcome. Idempotent."""
        self._sentAt = None
        self._authentication.leave()

    def check(self, now: float) -> None:
        if self._sentAt is not None and now >= self._sentAt + VERDICT_WAIT:
            self._authentication.stepAside()
