"""Whether a proxy can be reached, as far as all tunnels through it know.

A proxy that cannot be reached is ill: tunnels that have another way pass it over. Behind a
back-off that grows, one connection finds out whether it is well again; it carries no tunnel, so
nobody waits for it. What a proxy answers, even a refusal, makes it well.
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
from ptunnel.net.backoff import BackOff
from ptunnel.net.transports import abort

# Seconds until an ill proxy is tried again, doubled each time. The first is short enough for one
# that is just restarted, the last for people who wait for theirs to come back.
BACK_OFF = (1.0, 30.0)
# Seconds for that try: a proxy that takes longer is not well.
PROBE_TIMEOUT = 10.0


class Health:
    """One proxy's.

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
        @param name: the proxy, as logs call it.
        @param endpoint: leads to the proxy.
        @param jitter: a part of the back-off, 0 to 1, by which one is shorter than another, so
            that many processes do not all come back at once.
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

    def passedOver(self) -> bool:
        """Whether a tunnel that has another way should take that; finds out whether it is time to
        try the proxy again, and does so.
        """
        if self.trouble is None:
            return False
        if not self._probing and self._clock.seconds() >= self._until:
            self._probe()
        return self.trouble is not None

    def note(self, outcome: BaseException | None, *, quiet: bool = False) -> None:
        """What came of a connection to the proxy.

        @param outcome: None: a tunnel.
        @param quiet: whether somebody else says what follows from it.
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
                self._log.warning(f"proxy {self._name}", "can be reached again")

    def _ill(self, trouble: TunnelError) -> None:
        self.trouble = trouble
        self._backOff.grow(*BACK_OFF)
        self._again()

    def _again(self) -> None:
        """Let the back-off begin."""
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
            return  # a tunnel was faster
        error = reason.value
        if not isinstance(error, TunnelError):
            error = cannotReach(cast(BaseException, error), self._name)
        if isinstance(error, Unreachable):
            self._ill(error)
        elif error.reached:
            self._well()  # it answered, if only to refuse
        else:
            self._again()  # nothing was found out about it
