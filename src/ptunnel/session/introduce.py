"""What is said between client and target before they are joined, for protocols whose client must
first be told something. Used by tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.errors import TargetFailed, TunnelError
from ptunnel.net.transports import abort, receiverOf, setReceiver
from ptunnel.tls import tlsFailure


class Prelude(Protocol):
    """What is said, as bytes in, bytes out. L{ptunnel.starttls.Prelude} is one.

    @ivar answered: whether the target answers what the client was let say.
    """

    answered: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take what the client sent.

        @return: what the client is sent; and what the target is sent, after which its `answer` is
            awaited, or None where more of the client is needed.
        @raise ValueError: for a client that cannot be served, in words that lack the subject.
        """

    def answer(self, data: bytes) -> bytes | None:
        """Take what the target sent.

        @return: what the client is sent first when both are joined; None: more is needed.
        """

    def ended(self) -> ValueError:
        """What it means that the client has closed the connection; the words lack the subject."""


def introduce(prelude: Prelude, client: ITransport, target: ITransport) -> Deferred[None]:
    """Let a prelude speak. Both transports then have the protocols again that they had before.

    @param client: paused; it is paused again when both can be joined.
    @return: a Deferred that fires then; the target's protocol gets at once what the client is to
        be sent. It fails with L{TunnelError} when one of them ends before that, or cannot be
        served, and with whatever else the prelude raised. The target is then aborted, as it is
        when the Deferred is cancelled.
    @raise TypeError: for a transport that does not let go of its protocol; the target is aborted.
    """
    return _Introduction(prelude, client, target).done


class _Introduction:
    """@ivar done: what L{introduce} gives out."""

    def __init__(self, prelude: Prelude, client: ITransport, target: ITransport) -> None:
        self._prelude = prelude
        self._client = cast(Any, client)
        self._target = cast(Any, target)
        self._asked = False
        self._sides: list[_Side] = []
        self.done: Deferred[None] = Deferred(lambda _: self._giveUp())
        try:
            self._sides.append(_Side(target, self._targetSaid, self._targetLost, self._fail))
            self._sides.append(_Side(client, self._clientSaid, self._clientLost, self._fail))
        except TypeError:
            self._giveUp()
            raise
        self._client.resumeProducing()

    def _clientSaid(self, data: bytes) -> None:
        if self._asked:  # a transport over TLS gives what it has read even when it is paused
            self._target.write(data)
            return
        try:
            answer, request = self._prelude.feed(data)
        except ValueError as e:
            self._fail(TunnelError(f"the client {e}"))
            return
        if answer:
            self._client.write(answer)
        if request is not None:
            self._asked = True
            self._client.pauseProducing()
            self._target.write(request)
            if not self._prelude.answered:
                self._leave()
                self.done.callback(None)

    def _targetSaid(self, data: bytes) -> None:
        if not self._asked:
            self._fail(_odd("the target speaks before it is asked"))
            return
        answer = self._prelude.answer(data)
        if answer is not None:
            self._leave()
            self.done.callback(None)
            # By way of whoever has joined them: so it is counted, and the client's transport holds
            # nothing that would keep the kernel from splicing it.
            if not getattr(self._target, "disconnecting", False):
                receiverOf(self._target).dataReceived(answer)

    def _clientLost(self, reason: Failure) -> None:
        self._fail(TunnelError(f"the client {self._prelude.ended()}"))

    def _targetLost(self, reason: Failure) -> None:
        if reason.check("OpenSSL.SSL.Error"):
            # Since TLS 1.3 a server looks at our certificate when the handshake is done for us.
            error = cast(BaseException, reason.value)
            self._fail(tlsFailure(error, "the target", target=True))
        else:
            self._fail(_odd("the target closed the connection before it answered"))

    def _fail(self, reason: Failure | Exception) -> None:
        if not self.done.called:
            self._giveUp()
            self.done.errback(reason)

    def _giveUp(self) -> None:
        self._leave()
        abort(self._target)

    def _leave(self) -> None:
        sides, self._sides = self._sides, []
        for side in sides:
            side.leave()


def _odd(what: str) -> TargetFailed:
    return TargetFailed(what, cause=causes.TARGET_PROTOCOL.id)


class _Side(protocol.Protocol):
    """The protocol of one of the two, for as long as that takes."""

    def __init__(
        self,
        transport: ITransport,
        said: Callable[[bytes], None],
        lost: Callable[[Failure], None],
        fail: Callable[[Failure], None],
    ) -> None:
        self._said = said
        self._lost = lost
        self._fail = fail
        self._before = receiverOf(transport)
        self._taken: ITransport | None = transport
        setReceiver(transport, self)

    def leave(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            setReceiver(taken, self._before)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._said(data)
        except Exception:
            if self._taken is None:
                raise  # it is from whoever comes after
            self._fail(Failure())

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._taken = None
        try:
            self._before.connectionLost(reason)
        finally:
            self._lost(reason)
