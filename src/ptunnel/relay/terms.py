"""What a splice is to do."""

from __future__ import annotations

from dataclasses import dataclass

from ptunnel.net.transports import KEEP_ALIVE


@dataclass(frozen=True, slots=True)
class Terms:
    """What all splices of a tunnel have in common.

    @ivar idleTimeout: seconds without a byte in either direction after which both are closed; None:
        no limit. A byte counts when it is received, and when its receiver has taken it.
    @ivar halfCloseTimeout: the same, after one direction has ended.
    @ivar inKernel: whether plain sockets on Linux may be spliced by the kernel.
    @ivar holdEnd: whether the end of the first transport's peer is passed on only after the second
        one's has ended, since a proxy on the way may end both directions at the first end.
    @ivar keepAlive: seconds of silence after which the kernel asks a peer whether it is still
        there; None: it does not ask.
    """

    idleTimeout: float | None = None
    halfCloseTimeout: float | None = 60.0
    inKernel: bool = True
    holdEnd: bool = False
    keepAlive: float | None = KEEP_ALIVE
