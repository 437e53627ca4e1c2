"""CONNECT as bytes in, bytes out (RFC 9110 section 9.3.6), without a reactor.

A 2xx answer means one thing, whatever its header fields say, so only its head is checked. The body
of any other answer is read too: it may explain why there is no tunnel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, cast

from ptunnel.connect.heads import BadHead, HeadReader
from ptunnel.errors import CredentialsRefused, TunnelError
from ptunnel.net.addresses import hostPort

if TYPE_CHECKING:
    from ptunnel.connect.body import RefusalBody
    from ptunnel.connect.refusals import Asked


class Phase(Enum):
    """Where a handshake is."""

    WAITING = "waiting"  # for the first byte of an answer
    READING = "reading"  # the heads of 1xx, and that of the final answer
    REFUSED = "refused"  # waits for the beginning of the body, which may explain it
    DRAINING = "draining"  # waits for the end of a 407's body, to keep the connection
    ESTABLISHED = "established"
    CHALLENGED = "challenged"
    FAILED = "failed"


# Before Python 3.12 an attribute of an Enum is slow, and these are looked up for each connection.
WAITING, READING, REFUSED, DRAINING, ESTABLISHED, CHALLENGED, FAILED = Phase


@dataclass(frozen=True, slots=True)
class Established:
    """The tunnel stands.

    @ivar leftover: the bytes that came after the answer: the first ones of the tunnel.
    """

    leftover: bytes


_ESTABLISHED = Established(b"")  # of most answers


@dataclass(frozen=True, slots=True)
class Challenged:
    """The proxy answered 407, and the request may be sent again with credentials.

    @ivar values: the values of its Proxy-Authenticate fields (RFC 9110 section 11.7.1).
    @ivar reusable: True if the next request may go on the same connection.
    @ivar refusal: the failure if the challenge cannot be answered.
    @ivar midway: True if it continues the exchange that was begun on this connection, which is then
        kept unless it really ends.
    """

    values: tuple[bytes, ...]
    reusable: bool
    refusal: CredentialsRefused
    midway: bool = False


class Handshake:
    """One CONNECT on one connection, from the first byte of the proxy's answer.

    @ivar phase: changed by `enter` only.
    @ivar heads: the heads of the answers; it has the final status.
    """

    phase = WAITING
    _body: RefusalBody | None = None

    def __init__(
        self,
        host: str,
        port: int,
        *,
        hop: str = "",
        authenticated: bool = False,
        answerable: bool = False,
        midway: bool = False,
        secrets: Sequence[bytes] = (),
        heard: Callable[[bytes], None] | None = None,
    ) -> None:
        """
        @param host: the target's, as in L{connectRequest}.
        @param hop: the proxy's name in failures.
        @param authenticated: True if the request carried credentials.
        @param answerable: True if a 407 may be answered.
        @param midway: True if the request carried the beginning of an exchange that only this
            connection can continue.
        @param secrets: never shown in a failure, even if the proxy sends them back.
        @param heard: called with the head of each answer as soon as it is complete, 1xx too.
        """
        self._host = host
        self._port = port
        self._hop = hop
        self._authenticated = authenticated
        self._answerable = answerable
        self._midway = midway
        self._secrets = secrets
        self.heads = HeadReader(heard)

    def __repr__(self) -> str:
        target = hostPort(self._host, self._port)
        return f"<Handshake with {self._hop or 'a proxy'} for {target}: {self.phase.value}>"

    def enter(self, phase: Phase) -> None:
        self.phase = phase

    @property
    def offers(self) -> tuple[str, ...]:
        """The schemes of a 407 that may be answered, as people write them."""
        return self._body.offers if self._body is not None and self.isChallenged else ()

    @property
    def awaitsBody(self) -> bool:
        """True while the body of a final answer other than 2xx is read."""
        return self.phase is REFUSED or self.phase is DRAINING

    @property
    def isChallenged(self) -> bool:
        """True once the head of a 407 that may be answered is complete."""
        return self._body is not None and self._body.drains

    @property
    def isMidway(self) -> bool:
        """True if a challenge continues an exchange that was begun on this connection."""
        return self._body is not None and self._body.isMidway

    def feed(self, data: bytes) -> Established | Challenged | None:
        """Take the next bytes from the proxy.

        @return: None if more bytes are needed.
        @raise ProxyRefused: for any final answer except 2xx, and except a 407 that may be answered.
        @raise ProxyFailed: if it is not an answer to CONNECT, at the first impossible byte.
        """
        if self.phase is WAITING and data:
            self.enter(READING)
        try:
            body = self._body
            if body is None:
                heads = self.heads
                if not heads.feed(data):
                    return None
                data = heads.rest
                if heads.status < 300:
                    self.enter(ESTABLISHED)
                    return Established(data) if data else _ESTABLISHED
                body = self._beginBody()
            if not body.feed(data):
                return None
            if not body.drains:
                raise body.failure()
            return self._challenged(body, body.isReusable)
        except BadHead as e:
            self.enter(FAILED)
            raise self._asked.failed(e.what, e.cause) from None
        except TunnelError:
            self.enter(FAILED)
            raise

    def _beginBody(self) -> RefusalBody:
        from ptunnel.connect.body import RefusalBody  # a refusal has time for h11

        body = self._body = RefusalBody(
            self._asked, self.heads.head, answerable=self._answerable, midway=self._midway
        )
        self.enter(DRAINING if body.drains else REFUSED)
        return body

    def _challenged(self, body: RefusalBody, reusable: bool) -> Challenged:
        self.enter(CHALLENGED)
        refusal = cast(CredentialsRefused, body.failure())
        return Challenged(body.challenges, reusable, refusal, body.isMidway)

    def cutShort(self) -> Challenged:
        """Wait no longer for the body of a challenge.

        @return: the challenge, to be answered on another connection.
        """
        assert self._body is not None
        return self._challenged(self._body, reusable=False)

    def end(self) -> TunnelError:
        """The connection has ended before the tunnel stood. @return: the failure."""
        self.enter(FAILED)
        return self._body.failure() if self._body else self._asked.hungUp(self.heads.begun)

    def expire(self, seconds: float) -> TunnelError:
        """The time is over before the tunnel stood.

        @param seconds: the time that there was.
        @return: the failure.
        """
        self.enter(FAILED)
        return self._body.failure() if self._body else self._asked.late(self.heads.begun, seconds)

    @property
    def _asked(self) -> Asked:
        from ptunnel.connect.refusals import Asked

        where = hostPort(self._host, self._port)
        secrets = tuple(self._secrets)
        return Asked(self._host, self._port, where, self._hop, self._authenticated, secrets)
