"""`ptunnel check`: what it tries, what it finds, and how it says so."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from email.utils import format_datetime
from pathlib import Path
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectBindError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import Clock, deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.auth import Credentials, Secret
from ptunnel.check import Check, TunnelReport, asDocument, asText, summary
from ptunnel.check.findings import Findings
from ptunnel.check.report import Fault, Step, WayReport
from ptunnel.check.steps import MAX_BANNER, StepEndpoint, shown
from ptunnel.config import DIRECT, Proxy, Settings, TcpListen, Tunnel
from ptunnel.connect.handshake import Handshake
from ptunnel.demo.littleproxy import LOOPBACK, LittleProxy
from ptunnel.tls import TlsSettings
from tests.support import authority, schema
from tests.support.fakes import Resolver, ResolvingReactor, acceptTCP, refuseTCP
from tests.support.loopback import freePort

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "check.schema.json").read_text("utf-8")
)
OK = b"HTTP/1.1 200 OK\r\n\r\n"
ASKS = (
    b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
PASSWORD = "wonderland"


def tunnel(name: str, host: str, port: int, *via: str, **more: Any) -> Tunnel:
    return Tunnel(name, TcpListen(LOOPBACK, 0), host, port, via=via, **more)


def proxy(name: str, host: str, port: int, **more: Any) -> Proxy:
    return Proxy(name, host, port, **more)


ALICE = {"username": "alice", "password": Secret(PASSWORD)}


class MemoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ResolvingReactor(Resolver("192.0.2.7"))
        self.reports: list[TunnelReport] = []

    def check(
        self, proxies: list[Proxy], *tunnels: Tunnel, deadline: float = 30.0
    ) -> Deferred[list[TunnelReport]]:
        settings = Settings(tunnels, {proxy.name: proxy for proxy in proxies})
        return Check(self.reactor, settings, deadline, self.reports.append).run()

    def faultOf(self, number: int = 0, way: int = 0) -> Fault:
        fault = self.reports[number].ways[way].fault
        assert fault is not None
        return fault

    def assertValid(self) -> None:
        document = json.loads(json.dumps(asDocument(self.reports, 1.5)))
        self.assertEqual(list(schema.faults(document, SCHEMA)), [])


class StepTests(MemoryCase):
    def test_eachStepIsALineWithItsTime(self) -> None:
        proxies = [proxy("corp", "proxy.example", 8080, **ALICE)]
        self.check(proxies, tunnel("imap", "imap.example", 143, "corp"))
        self.reactor.advance(0.012)
        acceptTCP(self.reactor).receive(ASKS)
        self.reactor.advance(0.02)
        transport = acceptTCP(self.reactor)
        self.assertIn(b"Proxy-Authorization: Basic", transport.value())
        sent = len(transport.value())
        self.reactor.advance(0.011)
        transport.receive(OK)
        self.reactor.advance(0.5)
        transport.receive(b"* OK Gimap\x1b ready\r\n")
        [report] = self.reports
        self.assertEqual(
            asText(report).splitlines(),
            [
                "imap  imap.example:143",
                "  via corp (proxy.example:8080)",
                "    resolve   proxy.example     192.0.2.7             0 ms",
                "    tcp       192.0.2.7:8080    connected            12 ms",
                "    connect   imap.example:143  200, Basic           31 ms",
                "    banner    imap.example:143  * OK Gimap. ready   500 ms",
                "  ok",
            ],
        )
        self.assertTrue(report.ok)
        self.assertEqual(transport.aborted, 1)
        self.assertEqual(len(transport.value()), sent, "something was sent to the target")
        self.assertValid()

    def test_theSchemesThatWereOfferedAreNoted(self) -> None:
        proxies = [proxy("corp", "192.0.2.9", 8080, **ALICE)]
        self.check(proxies, tunnel("imap", "imap.example", 993, "corp"))
        acceptTCP(self.reactor).receive(ASKS.replace(b"=x\r\n", b"=x, Odd\r\n"))
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        transport.receive(b"hello\n")
        facts = self.reports[0].ways[0].steps[1].facts
        self.assertEqual(facts, {"status": 200, "offered": ["Basic", "Odd"], "scheme": "Basic"})

    def test_eachHopOfAChainIsShownOnce(self) -> None:
        proxies = [
            proxy("edge", "192.0.2.9", 1),
            proxy("corp", "corp.example", 2, through="edge"),
        ]
        self.check(proxies, tunnel("imap", "imap.example", 993, "corp"))
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        transport.receive(OK)
        self.reactor.advance(2)
        [way] = self.reports[0].ways
        self.assertEqual(way.proxies, ("192.0.2.9:1", "corp.example:2"))
        self.assertEqual(
            [(step.kind, step.subject) for step in way.steps],
            [
                ("tcp", "192.0.2.9:1"),
                ("connect", "corp.example:2"),
                ("connect", "imap.example:993"),
            ],
        )
        self.assertIsNone(way.fault)
        self.assertValid()

    def test_eachWayIsTried(self) -> None:
        proxies = [proxy("one", "192.0.2.1", 1), proxy("two", "192.0.2.2", 2)]
        self.check(proxies, tunnel("t", "192.0.2.3", 25, "one", "two", DIRECT))
        self.assertEqual(
            [client[0] for client in self.reactor.tcpClients],
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        )
        refuseTCP(self.reactor, ConnectionRefusedError(111), 0)
        acceptTCP(self.reactor, 1).receive(OK + b"220 hi\r\n")
        acceptTCP(self.reactor, 2).receive(b"220 hi\r\n")
        [report] = self.reports
        self.assertFalse(report.ok)
        self.assertEqual([way.fault is None for way in report.ways], [False, True, True])
        self.assertEqual(report.ways[2].proxies, ())
        self.assertIn("  directly\n", asText(report))
        self.assertEqual(summary([report]), "1 of 3 ways failed")
        self.assertValid()

    def test_whatThisMachineHasRunOutOfIsACauseOfItsOwn(self) -> None:
        proxies = [proxy("one", "192.0.2.1", 1), proxy("two", "proxy.example", 2)]
        self.check(proxies, tunnel("t", "192.0.2.3", 25, "one", "two", DIRECT))
        for number in range(3):
            refuseTCP(self.reactor, ConnectBindError(errno.EMFILE), number)
        [report] = self.reports
        for way in report.ways:
            assert way.fault is not None
            self.assertEqual(way.fault.cause, "own-shortage")
            self.assertIn("this machine cannot connect to ", way.fault.message)
            self.assertIn("ulimit -n", way.fault.hint)
        self.assertValid()

    def test_reportsComeInTheOrderOfTheTunnels(self) -> None:
        names = ["a", "b", "c"]
        checking = self.check([], *(tunnel(name, "192.0.2.1", 25, DIRECT) for name in names))
        for number, told in ((2, []), (1, []), (0, names)):
            acceptTCP(self.reactor, number).receive(b"220 hi\r\n")
            self.assertEqual([report.name for report in self.reports], told)
        self.assertEqual(self.successResultOf(checking), self.reports)
        self.assertEqual(summary(self.reports), "all is well")


class SocksTests(MemoryCase):
    GRANTED = b"\5\0\0\1\0\0\0\0\0\0"

    def begin(self, *answers: bytes, protocol: str = "socks5h", **more: Any) -> None:
        kind: Any = protocol
        self.check(
            [proxy("s", "192.0.2.9", 1080, protocol=kind, **more)],
            tunnel("imap", "imap.example", 143, "s"),
        )
        if answers:
            transport = acceptTCP(self.reactor)
            for answer in filter(None, answers):
                self.reactor.advance(0.01)
                transport.receive(answer)

    def test_itIsALineWithItsReply(self) -> None:
        self.begin(b"\5\2", b"\1\0", self.GRANTED, b"* OK hello\r\n", **ALICE)
        self.assertEqual(
            asText(self.reports[0]).splitlines(),
            [
                "imap  imap.example:143",
                "  via s (192.0.2.9:1080)",
                "    tcp       192.0.2.9:1080    connected                      0 ms",
                "    socks     imap.example:143  granted, user and password    30 ms",
                "    banner    imap.example:143  * OK hello                    10 ms",
                "  ok",
            ],
        )
        facts = self.reports[0].ways[0].steps[1].facts
        self.assertEqual(facts, {"reply": 0, "scheme": "user and password"})
        self.assertValid()

    def test_aRefusalIsOneToo(self) -> None:
        self.begin(b"\5\0", b"\5\5")
        fault = self.faultOf()
        self.assertEqual(fault.cause, "target-unreachable")
        self.assertIn("SOCKS reply 5, connection refused", fault.message)
        step = self.reports[0].ways[0].steps[-1]
        self.assertEqual((step.kind, step.detail), ("socks", "reply 5"))
        self.assertValid()

    def test_whatIsNoSocksProxyHasItsCause(self) -> None:
        self.begin(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        self.assertEqual(self.faultOf().cause, "speaks-http")
        self.assertValid()

    def test_atTheDeadlineItSaysWhatIsMissing(self) -> None:
        for answers, cause in (
            ([], "no-answer"),
            ([b""], "no-socks"),
            ([b"\5\0"], "silent-proxy"),
            ([b"\5\0", b"\5\0\0"], "silent-proxy"),
        ):
            self.reports.clear()
            self.begin(*answers)
            self.reactor.advance(30)
            self.assertEqual(self.faultOf().cause, cause, answers)
            self.assertValid()

    def test_aNameThatIsLookedUpForeverIsSaid(self) -> None:
        self.reactor.installNameResolver(Resolver(silent=True))
        self.begin(b"", protocol="socks5")
        self.reactor.advance(30)
        fault = self.faultOf()
        self.assertEqual(fault.cause, "target-name")
        self.assertIn("the name was not resolved here within 30 s", fault.message)
        self.assertValid()


class SilenceTests(MemoryCase):
    """After the tunnel stands."""

    def stand(self, port: int) -> Any:
        self.check([proxy("p", "192.0.2.1", 1)], tunnel("t", "t.example", port, "p"))
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        return transport

    def test_isAFaultWhereTheServerSpeaksFirst(self) -> None:
        transport = self.stand(25)
        self.reactor.advance(1.9)
        self.assertEqual(self.reports, [])
        self.reactor.advance(0.2)
        fault = self.faultOf()
        self.assertEqual(fault.cause, "target-silent")
        self.assertIn("then silence: no greeting within 2 s", fault.message)
        self.assertEqual(transport.aborted, 1)
        self.assertEqual(self.reports[0].ways[0].steps[-1].detail, "silence")
        self.assertValid()

    def test_isNoneElsewhere(self) -> None:
        for port in 993, 443, 5432:
            self.setUp()
            self.stand(port)
            self.reactor.advance(2)
            self.assertTrue(self.reports[0].ok, port)
            self.assertNotIn("banner", asText(self.reports[0]))

    def test_anEndIsAFaultEverywhere(self) -> None:
        self.stand(443).lose()
        fault = self.faultOf()
        self.assertEqual(fault.cause, "target-closed")
        self.assertIn("then the connection was closed", fault.message)

    def test_whatCameBeforeAnEndIsShown(self) -> None:
        transport = self.stand(443)
        transport.receive(b"go away")
        transport.lose()
        self.assertEqual(self.reports[0].ways[0].steps[-1].detail, "go away")


class DeadlineTests(MemoryCase):
    """What hangs is named; nothing is left behind."""

    def hang(self, *, through: int = 0, deadline: float = 3.0, **more: Any) -> str:
        """@param through: bytes come from the proxy until this step hangs."""
        self.check(
            [proxy("p", "proxy.example" if not through else "192.0.2.1", 1, **more)],
            tunnel("t", "t.example", 25, "p"),
            deadline=deadline,
        )
        if through > 1:
            acceptTCP(self.reactor)
        self.reactor.advance(deadline)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertValid()
        return self.faultOf().message

    def test_aResolverThatDoesNotAnswer(self) -> None:
        self.reactor = ResolvingReactor(Resolver(silent=True))
        message = self.hang()
        self.assertEqual(message, "cannot reach the proxy proxy.example:1: timed out after 3 s")
        self.assertEqual(self.faultOf().cause, "no-answer")
        self.assertEqual([s.kind for s in self.reports[0].ways[0].steps], ["resolve"])

    def test_aProxyThatIsNotThere(self) -> None:
        message = self.hang(through=1)
        self.assertEqual(message, "cannot reach the proxy 192.0.2.1:1: timed out after 3 s")
        self.assertEqual([s.kind for s in self.reports[0].ways[0].steps], ["tcp"])

    def test_aProxyThatAcceptsAndNeverAnswers(self) -> None:
        message = self.hang(through=2)
        self.assertEqual(
            message, "the proxy 192.0.2.1:1 did not answer CONNECT t.example:25 within 3 s"
        )
        self.assertEqual(self.faultOf().cause, "silent-proxy")
        self.assertEqual(self.reports[0].ways[0].steps[-1].detail, "no answer")

    def test_aHandshakeThatDoesNotGoOn(self) -> None:
        message = self.hang(through=2, tls=TlsSettings(verify=False))
        self.assertEqual(message, "cannot reach 192.0.2.1:1 over TLS: no handshake within 3 s")
        self.assertEqual(self.faultOf().cause, "no-tls")

    def test_aHandshakeWithATargetThatDoesNotGoOn(self) -> None:
        self.check([], tunnel("t", "192.0.2.1", 993, DIRECT, tls=TlsSettings()), deadline=3)
        acceptTCP(self.reactor)
        self.reactor.advance(3)
        message = "cannot reach 192.0.2.1:993 over TLS: no handshake within 3 s"
        fault = self.faultOf()
        self.assertEqual((fault.message, fault.cause), (message, "target-no-tls"))
        self.assertNotIn("proxy", fault.hint)

    def test_aTargetThatDoesNotComeToTLS(self) -> None:
        secured = tunnel("t", "192.0.2.1", 25, DIRECT, tls=TlsSettings(), starttls="smtp")
        self.check([], secured, deadline=3)
        transport = acceptTCP(self.reactor)
        self.reactor.advance(3)
        message = "the target 192.0.2.1:25 did not come to TLS within 3 s"
        self.assertEqual(self.faultOf().message, message)
        self.assertEqual((transport.aborted, transport.value()), (1, b""))
        self.assertValid()

    def test_theTunnelsOwnDeadlineCountsWhereItIsSooner(self) -> None:
        only = tunnel("t", "192.0.2.1", 25, DIRECT, connectTimeout=1.0)
        self.check([], only, deadline=30)
        self.reactor.advance(1)
        self.assertEqual(self.faultOf().message, "cannot reach 192.0.2.1:25: timed out after 1 s")

    def test_credentialsForWhichAnotherOneAsks(self) -> None:
        proxies = [proxy("p", "192.0.2.1", 1, **ALICE)]
        self.check(proxies, *(tunnel(n, "t.example", 25, "p") for n in "ab"), deadline=3)
        for number in 0, 1:
            acceptTCP(self.reactor, number).receive(ASKS)
        acceptTCP(self.reactor)
        self.reactor.advance(3)
        self.assertEqual(self.faultOf(0).cause, "silent-proxy")
        self.assertEqual(self.faultOf(1).cause, "credentials-unavailable")

    def test_whatHadNoTurnSaysSo(self) -> None:
        tunnels = [tunnel(str(n), "192.0.2.1", 25, DIRECT) for n in range(101)]
        self.check([], *tunnels, deadline=3)
        self.assertEqual(len(self.reactor.tcpClients), 100)
        self.reactor.advance(3)
        self.assertEqual(len(self.reactor.tcpClients), 100)
        self.assertEqual(self.faultOf(100).message, "192.0.2.1:25 was not tried within 3 s")
        self.assertValid()


class BugTests(MemoryCase):
    """What raises within a step is a finding that names it, and the rest goes on."""

    def two(self, **more: Any) -> None:
        """A check of two tunnels: "a" through a proxy, "b" without one."""
        proxies = [proxy("p", "192.0.2.1", 1, **more)]
        self.check(proxies, tunnel("a", "t.example", 25, "p"), tunnel("b", "192.0.2.9", 25, DIRECT))
        acceptTCP(self.reactor, 1).receive(b"220 hi\r\n")

    def assertFound(self, where: str, kind: str) -> None:
        """The first one's fault is this bug; the second one is well; nothing is left."""
        self.reactor.advance(30)
        fault = self.faultOf()
        # Where it was raised, unless an old Twisted has taken the traceback away.
        place = r"( at \w+\.py:\d+)?$"
        self.assertRegex(fault.message, f"^{where}: a bug in ptunnel: {kind}{place}")
        self.assertIn("report", fault.hint)
        self.assertIsNone(self.reports[1].ways[0].fault)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertValid()

    def test_aStepThatCannotBeDescribed(self) -> None:
        def broken(self: Any, address: Any) -> None:
            if address.port == 1:
                raise OverflowError("what a proxy said")

        self.patch(StepEndpoint, "_describeAddress", broken)
        self.two()
        transport = acceptTCP(self.reactor, 0)
        self.assertFound("tcp 192.0.2.1:1", "OverflowError")
        self.assertNotIn("what a proxy said", self.faultOf().message)
        self.assertTrue(transport.aborted)

    def test_aResolverThatRaises(self) -> None:
        def broken(*_: Any) -> None:
            raise UnicodeError("label too long")

        self.patch(self.reactor.nameResolver, "resolveHostName", broken)
        proxies = [proxy("p", "proxy.example", 1)]
        self.check(proxies, tunnel("a", "t.example", 25, "p"), tunnel("b", "192.0.2.9", 25, DIRECT))
        acceptTCP(self.reactor).receive(b"220 hi\r\n")
        self.assertFound("resolve proxy.example", "UnicodeError")

    def test_anAnswerThatCannotBeRead(self) -> None:
        def broken(*_: Any) -> None:
            raise IndexError

        self.patch(Handshake, "feed", broken)
        self.two()
        acceptTCP(self.reactor, 0).receive(OK)
        self.assertFound("connect t.example:25", "IndexError")

    def test_whatIsNotedOfAnAnswerAtTheDeadline(self) -> None:
        self.patch(StepEndpoint, "answered", lambda *_: 1 // 0)
        self.two()
        acceptTCP(self.reactor, 0)
        self.reactor.advance(30)
        self.assertIn("did not answer CONNECT", self.faultOf().message)

    def test_whatIsNotedOfAnAnswerThatIsWell(self) -> None:
        self.patch(StepEndpoint, "answered", lambda *_: 1 // 0)
        self.two()
        acceptTCP(self.reactor, 0).receive(OK + b"220 hi\r\n")
        self.assertFound("connect t.example:25", "ZeroDivisionError")

    def test_theWordsForWhatHangs(self) -> None:
        self.patch(Findings, "expire", lambda self, limit: dict[str, str]()["x"])
        self.two()
        self.assertFound("tcp 192.0.2.1:1", "KeyError")

    def test_theReportItself(self) -> None:
        original = Findings.report
        self.patch(
            Findings,
            "report",
            lambda self, fault, advice: original(self, fault) if not fault else 1 // 0,
        )
        self.two()
        refuseTCP(self.reactor, ConnectionRefusedError(111), 0)
        self.assertFound("tcp 192.0.2.1:1", "ZeroDivisionError")

    def test_aWalkThatDoesNotEvenBegin(self) -> None:
        settings = Settings(
            (tunnel("a", "t.example", 25, "nobody"), tunnel("b", "192.0.2.9", 25, DIRECT)), {}
        )
        Check(self.reactor, settings, 30, self.reports.append).run()
        acceptTCP(self.reactor).receive(b"220 hi\r\n")
        self.assertFound("via nobody", "KeyError")


class ForeignTests(MemoryCase):
    """Whatever a proxy says, the check ends by its deadline, and finds no bug."""

    DATES = (
        b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        b"Mon, 01 Jan 2024 00:00:00 +99999999999999",
        b"01 Jan 0000 00:00:00 -0000",
        b"Mon, 01 Jan 2024 99:99:99 GMT",
        b", , ,",
        b"",
        b"\xff\xfe",
    )

    def answer(self, *answers: bytes, **more: Any) -> None:
        self.reports.clear()
        self.reactor = ResolvingReactor(Resolver("192.0.2.7"))
        self.check([proxy("p", "192.0.2.1", 1, **more)], tunnel("t", "t.example", 25, "p"))
        for answer in answers:
            acceptTCP(self.reactor).receive(answer)
        self.reactor.advance(30)
        self.assertEqual(len(self.reports), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        fault = self.reports[0].ways[0].fault
        self.assertNotIn("a bug", fault.message if fault else "")
        self.assertValid()

    def test_aDateThatIsNone(self) -> None:
        for date in self.DATES:
            line = b"\r\nDate: " + date + b"\r\n"
            self.answer(OK[:-4] + line + b"\r\n220 hi\r\n")
            self.assertTrue(self.reports[0].ok, date)
            self.answer(b"HTTP/1.1 403 No" + line + b"Content-Length: 0\r\n\r\n")
            self.assertIn("403 No", self.faultOf().message)
            self.answer(ASKS.replace(b"\r\n", line, 1), OK + b"220 hi\r\n", **ALICE)
            self.assertTrue(self.reports[0].ok, date)

    @given(st.binary(max_size=40))
    def test_anyDate(self, value: bytes) -> None:
        self.answer(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nDate: " + value + b"\r\n\r\n")

    @given(
        st.from_regex(
            r"(Mon, )?\d{1,12} \w{3} \d{1,25} \d{1,12}:\d{1,5} [+-]\d{1,25}", fullmatch=True
        )
    )
    def test_anyThingThatLooksLikeADate(self, value: str) -> None:
        line = b"Date: " + value.encode() + b"\r\n"
        self.answer(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n" + line + b"\r\n")

    @given(
        st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 407 Who\r\n"]),
        st.sampled_from([b"", b"Proxy-Authenticate: ", b"Date: ", b"Content-Length: "]),
        st.binary(max_size=60),
    )
    def test_anyAnswer(self, status: bytes, field: bytes, rest: bytes) -> None:
        self.answer(status + field + rest, **ALICE)
        self.answer(status + field + rest + b"\r\n\r\n", **ALICE)


class CredentialTests(MemoryCase):
    def test_thoseThatAreRejectedAreSentOnce(self) -> None:
        proxies = [proxy("p", "192.0.2.1", 1, **ALICE)]
        self.check(proxies, *(tunnel(n, "t.example", 25, "p") for n in "abc"))
        for number in 0, 1, 2:
            acceptTCP(self.reactor, number).receive(ASKS)
        self.assertEqual(len(self.reactor.tcpClients), 4)
        transport = acceptTCP(self.reactor, 3)
        self.assertIn(b"Proxy-Authorization", transport.value())
        transport.receive(ASKS)
        self.assertEqual(len(self.reactor.tcpClients), 4)
        for number in 0, 1, 2:
            self.assertEqual(self.faultOf(number).cause, "credentials-rejected")

    def test_theSchemeIsNamedWhereAnotherThingIsRefused(self) -> None:
        self.check([proxy("p", "192.0.2.1", 1, **ALICE)], tunnel("t", "t.example", 25, "p"))
        acceptTCP(self.reactor).receive(ASKS)
        acceptTCP(self.reactor).receive(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.faultOf().cause, "port-refused")
        self.assertEqual(self.reports[0].ways[0].steps[-1].detail, "403, Basic")

    def test_noneOfThemIsShown(self) -> None:
        proxies = [proxy("p", "192.0.2.1", 1, **ALICE)]
        self.check(proxies, tunnel("t", "t.example", 25, "p"))
        acceptTCP(self.reactor).receive(ASKS)
        transport = acceptTCP(self.reactor)
        echo = transport.value()
        transport.receive(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%b" % (len(echo), echo))
        text = asText(self.reports[0]) + json.dumps(asDocument(self.reports, 1))
        self.assertIn("500 No", text)
        for secret in PASSWORD, Credentials("alice", PASSWORD).basic().decode().split()[1]:
            self.assertNotIn(secret, text)


class TextTests(SynchronousTestCase):
    def report(self, fault: Fault | None = None) -> TunnelReport:
        steps = Step("tcp", "p:1", True, "connected", 1.25), Step("connect", "t:2", detail="403")
        return TunnelReport("t:2", "t:2", (WayReport("p", ("p:1", "q:1"), steps, fault),))

    def test_aFaultIsALineAndItsHintAnother(self) -> None:
        self.assertEqual(
            asText(self.report(Fault("it is\ndown", "mend it"))).splitlines(),
            [
                "t:2",
                "  via p (p:1, then q:1)",
                "    tcp       p:1  connected    1.2 s",
                "    connect   t:2  403",
                "  failed: it is\\ndown",
                "  hint: mend it",
            ],
        )

    def test_colourIsTheOnlyDifferenceThatItMakes(self) -> None:
        report = self.report(Fault("it is\x1b[5m down", "mend it"))
        coloured = asText(report, colour=True)
        self.assertIn("\x1b[31mfailed:\x1b[0m", coloured)
        self.assertNotIn("\x1b[5m", coloured)
        for code in "31", "33", "2", "0":
            coloured = coloured.replace(f"\x1b[{code}m", "")
        self.assertEqual(coloured, asText(report))

    @given(st.binary())
    def test_anyBannerIsShownAsOneShortPrintableLine(self, banner: bytes) -> None:
        text = shown(banner)
        self.assertTrue(text.isascii() and (text.isprintable() or not text))
        self.assertLessEqual(len(text), MAX_BANNER)


class SchemaTests(SynchronousTestCase):
    """That the validator sees what it looks for."""

    def test_itFindsEachKindOfMistake(self) -> None:
        way: dict[str, Any] = {"name": "w", "proxies": [], "ok": True, "steps": [], "fault": None}
        one: dict[str, Any] = {"name": "t", "target": "t:1", "ok": True, "ways": [way]}
        good: dict[str, Any] = {"ok": True, "seconds": 1, "tunnels": [one]}
        self.assertEqual(list(schema.faults(good, SCHEMA)), [])
        bad: Any
        for bad in (
            [],
            {**good, "ok": 1},
            {**good, "seconds": -1},
            {**good, "more": 1},
            {"ok": True, "seconds": 1},
            {**good, "tunnels": [{**one, "target": "t"}]},
            {**good, "tunnels": [{**one, "ways": []}]},
            {**good, "tunnels": [{**one, "ways": [{**way, "fault": {"cause": "odd"}}]}]},
        ):
            self.assertNotEqual(list(schema.faults(bad, SCHEMA)), [], bad)


class HalfReal:
    """The reactor, with a clock that goes when the test says so, and a resolver that knows no
    name: nobody outside is asked."""

    def __init__(self, listening: list[Any]) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._listening = listening
        self.clock = Clock()
        self.callLater, self.seconds = self.clock.callLater, self.clock.seconds
        self.nameResolver = Resolver()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listen(self, factory: Any, pair: authority.Pair | None = None) -> int:
        """@param pair: whose certificate is shown, where TLS is spoken."""
        if pair is None:
            port = self._reactor.listenTCP(0, factory, interface=LOOPBACK)
        else:
            context = DefaultOpenSSLContextFactory(pair.key, pair.cert)
            port = self._reactor.listenSSL(0, factory, context, interface=LOOPBACK)
        self._listening.append(port)
        return int(port.getHost().port)


class Mail(Protocol):
    """An SMTP server without STARTTLS."""

    def connectionMade(self) -> None:
        self.transport.write(b"220 mail.example ESMTP\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"250 mail.example\r\n")


class Silent(Protocol):
    """@cvar asked: called when it got a request."""

    asked: Callable[[], None] = staticmethod(lambda: None)

    def dataReceived(self, data: bytes) -> None:
        type(self).asked()


class SecureMail(Protocol):
    """An IMAP server that begins TLS when it is spoken to."""

    def connectionMade(self) -> None:
        cast(Any, self.transport).write(b"* OK theirs\r\n")

    def dataReceived(self, data: bytes) -> None:
        transport, pair = cast(Any, self.transport), authority.server(LOOPBACK)
        if b"STARTTLS" in data:
            transport.write(b"ptunnel1 OK go\r\n")
            transport.startTLS(DefaultOpenSSLContextFactory(pair.key, pair.cert))


def serve(kind: type[Protocol]) -> Factory:
    factory: Any = Factory.forProtocol(kind)
    factory.noisy = False
    return factory


class LoopbackTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.listening: list[Any] = []
        self.reactor = HalfReal(self.listening)

    async def stop(self, *proxies: LittleProxy) -> None:
        for little in proxies:
            await little.stop()
        for port in self.listening:
            await maybeDeferred(port.stopListening)
        await deferLater(self.reactor._reactor, 0, lambda: None)

    def run_(self, main: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(main)

    def test_tenFaultsAreEachNamedInWords(self) -> Deferred[None]:
        return self.run_(self.tenFaults())

    async def tenFaults(self) -> None:
        reactor, tls = self.reactor, TlsSettings(caFile=authority.authority().cert)
        mail = reactor.listen(serve(Mail))
        dead = [freePort(), freePort()]
        good = LittleProxy()
        strict = LittleProxy(credentials=Credentials("alice", "another"), ports={443})
        choosy = LittleProxy(ports={443})
        quiet = serve(Protocol)
        proxies = [
            proxy("dead", LOOPBACK, dead[0]),
            proxy("choosy", LOOPBACK, choosy.listen(reactor)),
            proxy("strict", LOOPBACK, strict.listen(reactor), **ALICE),
            proxy("good", LOOPBACK, good.listen(reactor)),
            proxy("silent", LOOPBACK, reactor.listen(serve(Silent))),
            proxy("nowhere", "proxy.invalid", 8080),
        ] + [
            proxy(name, LOOPBACK, reactor.listen(quiet, pair), tls=tls)
            for name, pair in (
                ("expired", authority.expired(LOOPBACK)),
                ("misnamed", authority.server("other.example")),
                ("unknown", authority.stranger(LOOPBACK)),
            )
        ]
        expected = [
            ("dead", 993, "connection-refused", "connection refused", "nothing listens"),
            ("choosy", 993, "port-refused", "refuses 127.0.0.1:993: 403", "443 only"),
            ("strict", 993, "credentials-rejected", "rejects the credentials", "password"),
            ("expired", 993, "certificate-expired", "expired on", "renewed"),
            ("misnamed", 993, "certificate-name", "is for other.example", "server-name"),
            ("unknown", 993, "certificate-chain", "Somebody Else", "ca-file"),
            ("good", dead[1], "target-unreachable", "502", "target's name and port"),
            ("good", mail, "no-starttls", "does not offer STARTTLS", "target's port"),
            ("nowhere", 993, "proxy-name", "the name does not resolve", "spelling"),
            ("silent", 993, "silent-proxy", "did not answer CONNECT", "not an HTTP proxy's"),
        ]
        tunnels = [
            tunnel(
                f"{name} {port}",
                LOOPBACK,
                port,
                name,
                **({"tls": tls, "starttls": "smtp"} if port == mail else {}),
            )
            for name, port, *_ in expected
        ]
        asked: Deferred[None] = Deferred()
        self.patch(Silent, "asked", staticmethod(lambda: asked.callback(None)))
        others: Deferred[None] = Deferred()

        def found(report: TunnelReport) -> None:
            if report.name == tunnels[-2].name:
                others.callback(None)

        settings = Settings(tuple(tunnels), {proxy.name: proxy for proxy in proxies})
        checking = Check(reactor, settings, 30, found).run()
        try:
            await others
            await asked
            reactor.clock.advance(30)
            reports = await checking
        finally:
            await self.stop(good, strict, choosy)
        for report, (name, _, cause, words, hint) in zip(reports, expected, strict=True):
            fault = report.ways[0].fault
            assert fault is not None, name
            self.assertEqual(fault.cause, cause, name)
            self.assertIn(words, fault.message)
            self.assertIn(hint, fault.hint)
        document = json.loads(json.dumps(asDocument(reports, 1)))
        self.assertEqual(list(schema.faults(document, SCHEMA)), [])
        self.assertEqual(strict.refusals[407], 2)
        self.assertEqual(reactor.nameResolver.asked, ["proxy.invalid"])

    def test_tlsWithTheProxyIsDescribed(self) -> Deferred[None]:
        return self.run_(self.secureProxy())

    async def secureProxy(self) -> None:
        reactor, tls = self.reactor, TlsSettings(caFile=authority.authority().cert)
        little = LittleProxy()
        little.listen(reactor)
        port = reactor.listen(little, authority.server(LOOPBACK, "proxy.example"))
        mail = reactor.listen(serve(Mail))
        settings = Settings(
            (tunnel("mail", LOOPBACK, mail, "secure"),),
            {"secure": proxy("secure", LOOPBACK, port, tls=tls)},
        )
        try:
            [report] = await Check(reactor, settings, 30).run()
        finally:
            await self.stop(little)
        _, step, *others = report.ways[0].steps
        until = authority.NOW + 30 * authority.DAY
        self.assertEqual(
            step.detail, f"TLSv1.3, 127.0.0.1, proxy.example, valid until {until:%Y-%m-%d}"
        )
        self.assertEqual([(s.kind, s.ok) for s in others], [("connect", True), ("banner", True)])
        self.assertEqual(list(schema.faults(asDocument([report], 1), SCHEMA)), [])

    def test_ourOwnGreetingIsNotShownAsTheTargets(self) -> Deferred[None]:
        return self.run_(self.starttls())

    async def starttls(self) -> None:
        tls = TlsSettings(caFile=authority.authority().cert)
        port = self.reactor.listen(serve(SecureMail))
        secured = tunnel("mail", LOOPBACK, port, DIRECT, tls=tls, starttls="imap")
        try:
            [report] = await Check(self.reactor, Settings((secured,), {}), 30).run()
        finally:
            await self.stop()
        steps = [(step.kind, step.ok) for step in report.ways[0].steps]
        self.assertEqual(steps, [("tcp", True), ("starttls", True)])
        self.assertIsNone(report.ways[0].fault)

    def test_aWrongClockIsToldFromAWrongCertificate(self) -> Deferred[None]:
        return self.run_(self.wrongClock())

    async def wrongClock(self) -> None:
        early, late = authority.notYetValid(LOOPBACK), authority.expired(LOOPBACK)
        there = authority.NOW + 3 * authority.DAY

        class Dated(Protocol):
            """Proxy and target at once."""

            def dataReceived(self, data: bytes) -> None:
                date = format_datetime(there, usegmt=True).encode()
                self.transport.write(b"HTTP/1.1 200 OK\r\nDate: " + date + b"\r\n\r\n")
                self.transport.startTLS(DefaultOpenSSLContextFactory(early.key, early.cert))

        reactor, tls = self.reactor, TlsSettings(caFile=authority.authority().cert)
        quiet = serve(Protocol)
        proxies = [
            proxy("dated", LOOPBACK, reactor.listen(serve(Dated))),
            proxy("early", LOOPBACK, reactor.listen(quiet, early), tls=tls),
            proxy("late", LOOPBACK, reactor.listen(quiet, late), tls=tls),
        ]
        settings = Settings(
            (tunnel("t", LOOPBACK, 993, "dated", "early", "late", tls=tls),),
            {proxy.name: proxy for proxy in proxies},
        )
        now = authority.NOW.timestamp
        try:
            [report] = await Check(reactor, settings, 30, now=now).run()
        finally:
            await self.stop()
        dated, early_, late_ = (way.fault for way in report.ways)
        assert dated is not None and early_ is not None and late_ is not None
        self.assertEqual((dated.cause, early_.cause), ("clock", "clock"))
        self.assertIn("is 3 days behind, going by the proxy's", dated.hint)
        self.assertIn("is 2 days behind, going by that certificate", early_.hint)
        self.assertEqual(late_.cause, "certificate-expired")

    def test_theCommandPrintsAndExits(self) -> Deferred[None]:
        return self.run_(self.command())

    async def command(self) -> None:
        good = LittleProxy()
        port, mail = good.listen(self.reactor), self.reactor.listen(serve(Mail))
        words = ["-p", f"{LOOPBACK}:{port}", f"0:{LOOPBACK}:{mail}"]
        try:
            plain = await self.ptunnel("check", *words)
            machines = await self.ptunnel("check", "--json", *words, f"0:{LOOPBACK}:{freePort()}")
            quiet = await self.ptunnel("check", "-q", *words)
            mistakes = [
                await self.ptunnel("check", "--deadline", value, *words) for value in ("0", "x")
            ]
        finally:
            await self.stop(good)
        self.assertEqual((plain[0], plain[2]), (0, ""))
        self.assertIn("220 mail.example ESMTP", plain[1])
        self.assertTrue(plain[1].endswith("  ok\n\nall is well\n"), plain[1])
        self.assertEqual((machines[0], machines[2]), (1, ""))
        document = json.loads(machines[1])
        self.assertEqual(list(schema.faults(document, SCHEMA)), [])
        self.assertEqual([one["ok"] for one in document["tunnels"]], [True, False])
        self.assertEqual(quiet, (0, "", ""))
        for code, out, err in mistakes:
            self.assertEqual((code, out), (2, ""))
            self.assertIn("ptunnel: --deadline: ", err)

    def test_theCommandEndsAtTheDeadlineThoughTheResolverHangs(self) -> None:
        program = (
            "import socket, sys, threading\n"
            "socket.getaddrinfo = lambda *_: threading.Event().wait()\n"
            "from ptunnel.cli import main\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        words = ["check", "--deadline", "500ms", "-p", "proxy.invalid:8080", "0:192.0.2.1:25"]
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn("cannot reach the proxy proxy.invalid:8080: timed out", done.stdout)

    def test_anOutputThatTakesNothingIsALineAtMost(self) -> None:
        reading, gone = os.pipe()
        os.close(reading)
        full = os.open("/dev/full", os.O_WRONLY)
        for output, said in (
            (gone, r"\A\Z"),
            (full, r"\A\S+ error +cannot write .* no space .*\n\Z"),
        ):
            self.addCleanup(os.close, output)
            for more in [], ["--json"]:
                done = subprocess.run(
                    [sys.executable, "-m", "ptunnel", "check", "-d", *more, f"0:{LOOPBACK}:1"],
                    stdout=output,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=50,
                    check=False,
                )
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, said)

    async def ptunnel(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors of the command."""
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-m", "ptunnel", *words], env=os.environ
        )
        return code, out.decode(), err.decode()
