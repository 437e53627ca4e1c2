"""The exchange with client and target before they are joined, for protocols that need one."""

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

# Seconds for a client to say its first words, where they are awaited. Programs do at once.
PRELUDE_WAIT = 60.0


class Prelude(Protocol):
    """The exchange, as bytes in, bytes out. L{ptunnel.starttls.Prelude} is one.

    @ivar answered: whether the target replies to the first message.
    """

    answered: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take bytes from the client.

        @return: the bytes for the client, and the bytes for the target, after which `answer` gets
            its reply; None instead of these: more bytes from the client are needed.
        @raise ValueError: for a client that cannot be served, in words without the subject.
        """

    def answer(self, data: bytes) -> bytes | None:
        """Take bytes from the target.

        @return: the first bytes for the client once both are joined; None: more bytes are needed.
        """

    def ended(self) -> ValueError:
        """Return the error for a client that closes the connection now, without the subject."""


def introduce(prelude: Prelude, client: ITransport, target: ITransport) -> Deferred[None]:
    """Run a prelude. Afterwards both transports have their previous protocols again.

    @param client: paused; it is paused again when both can be joined.
    @return: a Deferred that fires when both can be joined; then the target's protocol receives the
        bytes for the client at once. It fails with L{TunnelError} when one of them ends before, or
        cannot be served, and with any other error that the prelude raises. Then, and when the
        Deferred is cancelled, the target is aborted.
    @raise TypeError: for a transport whose protocol cannot be replaced; the target is aborted.
    """
    return _Introduction(prelude, client, target).done


class _Introduction:
    """@ivar done: the result of L{introduce}."""

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
        if self._asked:  # a TLS transport delivers bytes that it has read even when it is paused
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
            # Through the splice, which counts the bytes. Written to the client's transport, they
            # could keep the kernel from splicing it.
            if not getattr(self._target, "disconnecting", False):
                receiverOf(self._target).dataReceived(answer)

    def _clientLost(self, reason: Failure) -> None:
        self._fail(TunnelError(f"the client {self._prelude.ended()}"))

    def _targetLost(self, reason: Failure) -> None:
        if reason.check("OpenSSL.SSL.Error"):
            # Since TLS 1.3 a server checks our certificate after the handshake has ended for us.
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
    return TargetFailed(what, cause=causes.TARGET_PROTOCOL)


class _Side(protocol.Protocol):
    """The protocol of one of the two transports during the exchange."""

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
                raise  # raised by the protocol that follows
            self._fail(Failure())

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._taken = None
        try:
            self._before.connectionLost(reason)
        finally:
            self._lost(reason)
