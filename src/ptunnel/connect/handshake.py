"""CONNECT as bytes in, bytes out (RFC 9110 section 9.3.6), without a reactor.

A 2xx answer means one thing, whatever its header fields say, so only its head is checked. The body
of any other answer is read too: it may explain why there is no tunnel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from ptunnel import causes
from ptunnel.connect.heads import BadHead, HeadReader, authenticationInfoIn, dateIn
from ptunnel.errors import CredentialsRefused, ProxyTimeout, TunnelError
from ptunnel.net.addresses import hostPort

if TYPE_CHECKING:
    from ptunnel.connect.body import RefusalBody
    from ptunnel.connect.refusals import Asked


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
    """One CONNECT on one connection, from the first byte of the proxy's answer."""

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
        @param hop: what failures call the proxy.
        @param authenticated: True if the request carried credentials.
        @param answerable: True if a 407 may be answered.
        @param midway: True if the request carried the beginning of an exchange that only this
            connection can continue.
        @param secrets: what no failure may show, even if the proxy sends it back.
        @param heard: called with the head of each answer as soon as it is complete, 1xx too.
        """
        self._host = host
        self._port = port
        self._hop = hop
        self._authenticated = authenticated
        self._answerable = answerable
        self._midway = midway
        self._secrets = secrets
        self._heads = HeadReader(heard)

    @property
    def begun(self) -> bool:
        """True once a byte of an answer has come."""
        return self._heads.begun

    @property
    def status(self) -> int:
        """The status of the final answer once its head is complete; until then 0."""
        return self._heads.status

    @property
    def authenticationInfo(self) -> bytes | None:
        """The value of Proxy-Authentication-Info in the answer (RFC 7615 section 4)."""
        return authenticationInfoIn(self._heads.head)

    @property
    def date(self) -> datetime | None:
        """The time of the proxy's clock in its final answer (RFC 9110 section 6.6.1)."""
        return dateIn(self._heads.head) if self.status else None

    @property
    def offers(self) -> tuple[str, ...]:
        """The schemes of a 407 that may be answered, as people write them."""
        return self._body.offers if self._body is not None and self._body.drains else ()

    @property
    def isRefused(self) -> bool:
        """True once the head of a final answer other than 2xx is complete."""
        return self._body is not None

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
        body = self._body
        if body is None:
            heads = self._heads
            try:
                if not heads.feed(data):
                    return None
            except BadHead as e:
                raise self._asked.failed(e.what, e.cause) from None
            if heads.status < 300:
                rest = heads.rest
                return Established(rest) if rest else _ESTABLISHED
            from ptunnel.connect.body import RefusalBody  # a refusal has time for h11

            body = self._body = RefusalBody(
                self._asked, heads.head, answerable=self._answerable, midway=self._midway
            )
            data = heads.rest
        if not body.feed(data):
            return None
        if not body.drains:
            raise body.failure()
        return _challenge(body, body.isReusable)

    def cutShort(self) -> Challenged:
        """Wait no longer for the body of a challenge.

        @return: the challenge, to be answered on another connection.
        """
        assert self._body is not None
        return _challenge(self._body, reusable=False)

    def end(self) -> TunnelError:
        """The connection has ended before the tunnel stood. @return: the failure."""
        if self._body is not None:
            return self._body.failure()
        if not self.begun:
            return self._asked.failed("closed the connection without an answer", causes.HUNG_UP)
        return self._asked.failed("closed the connection in the middle of its answer")

    def expire(self, seconds: float) -> TunnelError:
        """The time is over before the tunnel stood.

        @param seconds: the time that there was.
        @return: the failure.
        """
        if self._body is not None:
            return self._body.failure()
        asked = self._asked
        what = "finish its answer to" if self.begun else "answer"
        message = f"did not {what} CONNECT {asked.authority} within {seconds:g} s"
        return ProxyTimeout(f"{asked.who} {message}", hop=self._hop, cause=causes.SILENT)

    @property
    def _asked(self) -> Asked:
        from ptunnel.connect.refusals import Asked

        where = hostPort(self._host, self._port)
        secrets = tuple(self._secrets)
        return Asked(self._host, self._port, where, self._hop, self._authenticated, secrets)


def _challenge(body: RefusalBody, reusable: bool) -> Challenged:
    refusal = cast(CredentialsRefused, body.failure())
    return Challenged(body.challenges, reusable, refusal, body.isMidway)
