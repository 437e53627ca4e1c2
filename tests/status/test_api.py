"""Paths and methods of the status address: `ptunnel.status.api`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any
from unittest import skipIf
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger.figures import WorkerFigures
from ptunnel.ledger.watched import Reloaded
from tests.support.loopback import captureLog, lines
from tests.support.statusclient import PATH, StatusServed
from tests.support.watched import SCRIPT, FakeWatched

BEARER = "Authorization: Bearer sekrit"


class LookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.served = StatusServed()

    def test_theStatusIsOneDocument(self) -> None:
        said = self.served.ask("GET /api/v1/")
        self.assertEqual((said.code, said.headers["content-type"]), (200, "application/json"))
        document = said.json
        self.assertEqual([t["name"] for t in document["tunnels"]], ["mail", "db/main", SCRIPT])
        self.assertEqual((document["sessions"], document["may_steer"]), (30, False))
        self.assertEqual(self.served.ask("GET /api/v1").json["sessions"], 30)

    def test_theSessionsAreThoseOfTheQuery(self) -> None:
        said = self.served.ask("GET /api/v1/sessions?tunnel=db%2Fmain&sort=sent&order=desc&limit=2")
        self.assertEqual((said.json["total"], len(said.json["sessions"])), (10, 2))
        self.assertEqual(self.served.ask("GET /api/v1/sessions/").json["total"], 30)
        first, second = said.json["sessions"]
        self.assertGreaterEqual(first["bytes_sent"], second["bytes_sent"])

    def test_aParameterThatIsNoneIsSaidInALine(self) -> None:
        for query, what in (
            ("sort=colour", "sort: it must be one of number, client"),
            ("order=up", "order: "),
            ("limit=many", "limit: it must be a number"),
            ("limit=-1", "limit: "),
            ("offset=x", "offset: "),
            ("offset=%D9%A1", "offset: "),
            ("colour=red", "a parameter is not known"),
            ("q=" + "x" * 201, "q: longer"),
        ):
            for path in "sessions", "stream":
                said = self.served.ask(f"GET /api/v1/{path}?{query}")
                self.assertEqual(said.code, 400, query)
                self.assertIn(what, said.error)

    def test_healthAndReadiness(self) -> None:
        self.assertEqual(self.served.ask("GET /healthz").body, b"ok\n")
        self.assertEqual(self.served.ask("GET /readyz").body, b"ready\n")
        for state in "starting", "stopping":
            self.served.watched.state = state
            said = self.served.ask("GET /readyz")
            self.assertEqual((said.code, said.body.decode()), (503, f"{state}\n"))
            self.assertEqual(self.served.ask("GET /healthz").code, 200)

    def test_withWorkersOneMustBeReady(self) -> None:
        watched = FakeWatched(workers=2)
        served = StatusServed(watched)
        self.assertEqual(served.ask("GET /readyz").code, 200)
        figures = watched.figures()
        workers = [WorkerFigures(1, None, False), WorkerFigures(2, None, False)]
        self.patch(watched, "figures", lambda: replace(figures, workers=workers))
        said = served.ask("GET /readyz")
        self.assertEqual((said.code, said.body), (503, b"no worker is ready\n"))

    @skipIf(find_spec("prometheus_client") is None, "prometheus-client is not installed")
    def test_theMetricsAreInTheFormatThatIsAskedFor(self) -> None:
        said = self.served.ask("GET /metrics")
        self.assertTrue(said.headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(b"ptunnel_sessions{", said.body)
        said = self.served.ask("GET /metrics", "Accept: application/openmetrics-text")
        self.assertIn("openmetrics", said.headers["content-type"])

    def test_withoutPrometheusClientItSaysHowToGetIt(self) -> None:
        with patch.dict(sys.modules, {"ptunnel.status.metrics": None}):
            said = self.served.ask("GET /metrics")
        self.assertEqual(said.code, 501)
        self.assertIn("pip install 'ptunnel[metrics]'", said.error)

    def test_thePageIsServedAndNothingBesideIt(self) -> None:
        said = self.served.ask("GET /")
        self.assertEqual(
            (said.code, said.headers["content-type"]), (200, "text/html; charset=utf-8")
        )
        self.assertEqual(self.served.ask("GET /index.html").body, said.body)
        for path in (
            "/../pages.py",
            "/%2e%2e/pages.py",
            "/..%2fpages.py",
            "/page/../../api.py",
            "//etc/passwd",
            "/%2fetc%2fpasswd",
            "/.",
            "/..",
            "/index.html%00",
            "/index.html/",
        ):
            answer = self.served.ask(f"GET {path}")
            self.assertEqual((answer.code, answer.error), (404, "there is nothing here"), path)

    def test_whatIsNotThereIsA404AndWhatIsNotDoneA405(self) -> None:
        self.assertEqual(self.served.ask("GET /nothing").code, 404)
        said = self.served.ask("BREW /api/v1/")
        self.assertEqual((said.code, said.headers["allow"]), (405, "GET, HEAD"))
        self.assertEqual(said.error, "only GET and HEAD here")
        self.assertEqual(self.served.ask("GET /api/v1/sessions/1").headers["allow"], "DELETE")
        self.assertEqual(self.served.ask("OPTIONS /api/v1/reload").code, 405)

    def test_headIsGetWithoutTheBody(self) -> None:
        for path in "/", "/api/v1/", "/api/v1/stream":
            said = self.served.ask(f"HEAD {path}")
            self.assertEqual((said.code, said.body), (200, b""), path)

    def test_noAnswerIsKeptOrRunsOrFramesAnything(self) -> None:
        for path in "/", "/api/v1/", "/nothing", "/api/v1/stream", "/healthz":
            headers = self.served.ask(f"GET {path}").headers
            self.assertEqual(headers["cache-control"], "no-store")
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["referrer-policy"], "no-referrer")
            policy = headers["content-security-policy"]
            for rule in "default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'":
                self.assertIn(rule, policy)
            self.assertNotIn("unsafe", policy)
            self.assertNotIn("twisted", str(headers).lower())
            self.assertFalse([name for name in headers if name.startswith("access-control")])


class SteerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.served = StatusServed(token="sekrit")

    def test_aSessionIsEnded(self) -> None:
        self.assertEqual(self.served.ask("DELETE /api/v1/sessions/7", BEARER).code, 204)
        self.assertEqual(self.served.watched.ended, [7])
        said = self.served.ask("DELETE /api/v1/sessions/7", BEARER)
        self.assertEqual((said.code, said.error), (404, "there is no session 7"))
        for number in "x", "-1", "9" * 30, "%D9%A1":
            said = self.served.ask(f"DELETE /api/v1/sessions/{number}", BEARER)
            self.assertEqual(said.code, 404, number)
        self.assertEqual(
            lines(self.events),
            ["info: status: session 7 is ended, as 127.0.0.1:50000 asked"],
        )

    def test_tunnelsAndProxiesAreDrainedWhateverTheirNames(self) -> None:
        for kind, path, name in (
            ("tunnel", "tunnels/mail", "mail"),
            ("tunnel", "tunnels/db%2Fmain", "db/main"),
            ("tunnel", "tunnels/%3Cscript%3Ealert(1)%3C%2Fscript%3E", SCRIPT),
            ("proxy", "proxies/backup", "backup"),
        ):
            self.assertEqual(self.served.ask(f"POST /api/v1/{path}/drain", BEARER).code, 204)
            self.assertIn((kind, name), self.served.watched.drained)
            self.assertEqual(self.served.ask(f"POST /api/v1/{path}/undrain", BEARER).code, 204)
            self.assertEqual(self.served.watched.drained, set())
        for path in "tunnels/none", "proxies/mail", "tunnels/db/main", "tunnels/%ff":
            said = self.served.ask(f"POST /api/v1/{path}/drain", BEARER)
            self.assertIn(said.code, (400, 404), path)
        self.assertIn("the tunnel db/main is no longer drained", str(lines(self.events)))

    def test_aReloadIsAnsweredWithWhatCameOfIt(self) -> None:
        said = self.served.ask("POST /api/v1/reload", BEARER)
        expected = {"message": "reloaded: /etc/ptunnel/tunnels.ini: 3 unchanged"}
        self.assertEqual((said.code, said.json), (200, expected))
        self.served.watched.reloaded = Reloaded(False, "not reloaded: a mistake")
        said = self.served.ask("POST /api/v1/reload", BEARER)
        self.assertEqual((said.code, said.error), (409, "not reloaded: a mistake"))

    def test_aReloadThatIsLateIsAnsweredThen(self) -> None:
        done: Deferred[Reloaded] = Deferred()
        served = StatusServed(token="sekrit", reload=lambda: done)
        connection = served.connect()
        self.assertEqual(connection.ask("POST /api/v1/reload", BEARER).data, b"")
        gone = served.connect()
        gone.ask("POST /api/v1/reload", BEARER)
        gone.lose()  # its answer has nowhere to go
        done.callback(Reloaded(True, "reloaded"))
        self.assertIn(b'{"message":"reloaded"}', connection.sent)

    def test_withoutAReloadItIsSaid(self) -> None:
        served = StatusServed(token="sekrit")
        served.api._reload = None
        self.assertEqual(served.ask("POST /api/v1/reload", BEARER).code, 501)

    def test_aBugIsA500AndALineOfTheLog(self) -> None:
        def fails(*_: Any) -> Any:
            raise RuntimeError("oops")

        self.patch(self.served.watched, "figures", fails)
        self.patch(self.served.watched, "listed", fails)
        for path in "/api/v1/", "/api/v1/sessions", "/readyz":
            said = self.served.ask(f"GET {path}")
            self.assertEqual((said.code, said.error), (500, "a bug, which the log describes"))
        self.assertIn("a bug: RuntimeError('oops')", str(lines(self.events)))


class UnixTests(SynchronousTestCase):
    def test_whoeverConnectsToTheSocketMaySteerWithTheHeader(self) -> None:
        served = StatusServed()
        said = served.ask("POST /api/v1/reload", here=PATH)
        self.assertEqual(said.code, 403)
        self.assertIn("X-Ptunnel: 1", said.error)
        self.assertEqual(served.watched.reloads, 0)
        self.assertEqual(served.ask("POST /api/v1/reload", "X-Ptunnel: 1", here=PATH).code, 200)
        self.assertTrue(json.loads(served.ask("GET /api/v1/", here=PATH).body)["may_steer"])
