"""`ptunnel top`: the figures of the running service, live."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ptunnel.cli.live.frames import (
    Rates,
    Seen,
    View,
    frame,
    pageOf,
    pressed,
    ratesBetween,
)
from ptunnel.cli.live.screen import Screen
from ptunnel.cli.remote.client import Client
from ptunnel.cli.remote.document import Node
from ptunnel.cli.remote.sessions import query
from ptunnel.cli.terminal import orderlyEnd
from ptunnel.errors import PtunnelError

# Seconds between two looks.
PERIOD = 2.0


class Asking:
    """Asks in a thread of its own, so that keys need not wait for an answer that does not come.

    @ivar answers: what has come: the documents of status and sessions, or the error.
    """

    def __init__(self, client: Client, wake: int) -> None:
        """@param wake: a pipe, into which a byte is written when there is an answer."""
        self._client = client
        self._wake = wake
        self._asks = False
        self.answers: deque[tuple[Any, Any] | PtunnelError] = deque()

    def ask(self, sessions: str) -> bool:
        """@param sessions: the path of the list of sessions; "": none.
        @return: False while the answer before is still waited for.
        """
        if self._asks:
            return False
        self._asks = True
        threading.Thread(target=self._fetch, args=(sessions,), daemon=True).start()
        return True

    def take(self) -> list[tuple[Any, Any] | PtunnelError]:
        """Return the answers that have come."""
        taken = list(self.answers)
        for _ in taken:
            self.answers.popleft()
            self._asks = False
        return taken

    def _fetch(self, sessions: str) -> None:
        try:
            status = self._client.status()
            self.answers.append((status, self._client.get(sessions) if sessions else None))
        except PtunnelError as e:
            self.answers.append(e)
        except BaseException as e:
            self.answers.append(PtunnelError(f"a bug: {e!r}"))
        with contextlib.suppress(OSError):
            os.write(self._wake, b"a")


class Top:
    """One run: keys, answers and time change what is seen; and that is drawn."""

    def __init__(self, client: Client, screen: Screen, first: Any) -> None:
        """@param first: a document of the status."""
        self._screen = screen
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        self._asking = Asking(client, self._wake)
        self._view: View | None = View()
        self._seen = Seen(client.name, Node(first))
        self._base, self._time = Node(first), time.monotonic()  # from which rates are counted
        self._next = self._time + PERIOD
        self._asked = ""  # the path of the list of sessions that was asked for last

    def run(self) -> int:
        """@return: the exit code, 0."""
        with self._signals(), selectors.DefaultSelector() as selector:
            selector.register(self._screen, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._view is not None:
                self._ask(self._draw(self._view))
                ready = selector.select(max(self._next - time.monotonic(), 0))
                for key, _ in ready:
                    if key.fileobj is self._screen:
                        self._press()
                    else:
                        self._answered()
        return 0

    def close(self) -> None:
        os.close(self._woken)

    def _draw(self, view: View) -> View:
        """@return: the view, which begins at a row that there is."""
        width, height = self._screen.size()
        drawn = frame(self._seen, view, width, height)
        self._screen.show(drawn.lines)
        self._view = view = replace(view, offset=drawn.offset)
        return view

    def _ask(self, view: View) -> None:
        sessions = self._path(view)
        now = time.monotonic()
        if now < self._next and sessions == self._asked:
            return
        if self._asking.ask(sessions):
            self._asked = sessions
            self._next = now + PERIOD
        else:
            self._next = max(self._next, now + PERIOD / 10)

    def _path(self, view: View) -> str:
        if view.tab != "sessions":
            return ""
        page = pageOf(self._screen.size()[1])
        return query(
            text=view.filter,
            sort=view.sort,
            reverse=view.reverse,
            limit=page,
            offset=view.offset,
        )

    def _press(self) -> None:
        keys = self._screen.keys()
        if keys is None:
            self._view = None
            return
        page = pageOf(self._screen.size()[1])
        for key in keys:
            if self._view is not None:
                self._view = pressed(self._view, key, page)

    def _answered(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        for answer in self._asking.take():
            if isinstance(answer, PtunnelError):
                self._seen = replace(self._seen, note=str(answer))
                continue
            status, sessions = map(Node, answer)
            self._seen = Seen(self._seen.address, status, sessions, self._rates(status))

    def _rates(self, status: Node) -> Rates:
        now = time.monotonic()
        if now - self._time < PERIOD / 2:  # too short a time: after a key
            return self._seen.rates
        rates = ratesBetween(self._base, status, now - self._time)
        self._base, self._time = status, now
        return rates

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let a change of the size wake the loop, and Ctrl-Z give the terminal back meanwhile."""
        numbers = {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self._stopped,
            signal.SIGQUIT: self._quit,
        }
        before = {number: signal.signal(number, call) for number, call in numbers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _resized(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake, b"w")

    def _quit(self, *_: object) -> None:
        raise SystemExit(128 + signal.SIGQUIT)

    def _stopped(self, *_: object) -> None:
        self._screen.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._screen.__enter__()
        self._resized()


def top(client: Client, colour: bool) -> int:
    """
    @param colour: whether the terminal may be coloured.
    @return: the exit code.
    @raise PtunnelError: if no service answers at first.
    """
    first = client.status()  # before the screen is taken
    with orderlyEnd(), Screen(colour) as screen:
        running = Top(client, screen, first)
        try:
            return running.run()
        finally:
            running.close()
