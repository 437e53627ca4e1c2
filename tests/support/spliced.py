"""A Splice as its tests want it: with a Sweep of theirs, and a Deferred for its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from ptunnel.relay.outcome import Ended
from ptunnel.relay.splice import Splice
from ptunnel.relay.terms import Terms
from ptunnel.timing.deadlines import Sweep


def spliced(
    a: Any, b: Any, sweep: Sweep, terms: Terms | None = None
) -> tuple[Splice, Deferred[Ended]]:
    """Join two transports. @return: the splice, and what fires when it has ended."""
    done: Deferred[Ended] = Deferred()
    return Splice(a, b, terms or Terms(), sweep, done.callback), done
