"""Paths and methods: what each request is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from twisted.internet.defer import Deferred, succeed

from ptunnel.ledger.figures import SessionList
from ptunnel.ledger.watched import Reloaded, Watched
from ptunnel.log import Log
from ptunnel.status.access import Access
from ptunnel.status.answers import TEXT, Answer, Asked, Stream, asJSON, problem, queryOf, refuse
from ptunnel.status.documents import sessionsDocument, statusDocument
from ptunnel.status.pages import readPages
from ptunnel.text import printable

if TYPE_CHECKING:
    from ptunnel.status.metrics import Exposition

Answered = Answer | Stream | Deferred[Answer]
_Handler = Callable[[Asked], Answered]
Reload = Callable[[], Deferred[Reloaded]]

_NO_CONTENT = Answer(204)
_NOT_FOUND = problem(404, "there is nothing here")
_NO_METRICS = problem(501, "prometheus-client is missing: pip install 'ptunnel[metrics]'")


class Api:
    """Answers requests by what a service offers.

    @ivar access: who may ask; it is replaced when the settings change.
    """

    access: Access

    def __init__(self, watched: Watched, reload: Reload | None, log: Log) -> None:
        """@param reload: None: nothing can be reloaded."""
        self._watched = watched
        self._reload = reload
        self._log = log
        self._pages: dict[str, Answer] | None = None
        self._exposition: Exposition | None = None

    def answer(self, asked: Asked) -> Answered:
        """@raise Refused: for a request that is not served."""
        self.access.check(asked)
        handlers = self._handlers(asked.path)
        if not handlers:
            return _NOT_FOUND
        method = "GET" if asked.method == "HEAD" else asked.method
        if method not in handlers:
            known = [*handlers, "HEAD"] if "GET" in handlers else [*handlers]
            return problem(405, f"only {' and '.join(known)} here", Allow=", ".join(known))
        if method != "GET":
            self.access.checkSteering(asked)
        return handlers[method](asked)

    def _handlers(self, path: tuple[str, ...]) -> Mapping[str, _Handler]:
        """Return what serves a path, by method; nothing for a path that there is not."""
        handlers: dict[str, _Handler] = {}
        match path:
            case ("healthz",):
                handlers["GET"] = _healthy
            case ("readyz",):
                handlers["GET"] = self._ready
            case ("metrics",):
                handlers["GET"] = self._metrics
            case ("api", "v1") | ("api", "v1", ""):
                handlers["GET"] = self._status
            case ("api", "v1", "sessions") | ("api", "v1", "sessions", ""):
                handlers["GET"] = self._sessions
            case ("api", "v1", "sessions", number):
                handlers["DELETE"] = partial(self._end, number)
            case ("api", "v1", "stream"):
                handlers["GET"] = self._stream
            case ("api", "v1", "tunnels", name, "drain" | "undrain" as what):
                handlers["POST"] = partial(self._drain, "tunnel", name, what == "drain")
            case ("api", "v1", "proxies", name, "drain" | "undrain" as what):
                handlers["POST"] = partial(self._drain, "proxy", name, what == "drain")
            case ("api", "v1", "reload"):
                handlers["POST"] = self._doReload
            case (name,) if name in self._files():
                handlers["GET"] = lambda _: self._files()[name]
        return handlers

    def _files(self) -> dict[str, Answer]:
        if self._pages is None:
            self._pages = readPages()
        return self._pages

    # To look

    def _ready(self, asked: Asked) -> Answer:
        figures = self._watched.figures()
        if figures.state != "running":
            return Answer(503, f"{figures.state}\n".encode(), TEXT)
        if figures.workers and not any(worker.ready for worker in figures.workers):
            return Answer(503, b"no worker is ready\n", TEXT)
        return Answer(200, b"ready\n", TEXT)

    def _metrics(self, asked: Asked) -> Answer:
        if self._exposition is None:
            try:
                from ptunnel.status.metrics import Exposition
            except ImportError:
                return _NO_METRICS
            self._exposition = Exposition(self._watched.figures)
        kind, text = self._exposition.text(",".join(asked.headers.get("accept", ())))
        return Answer(200, text, kind)

    def _status(self, asked: Asked) -> Answer:
        maySteer = self.access.maySteer(asked)
        return Answer(200, asJSON(statusDocument(self._watched.figures(), maySteer=maySteer)))

    def _sessions(self, asked: Asked) -> Deferred[Answer]:
        def answer(found: SessionList) -> Answer:
            return Answer(200, asJSON(sessionsDocument(found)))

        return self._watched.listed(queryOf(asked.args)).addCallback(answer)

    def _stream(self, asked: Asked) -> Stream:
        return Stream(queryOf(asked.args), self.access.maySteer(asked))

    # To steer

    def _end(self, number: str, asked: Asked) -> Deferred[Answer]:
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            return succeed(_NOT_FOUND)

        def answer(found: bool) -> Answer:
            if not found:
                return problem(404, f"there is no session {int(number)}")
            self._say(asked, f"session {int(number)} is ended")
            return _NO_CONTENT

        return self._watched.endSession(int(number)).addCallback(answer)

    def _drain(
        self, kind: Literal["tunnel", "proxy"], name: str, drained: bool, asked: Asked
    ) -> Answer:
        try:
            self._watched.setDrained(kind, name, drained)
        except KeyError:
            return problem(404, f"there is no {kind} of that name")
        what = "drained" if drained else "no longer drained"
        self._say(asked, f"the {kind} {printable(name)} is {what}")
        return _NO_CONTENT

    def _doReload(self, asked: Asked) -> Deferred[Answer]:
        if self._reload is None:
            refuse(501, "this service has nothing to reload")

        def answer(reloaded: Reloaded) -> Answer:
            if reloaded.done:
                return Answer(200, asJSON({"message": reloaded.text}))
            return problem(409, reloaded.text)

        self._say(asked, "a reload begins")
        return self._reload().addCallback(answer)

    def _say(self, asked: Asked, what: str) -> None:
        self._log.notice("", f"status: {what}, as {asked.client} asked")


def _healthy(asked: Asked) -> Answer:
    return Answer(200, b"ok\n", TEXT)
