"""The health of proxies, shared by all tunnels: whether each can be reached.

A proxy that cannot be reached is ill: tunnels with another way skip it. After a growing back-off,
one connection tests whether it is well again; it carries no tunnel, so nothing waits for it. Any
answer of a proxy, even a refusal, makes it well.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from ptunnel.errors import TunnelError, Unreachable, cannotReach
from ptunnel.log import Log
from ptunnel.net.transports import abort
from ptunnel.timing.backoff import BackOff

# Seconds until an ill proxy is tested again: the first and the longest, doubled in between. The
# first suits a restart, the longest a person who waits for the proxy.
BACK_OFF = (1.0, 30.0)
# Seconds for that test; a slower proxy stays ill.
PROBE_TIMEOUT = 10.0


class Health:
    """The health of one proxy.

    @ivar trouble: why it could not be reached; None while it is well.
    """

    def __init__(
        self,
        name: str,
        endpoint: IStreamClientEndpoint,
        clock: IReactorTime,
        log: Log,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        @param name: the proxy's name in logs.
        @param endpoint: leads to the proxy.
        @param jitter: returns a number from 0 to 1. It shortens a back-off by up to half, so that
            many processes do not test a proxy at once.
        """
        self.trouble: TunnelError | None = None
        self._name = name
        self._endpoint = endpoint
        self._clock = clock
        self._log = log
        self._jitter = jitter
        self._backOff = BackOff()
        self._until = 0.0
        self._probing = False
        self._said = False

    def probeIfDue(self) -> None:
        """Try to reach the proxy again if it is ill, its back-off is over and no try is pending."""
        isDue = self.trouble is not None and self._clock.seconds() >= self._until
        if isDue and not self._probing:
            self._probe()

    def note(self, outcome: BaseException | None, *, quiet: bool = False) -> None:
        """Note the result of a connection to the proxy.

        @param outcome: its error; None: a tunnel.
        @param quiet: whether the caller logs the consequence.
        """
        if not isinstance(outcome, Unreachable):
            if getattr(outcome, "reached", True):
                self._well()
        elif self.trouble is None:
            self._said = not quiet
            if self._said:
                what = f"{outcome}; passed over where there is another"
                self._log.warning(f"proxy {self._name}", what)
            self._ill(outcome)

    def _well(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._backOff.reset()
            if self._said:
                self._log.notice(f"proxy {self._name}", "can be reached again")

    def _ill(self, trouble: TunnelError) -> None:
        self.trouble = trouble
        self._backOff.grow(*BACK_OFF)
        self._again()

    def _again(self) -> None:
        """Begin the back-off."""
        self._until = self._clock.seconds() + self._backOff.seconds * (1 - self._jitter() / 2)

    def _probe(self) -> None:
        self._probing = True
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        try:
            connecting = self._endpoint.connect(factory)
        except Exception:
            self._notReached(Failure())
            return
        connecting.addTimeout(PROBE_TIMEOUT, self._clock)
        connecting.addCallbacks(self._reached, self._notReached)

    def _reached(self, protocol: IProtocol) -> None:
        transport: Any = protocol.transport  # type: ignore[attr-defined]
        self._probing = False
        abort(transport)
        self._well()

    def _notReached(self, reason: Failure) -> None:
        self._probing = False
        if self.trouble is None:
            return  # a tunnel has reached it meanwhile
        error = reason.value
        if not isinstance(error, TunnelError):
            error = cannotReach(cast(BaseException, error), self._name)
        if isinstance(error, Unreachable):
            self._ill(error)
        elif error.reached:
            self._well()  # a refusal is an answer too
        else:
            self._again()  # the test has shown nothing about the proxy
