"""The findings on one way, without a way: `ptunnel.check.findings`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.check.findings import Findings
from ptunnel.check.steps import Greeting, StepEndpoint
from ptunnel.config import TcpListen, Tunnel
from ptunnel.errors import CertificateRefused, Unreachable
from tests.support.fakes import Endpoint

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class FindingsCase(SynchronousTestCase):
    def setUp(self) -> None:
        tunnel = Tunnel("t", TcpListen("127.0.0.1", 0), "t.example", 25, via=("p",))
        self.findings = Findings(tunnel, "p", ("192.0.2.1:1",), NOW.timestamp)

    def step(self, kind: str, host: str, port: int, *, ok: bool, begun: bool = True) -> None:
        step = StepEndpoint(kind, host, port, Endpoint(), lambda step: None)
        step.step.ok, step.begun = ok, begun
        self.findings.steps.append(step)


class ExpiryTests(FindingsCase):
    def test_theErrorIsThatOfTheFirstStepThatHasNotSucceeded(self) -> None:
        for taken, words in enumerate(
            (
                "cannot reach the proxy 192.0.2.1:1",
                "over TLS: no handshake",
                "no credentials for the proxy",
            )
        ):
            self.findings.steps.clear()
            self.step("tcp", "192.0.2.1", 1, ok=taken > 0)
            self.step("tls", "192.0.2.1", 1, ok=taken > 1)
            self.step("connect", "t.example", 25, ok=False, begun=False)
            self.assertIn(words, self.findings.expire(5).message)

    def test_aWayWhoseStepsAllSucceededWaitsForTheTarget(self) -> None:
        self.step("tcp", "192.0.2.1", 1, ok=True)
        self.assertIn("t.example:25", self.findings.expire(5).message)


class GreetingTests(FindingsCase):
    def test_aGreetingIsAStepAndNoFault(self) -> None:
        self.assertIsNone(self.findings.noteGreeting(Greeting(), b"220 hi\r\nmore"))
        assert self.findings.banner is not None
        self.assertEqual(self.findings.banner.detail, "220 hi")

    def test_anEndOrSilenceInstead(self) -> None:
        ended = Greeting()
        ended.ending = Failure(ConnectionDone())
        for greeting, cause in (ended, causes.TARGET_CLOSED), (Greeting(), causes.TARGET_SILENT):
            fault = self.findings.noteGreeting(greeting, b"")
            assert fault is not None
            self.assertIs(fault.cause, cause)


class ReportTests(FindingsCase):
    def test_itEndsWithTheStepThatFailed(self) -> None:
        self.step("tcp", "192.0.2.1", 1, ok=True)
        self.step("tls", "192.0.2.1", 1, ok=False)
        self.step("connect", "t.example", 25, ok=False)
        report = self.findings.finish(Unreachable("gone", cause=causes.REFUSED))
        self.assertEqual([step.kind for step in report.steps], ["tcp", "tls"])
        self.assertEqual(report.steps[-1].detail, "failed")
        assert report.fault is not None
        self.assertEqual(report.fault.cause, causes.REFUSED.id)

    def test_aCertificateOfTheFutureIsBlamedOnAClockThatIsFarBehindIt(self) -> None:
        for ahead, cause in (timedelta(days=3), causes.CLOCK), (timedelta(0), None):
            error = CertificateRefused(
                "early", hop="h", cause=causes.CERTIFICATE_EARLY, validFrom=NOW + ahead
            )
            fault = self.findings.finish(error).fault
            assert fault is not None
            self.assertEqual(fault.cause, (cause or causes.CERTIFICATE_EARLY).id)
            self.assertEqual("3 days behind" in fault.hint, cause is not None)
