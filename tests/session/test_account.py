"""`ptunnel.session.account`: the last line of a session, in words and as docs/logs.md has it."""

from __future__ import annotations

import errno
import io
import json
import re
from pathlib import Path
from typing import Any, get_args

from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.errors import (
    LocalFailure,
    NotServed,
    ProxyRefused,
    ProxyTimeout,
    RouteFailed,
    TunnelError,
    Unreachable,
)
from ptunnel.log import Lines
from ptunnel.log.layouts import FIELDS
from ptunnel.net.descriptors import Descriptors
from ptunnel.relay.outcome import Cause, Ended
from ptunnel.session.account import ofDelay, ofEnded, ofFailure, ofLeaving, ofSilence
from tests.session.test_tunnel import ALICE, TunnelCase
from tests.support import schema

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = json.loads((DOCS / "log.schema.json").read_text("utf-8"))
PAGE = (DOCS / "logs.md").read_text("utf-8")


def codes() -> set[str]:
    """Every termination code that a session can have."""
    ended = {
        ofEnded(Ended(1, 1, cause, first), 0.0, 1.0, False).fields["code"]
        for cause in get_args(Cause)
        for first in (0, 1, None)
    }
    failed = {
        ofFailure(error, 1.0, connecting).fields["code"]
        for error in (
            TunnelError("x"),
            ProxyTimeout("x"),
            LocalFailure("x"),
            NotServed("x"),
            OSError(errno.EMFILE, "x"),
        )
        for connecting in (0.5, None)
    }
    left = {
        ofLeaving(1.0, endedBy, isConnecting).fields["code"]
        for endedBy in "CK"
        for isConnecting in (False, True)
    }
    late = {ofDelay(0.0, 1.0).fields["code"], ofSilence(1.0).fields["code"]}
    return ended | failed | left | late


class CodeTests(SynchronousTestCase):
    def test_theTablesOfThePageHaveEachCharacter(self) -> None:
        rows = re.findall(
            r"^\| `(.)` \| ([^|]+) \|$", PAGE.partition("## Termination codes")[2], re.M
        )
        first, second = {who for who, _ in rows[:8]}, {phase for phase, _ in rows[8:]}
        for code in codes():
            self.assertIn(code[0], first)
            self.assertIn(code[1], second)

    def test_theSchemaKnowsEach(self) -> None:
        self.assertEqual(SCHEMA["required"], list(FIELDS))
        self.assertLessEqual(codes(), set(SCHEMA["properties"]["code"]["enum"]))

    def test_whoWasFirstIsWhoEndedIt(self) -> None:
        for cause, first, code in (
            ("end", 0, "--"),
            ("end", 1, "--"),
            ("reset", 0, "CD"),
            ("reset", 1, "SD"),
            ("cut", 1, "SD"),
            ("idle", None, "cD"),
            ("half-close", 0, "sL"),
            ("half-close", 1, "cL"),
            ("closed", None, "KD"),
        ):
            ended: Any = Ended(1, 1, cause, first)  # type: ignore[arg-type]
            self.assertEqual(ofEnded(ended, 0.0, 1.0, False).fields["code"], code, (cause, first))

    def test_ofSeveralWaysTheLastCounts(self) -> None:
        first = Unreachable("x", hop="a:1", cause=causes.REFUSED)
        last = ProxyTimeout("y", hop="b:2", cause=causes.SILENT)
        fields = ofFailure(RouteFailed([first, last]), 1.0).fields
        self.assertEqual(
            (fields["code"], fields["cause"], fields["way"]), ("sC", "silent-proxy", "b:2")
        )


class JsonLines(SynchronousTestCase):
    """Lines of the log as a program reads them."""

    events: list[Any]

    def jsonLines(self) -> list[dict[str, Any]]:
        stream = io.StringIO()
        for event in self.events:
            Lines(stream, asJSON=True)(event)
        self.events.clear()
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        for line in found:
            self.assertEqual(list(line)[: len(FIELDS)], list(FIELDS))
            self.assertEqual(list(schema.faults(line, SCHEMA)), [], line)
            self.assertEqual(set(line) - set(SCHEMA["properties"]), set())
            for field in line:
                self.assertIn(f"`{field}`", PAGE)
        return found


class JsonTests(JsonLines, TunnelCase):
    """What a program reads."""

    def test_ofASessionThatEnded(self) -> None:
        client, target = self.connected()
        client.end()
        target.end()
        [line] = self.jsonLines()
        self.assertEqual((line["tunnel"], line["session"], line["code"]), ("imap", 1, "--"))
        self.assertEqual((line["cause"], line["status"], line["connect_seconds"]), ("end", None, 0))
        self.assertTrue(line["message"].endswith(", connected in 0.000 s"), line)

    def test_ofOneThatWasRefused(self) -> None:
        self.make()
        self.client()
        self.clock.advance(0.5)
        refusal = ProxyRefused("no", hop="p:3128", cause=causes.TARGET_REFUSED, status=403)
        self.endpoint.fail(refusal)
        [line] = self.jsonLines()
        self.assertEqual(line["level"], "warning")
        self.assertEqual(
            [line[field] for field in ("client", "way", "code", "cause", "status", "seconds")],
            ["192.0.2.1:5001", "p:3128", "SC", "target-refused", 403, 0.5],
        )
        self.assertEqual((line["bytes_sent"], line["bytes_received"]), (0, 0))
        self.assertIsNone(line["connect_seconds"])

    def test_ofOnesThatDidNotWaitOrDidNotBegin(self) -> None:
        for account, code in (ofLeaving(1.5), "CC"), (ofDelay(0.5, 1.5), "cR"):
            self.assertEqual((account.fields["code"], account.fields["seconds"]), (code, 1.5))
            self.assertEqual(account.fields["bytes_sent"], 0)

    def test_ofAnotherFailure(self) -> None:
        self.client()
        self.endpoint.fail(ConnectError(string="odd"))
        [line] = self.jsonLines()
        self.assertEqual((line["code"], line["cause"], line["status"]), ("SC", None, None))

    def test_ofAnAttemptThatSomethingElseCancelled(self) -> None:
        self.client()
        self.endpoint.fail(ConnectingCancelledError(ALICE))
        [line] = self.jsonLines()
        self.assertEqual(line["code"], "SC")

    def test_ofThoseWhoAreNotServed(self) -> None:
        self.make(allow=["198.51.100.0/24"])
        self.client()
        self.make(maxConnections=0)
        self.client()
        self.make(descriptors=Descriptors(0))
        self.client()
        self.assertEqual([line["code"] for line in self.jsonLines()], ["PR", "PR", "RR"])

    def test_ofABug(self) -> None:
        self.client()
        self.endpoint.fail(ZeroDivisionError("no"))
        [line] = self.jsonLines()
        self.assertEqual((line["level"], line["tunnel"]), ("error", "imap"))
        self.assertEqual((line["session"], line["client"]), (1, "192.0.2.1:5001"))
        self.assertIn("ZeroDivisionError", line["traceback"])
