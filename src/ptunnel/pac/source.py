"""A PAC file that is read again and again. The last good one answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure

from ptunnel.causes import PAC_BROKEN, PAC_UNAVAILABLE
from ptunnel.config import Pac, decodeScript, readScript
from ptunnel.errors import ConfigError, PacFailed, TunnelError
from ptunnel.log import Log
from ptunnel.pac.answers import Answer, parseAnswer
from ptunnel.pac.engine import Engine
from ptunnel.timing.backoff import BackOff
from ptunnel.tls import TlsSettings

# Seconds until a file that could not be read is tried again, which double.
RETRY = 10.0
MOST_RETRY = 300.0
# Seconds between two readings for proxies that could not be reached, which double while the file
# stays the same.
EXHAUSTED = 30.0
MOST_EXHAUSTED = 900.0
# So that many machines do not ask for it at the same moment.
JITTER = 0.1


class Source:
    """One [pac] section.

    @ivar pac: its settings.
    """

    def __init__(
        self, reactor: Any, pac: Pac, log: Log, makeEngine: Callable[..., Any] = Engine
    ) -> None:
        self.pac = pac
        self._reactor = reactor
        self._log = log
        self._subject = f"pac {pac.name}"
        self._makeEngine = makeEngine
        self._engine: Any = None
        self._text: str | None = None  # of the engine
        self._error: TunnelError | None = None  # why the last reading failed
        self._reading: Deferred[Any] | None = None
        self._waiting: list[Deferred[Any]] = []
        self._timer: Any = None
        self._backOff = BackOff()
        self._exhausted = BackOff()
        self._notBefore = 0.0
        self._stopped = False

    def decide(self, url: str, host: str) -> Deferred[Answer]:
        """
        @param url: what a browser would ask for.
        @param host: its host.
        @return: fires with what the file says. Fails with PacFailed; or with Unreachable, if it was
            never read, since its server cannot be reached. Cancelling it ends the waiting.
        """
        if self._engine is None and self._error is None:
            self.read()
        if self._engine is None and self._reading is not None:
            waiter: Deferred[Any] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            return waiter.addCallback(lambda _: self._ask(url, host))
        return self._ask(url, host)

    def _ask(self, url: str, host: str) -> Deferred[Answer]:
        if self._engine is None:
            return fail(self._error or _gone(self.pac.name))
        asking: Deferred[Any] = self._engine.evaluate(url, host)
        return asking.addCallback(self._parsed)

    def _parsed(self, text: str) -> Answer:
        try:
            return parseAnswer(text)
        except ValueError as e:
            what = f"the PAC file {self.pac.name} cannot be followed: {e}"
            raise PacFailed(what, cause=PAC_BROKEN, hint=PAC_BROKEN.hint) from None

    def read(self) -> None:
        """Read the file, unless that is under way."""
        if self._reading is not None or self._stopped:
            return
        self._stopTimer()
        reading: Deferred[Any] = maybeDeferred(_textOf, self._reactor, self.pac)
        self._reading = reading
        reading.addCallback(self._use)
        reading.addCallbacks(self._well, self._failed).addErrback(self._bug)

    def exhausted(self) -> None:
        """None of the proxies of an answer could be reached: the file may be another one by now."""
        if self._engine is not None and self._reactor.seconds() >= self._notBefore:
            rest = self._exhausted.grow(EXHAUSTED, MOST_EXHAUSTED)
            self._notBefore = self._reactor.seconds() + rest
            self.read()

    def stop(self) -> None:
        """Read no more, and end the file's process. Who waits for it gets a failure."""
        self._stopped = True
        self._stopTimer()
        if self._reading is not None:
            self._reading.cancel()
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self._release()

    def _use(self, text: str) -> Deferred[None]:
        """Use a text from now on, if it can be loaded."""
        if text == self._text:
            return succeed(None)

        def warn(what: str) -> None:
            self._log.warning(self._subject, what)

        engine = self._makeEngine(self._reactor, self.pac.name, text, warn)

        def loaded(_: None) -> None:
            before, self._engine, self._text = self._engine, engine, text
            self._exhausted.reset()
            if before is not None:
                before.close()
                self._log.notice(self._subject, "the PAC file has changed, and is used from now on")

        def failed(reason: Failure) -> Failure:
            engine.close()
            return reason

        return cast("Deferred[None]", engine.load().addCallbacks(loaded, failed))

    def _well(self, _: None) -> None:
        self._reading = None
        if self._error is not None:
            self._log.notice(self._subject, "the PAC file can be read again")
        self._error = None
        self._backOff.reset()
        if self.pac.refresh is not None:
            self._again(self.pac.refresh)
        self._release()

    def _failed(self, reason: Failure) -> None:
        self._reading = None
        if self._stopped:
            return
        error = reason.value
        if not isinstance(error, TunnelError):
            reason.raiseException()
        if self._error is None or str(self._error) != str(error):
            stays = "; the one that was read before stays in use" if self._engine else ""
            self._log.warning(self._subject, f"{error}{stays}")
        self._error = error
        self._again(self._backOff.grow(RETRY, MOST_RETRY))
        self._release()

    def _bug(self, reason: Failure) -> None:
        self._reading = None
        self._error = _gone(self.pac.name)
        self._log.bug(self._subject, reason)
        self._release()

    def _again(self, delay: float) -> None:
        if not self._stopped:
            delay *= random.uniform(1 - JITTER, 1 + JITTER)
            self._timer = self._reactor.callLater(delay, self.read)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _release(self) -> None:
        while self._waiting:
            self._waiting.pop(0).callback(None)


def _textOf(reactor: Any, pac: Pac) -> Any:
    """Return the text of a file, or a Deferred that fires with that of a URL.

    @raise PacFailed: if it cannot be read.
    """
    if pac.path is None:
        from ptunnel.pac.fetch import fetch  # files need no web client

        return fetch(reactor, pac.url, pac.tls or TlsSettings()).addCallback(_decoded, pac.name)
    try:
        return readScript(pac.path)
    except ConfigError as e:
        what, cause = f"cannot read the PAC file {pac.path}: {e}", PAC_UNAVAILABLE
        raise PacFailed(what, cause=cause, hint=cause.hint) from None


def _decoded(data: bytes, name: str) -> str:
    try:
        return decodeScript(data)
    except ConfigError as e:
        what = f"cannot use the PAC file {name}: {e}"
        raise PacFailed(what, cause=PAC_BROKEN, hint=PAC_BROKEN.hint) from None


def _gone(name: str) -> PacFailed:
    return PacFailed(f"the PAC file {name} is not in use any more", cause=PAC_UNAVAILABLE)
