"""What `ptunnel check` tries of doors: `ptunnel.check.doors`."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.check import Check, TunnelReport, asDocument, asText
from ptunnel.config import DIRECT, Door, Proxy, Settings, TcpListen
from ptunnel.config.parsers.targets import parseTargets
from ptunnel.tls import TlsSettings
from tests.check.test_check import ALICE, OK, SCHEMA
from tests.support import schema
from tests.support.fakes import Resolver, ResolvingReactor, acceptTCP, refuseTCP

CORP = Proxy("corp", "proxy.example", 8080, **ALICE)
NOTE = "  note: a login, and what may be asked for, show with the first client, or with --target"


def door(*via: str, **settings: Any) -> Door:
    return Door("browser", TcpListen("127.0.0.1", 0), via=via, **settings)


class DoorCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ResolvingReactor(Resolver("192.0.2.7"))
        self.reports: list[TunnelReport] = []

    def check(self, *proxies: Proxy, target: tuple[str, int] | None = None, **values: Any) -> None:
        settings = Settings((), {each.name: each for each in proxies}, (values.pop("door"),))
        check = Check(self.reactor, settings, 30.0, self.reports.append, target=target)
        self.done: Deferred[Any] = check.run()

    def lines(self) -> list[str]:
        [report] = self.successResultOf(self.done)
        document = json.loads(json.dumps(asDocument(self.reports, 1.5)))
        self.assertEqual(list(schema.faults(document, SCHEMA)), [])
        return asText(report).splitlines()


class ReachTests(DoorCase):
    def test_aProxyIsTriedAsFarAsItGoesWithoutATarget(self) -> None:
        self.check(CORP, door=door("corp"))
        self.reactor.advance(0.012)
        transport = acceptTCP(self.reactor)
        self.assertEqual(
            self.lines(),
            [
                "browser  SOCKS and HTTP proxy",
                "  targets   all but this machine itself",
                "  clients   all who reach it",
                "  via corp (proxy.example:8080)",
                "    resolve   proxy.example   192.0.2.7     0 ms",
                "    tcp       192.0.2.7:8080  connected    12 ms",
                "  ok",
                NOTE,
            ],
        )
        self.assertEqual((transport.value(), transport.aborted), (b"", 1))

    def test_oneThatIsNotReachedIsAFault(self) -> None:
        self.check(CORP, door=door("corp"))
        refuseTCP(self.reactor, ConnectionRefusedError(osError=111))
        lines = self.lines()
        self.assertIn(
            "  failed: cannot reach the proxy proxy.example:8080: connection refused", lines
        )
        self.assertNotIn(NOTE, lines)
        self.assertFalse(self.reports[0].ok)

    def test_oneThatDoesNotAnswerIsThatOfTheProxy(self) -> None:
        self.check(CORP, door=door("corp", connectTimeout=5.0))
        self.reactor.advance(5)
        text = "\n".join(self.lines())
        self.assertIn("cannot reach the proxy proxy.example:8080: timed out after 5 s", text)

    def test_soDoesTls(self) -> None:
        self.check(Proxy("t", "192.0.2.7", 8443, tls=TlsSettings()), door=door("t"))
        acceptTCP(self.reactor)
        self.reactor.advance(30)
        [way] = self.reports[0].ways
        assert way.fault is not None
        self.assertEqual((way.steps[-1].kind, way.fault.cause), ("tls", "no-tls"))

    def test_aNameThatDoesNotResolveIsTheProxys(self) -> None:
        self.reactor = ResolvingReactor(Resolver())
        self.check(CORP, door=door("corp"))
        [way] = self.reports[0].ways
        assert way.fault is not None
        self.assertEqual(way.fault.cause, "proxy-name")

    def test_ofAChainTheLastIsAskedOfTheOneBefore(self) -> None:
        last = Proxy("last", "192.0.2.9", 3128, through="corp")
        self.check(CORP, last, door=door("last"))
        transport = acceptTCP(self.reactor)
        self.assertIn(b"CONNECT 192.0.2.9:3128 ", transport.value())
        transport.receive(OK)
        steps = [(step.kind, step.subject) for step in self.reports[0].ways[0].steps]
        self.assertEqual(steps[-1], ("connect", "192.0.2.9:3128"))
        self.assertTrue(self.reports[0].ok)

    def test_withoutAProxyThereIsNothingToTry(self) -> None:
        self.check(door=door(DIRECT))
        self.assertEqual(self.lines()[-3:-1], ["  directly", "  ok"])
        self.assertEqual(self.reactor.tcpClients, [])

    def test_whatItServesAndWhomIsSaid(self) -> None:
        served = parseTargets("*.example.com:443, [2001:db8::]/32:*")
        allow = (ip_network("10.0.0.0/8"),)
        self.check(door=door(DIRECT, targets=served, allow=allow, username="team"))
        lines = self.lines()
        self.assertEqual(lines[1], "  targets   *.example.com:443, [2001:db8::]/32:*")
        self.assertEqual(lines[2], "  clients   10.0.0.0/8, with the user name team")


class TargetTests(DoorCase):
    def test_oneThatIsGivenIsTriedAsThroughATunnel(self) -> None:
        self.check(CORP, door=door("corp"), target=("t.example", 443))
        acceptTCP(self.reactor).receive(OK)
        self.reactor.advance(2)
        lines = self.lines()
        self.assertEqual(lines[0], "browser  SOCKS and HTTP proxy, to t.example:443")
        self.assertTrue(any(line.startswith("    connect   t.example:443") for line in lines))
        self.assertEqual(asDocument(self.reports, 1.0)["tunnels"][0]["target"], "t.example:443")

    def test_oneThatTheDoorDoesNotServeIsNotConnectedTo(self) -> None:
        self.check(CORP, door=door("corp"), target=("localhost", 22))
        self.assertEqual(self.lines()[3], "  via corp (proxy.example:8080)")
        [way] = self.reports[0].ways
        assert way.fault is not None
        self.assertEqual(way.fault.cause, "target-forbidden")
        self.assertEqual(self.reactor.tcpClients, [])

    def test_norOneWhoseNameLeadsHere(self) -> None:
        self.reactor = ResolvingReactor(Resolver("127.0.0.1"))
        self.check(door=door(DIRECT), target=("t.example", 443))
        [way] = self.reports[0].ways
        assert way.fault is not None
        self.assertEqual(way.fault.cause, "target-forbidden")
        self.assertEqual(self.reactor.tcpClients, [])


class PatternTests(SynchronousTestCase):
    def test_oneIsWrittenAsItIsRead(self) -> None:
        for text in "*:*", "*.a.example:443", "a:1-9", "10.0.0.0/8:*", "[2001:db8::]/32:80":
            self.assertEqual(str(parseTargets(text)[0]), text)
