"""What is said between client and target before they are joined, for protocols whose client must
first be told something. Used by tunnel.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.internet.protocol import Protocol as ProtocolBase
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from ptunnel.errors import TargetFailed
from ptunnel.transports import abort, receiverOf, setReceiver


class Prelude(Protocol):
    """What is said, as bytes in, bytes out. L{ptunnel.starttls.Prelude} is one."""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take what the client sent.

        @return: what the client is sent; and what the target is sent, after which its `answer` is
            awaited, or None where more of the client is needed.
        @raise ValueError: for a client that cannot be served, in words that lack the subject.
        """

    def answer(self, data: bytes) -> bytes | None:
        """Take what the target sent.

        @return: what the client is sent, after which both are joined; None: more is needed.
        """


def introduce(prelude: Prelude, client: ITransport, target: ITransport) -> Deferred[None]:
    """Let a prelude speak.

    @param client: paused; it is paused again when this is done.
    @return: a Deferred that fires when both can be joined, and fails with L{TargetFailed} when one
        of them ends before that, or the client cannot be served; the target is then aborted.
        Cancelling it aborts the target too.
    """
    return _Introduction(prelude, client, target).done


class _Introduction:
    def __init__(self, prelude: Prelude, client: ITransport, target: ITransport) -> None:
        self._prelude = prelude
        self._client = cast(Any, client)
        self._target = cast(Any, target)
        self.done: Deferred[None] = Deferred(lambda _: abort(target))
        setReceiver(client, _Side(self._clientSaid, self._fail, receiverOf(client)))
        setReceiver(target, _Side(self._targetSaid, self._fail, receiverOf(target)))
        self._client.resumeProducing()

    def _clientSaid(self, data: bytes) -> None:
        try:
            answer, request = self._prelude.feed(data)
        except ValueError as e:
            self._fail(f"the client {e}")
            return
        if answer:
            self._client.write(answer)
        if request is not None:
            self._client.pauseProducing()
            self._target.write(request)

    def _targetSaid(self, data: bytes) -> None:
        answer = self._prelude.answer(data)
        if answer is not None and not self.done.called:
            self._client.write(answer)
            self.done.callback(None)

    def _fail(self, why: str) -> None:
        if not self.done.called:
            abort(self._target)
            self.done.errback(TargetFailed(why))


class _Side(ProtocolBase):
    """One of the two, for as long as that takes."""

    def __init__(self, said: Any, lost: Any, before: IProtocol) -> None:
        self._said = said
        self._lost = lost
        self._before = before

    def dataReceived(self, data: bytes) -> None:
        self._said(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        try:
            self._before.connectionLost(reason)
        finally:
            self._lost("the connection was closed before the session began")
