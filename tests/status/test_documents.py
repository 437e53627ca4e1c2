"""Figures as JSON: `ptunnel.status.documents`, and docs/status.schema.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger.figures import ProxyFigures, Said, ServiceFigures, SessionFigures, TunnelFigures
from ptunnel.ledger.figures import SessionList as Sessions
from ptunnel.status.answers import asJSON
from ptunnel.status.documents import sessionsDocument, statusDocument
from tests.support.schema import faults
from tests.support.statusclient import StatusServed
from tests.support.watched import SCRIPT, FakeWatched

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "status.schema.json").read_text("utf-8")
)
BARE = ServiceFigures("1", 1, "starting", 0.0, 0.0)


class SchemaTests(SynchronousTestCase):
    def assertFits(self, document: Any, name: str) -> None:
        again = json.loads(asJSON(document))
        self.assertEqual(list(faults(again, SCHEMA["$defs"][name], SCHEMA)), [])
        self.assertEqual(list(faults(again, SCHEMA)), [])

    def test_aServiceOfAllKindsFits(self) -> None:
        clock = Clock()
        for watched in (
            FakeWatched(seconds=clock.seconds),
            FakeWatched(workers=2, seconds=clock.seconds),
        ):
            clock.advance(100)
            self.assertFits(statusDocument(watched.figures(), maySteer=True), "status")

    def test_soDoesOneOfWhichNothingIsKnown(self) -> None:
        figures = replace(BARE, tunnels=[TunnelFigures("t")], proxies=[ProxyFigures("p")])
        for each in BARE, figures:
            self.assertFits(statusDocument(each, maySteer=False), "status")

    def test_sessionsFit(self) -> None:
        served = StatusServed()
        self.assertFits(served.ask("GET /api/v1/sessions").json, "sessions")
        bare = SessionFigures(1, "c", "t", None, "connecting", 0.0, 0, 0)
        self.assertFits(sessionsDocument(Sessions(1, [bare])), "sessions")

    def test_soDoesWhatSteeringAnswers(self) -> None:
        served = StatusServed(token="t")
        said = served.ask("POST /api/v1/reload", "Authorization: Bearer t")
        self.assertFits(said.json, "reloaded")
        self.assertFits(served.ask("POST /api/v1/reload").json, "problem")

    def test_aDocumentThatLacksOrHasSomethingElseDoesNot(self) -> None:
        document = statusDocument(FakeWatched().figures(), maySteer=True)
        status = SCHEMA["$defs"]["status"]
        for key in document:
            lacks = {name: value for name, value in document.items() if name != key}
            self.assertNotEqual(list(faults(lacks, status, SCHEMA)), [], key)
        self.assertNotEqual(list(faults({**document, "more": 1}, status, SCHEMA)), [])
        self.assertNotEqual(list(faults({**document, "sessions": -1}, status, SCHEMA)), [])


class DocumentTests(SynchronousTestCase):
    def test_aDoorSaysWhatItSpeaksAndHasNoTargetOfItsOwn(self) -> None:
        door = TunnelFigures("b", kind="door", protocols=("socks", "http"))
        figures = replace(BARE, tunnels=[TunnelFigures("a", target="t:1"), door])
        tunnels = statusDocument(figures, maySteer=False)["tunnels"]
        found = [(each["kind"], each["target"], each["protocols"]) for each in tunnels]
        self.assertEqual(found, [("tunnel", "t:1", []), ("door", None, ["socks", "http"])])

    def test_aSessionHasTheTargetThatItsClientHasAskedFor(self) -> None:
        bare = SessionFigures(1, "c", "t", None, "asking", 0.0, 0, 0)
        asked = replace(bare, target="t.example:993")
        rows = sessionsDocument(Sessions(2, [bare, asked]))["sessions"]
        self.assertEqual([row["target"] for row in rows], [None, "t.example:993"])

    def test_theServiceIsTheSumOfItsTunnels(self) -> None:
        one = TunnelFigures("a", sessions=1, connecting=1, accepted=5, refused=2, bytesSent=10)
        two = TunnelFigures("b", sessions=2, accepted=7, failures={"x": 3, "y": 1}, bytesReceived=4)
        document = statusDocument(replace(BARE, tunnels=[one, two]), maySteer=False)
        expected = {
            "sessions": 3,
            "sessions_total": 12,
            "connecting": 1,
            "failures_total": 4,
            "refused_total": 2,
            "bytes_sent": 10,
            "bytes_received": 4,
        }
        self.assertEqual({key: document[key] for key in expected}, expected)

    def test_aFieldReplacesNoneOfALinesOwn(self) -> None:
        said = Said(0.0, "warning", "t", "words", {"level": "x", "time": "y", "client": "c"})
        [event] = statusDocument(replace(BARE, said=[said]), maySteer=False)["events"]
        self.assertEqual((event["level"], event["client"]), ("warning", "c"))
        self.assertRegex(event["time"], r"^19(69|70)-")

    def test_whatComesFromOutsideIsText(self) -> None:
        """And so are characters that would end a line or a script."""
        hostile = f"{SCRIPT}\u2028\n\"'\x00\ud800</script>"
        figures = replace(
            BARE,
            tunnels=[TunnelFigures(hostile)],
            said=[Said(0.0, "warning", hostile, hostile, {"client": hostile, "odd": {1, 2}})],
        )
        data = asJSON(statusDocument(figures, maySteer=False))
        self.assertEqual(data.count(b"\n"), 1)
        self.assertTrue(data.isascii())
        self.assertEqual(json.loads(data)["tunnels"][0]["name"], hostile)

    def test_numbersThatJSONDoesNotKnowAreNoSyntaxErrors(self) -> None:
        figures = replace(BARE, said=[Said(0.0, "error", "", "x", {"rate": float("inf")})])
        data = asJSON(statusDocument(figures, maySteer=False))
        json.loads(data, parse_constant=self.fail)
