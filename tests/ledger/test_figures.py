"""`ptunnel.ledger.figures`: the figures of several processes become one account."""

from __future__ import annotations

import pickle

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger import MOST_SAID
from ptunnel.ledger.figures import ProxyFigures, ServiceFigures, TunnelFigures
from ptunnel.ledger.said import Said
from ptunnel.ledger.stopwatch import Stopwatch


def service(**figures: object) -> ServiceFigures:
    return ServiceFigures("1", 1, "running", 0.0, 1.0, **figures)  # type: ignore[arg-type]


def said(time: float) -> Said:
    return Said(time, "warning", "a", str(time))


class PlusTests(SynchronousTestCase):
    def test_theCountsOfATunnelAddUp(self) -> None:
        watch = Stopwatch()
        watch.add(0.5)
        one = TunnelFigures(
            "a",
            listen="127.0.0.1:1",
            sessions=2,
            connecting=1,
            accepted=5,
            refused=1,
            connected=3,
            left=1,
            failures={"x": 1, "y": 2},
            ends={"end": 1},
            bytesSent=10,
            bytesReceived=20,
            connectTimes=watch.durations(),
        )
        total = service(tunnels=[TunnelFigures("a", listen="127.0.0.1:1")]).plus(
            [service(tunnels=[one]), service(tunnels=[one])]
        )
        [found] = total.tunnels
        self.assertEqual(found.listen, "127.0.0.1:1")
        counts = found.sessions, found.connecting, found.accepted, found.refused
        self.assertEqual(counts, (4, 2, 10, 2))
        self.assertEqual((found.connected, found.left), (6, 2))
        self.assertEqual((found.failures, found.ends), ({"x": 2, "y": 4}, {"end": 2}))
        self.assertEqual((found.bytesSent, found.bytesReceived), (20, 40))
        self.assertEqual(found.connectTimes.count, 2)

    def test_aTunnelThatIsGoneIsNotCountedIn(self) -> None:
        total = service(tunnels=[TunnelFigures("a")]).plus([service(tunnels=[TunnelFigures("b")])])
        self.assertEqual([each.name for each in total.tunnels], ["a"])

    def test_aProxyIsIllIfOneProcessFindsItSo(self) -> None:
        well, ill = ProxyFigures("p", scheme="basic"), ProxyFigures("p", trouble="it is down")
        for pair in (well, ill), (ill, well):
            [found] = (
                service(proxies=[ProxyFigures("p")])
                .plus(service(proxies=[each]) for each in pair)
                .proxies
            )
            self.assertEqual((found.trouble, found.scheme), ("it is down", "basic"))

    def test_theLastErrorIsTheLatest(self) -> None:
        old = ProxyFigures("p", lastError="old", lastErrorTime=1.0)
        new = ProxyFigures("p", lastError="new", lastErrorTime=2.0)
        for pair in (old, new), (new, old):
            [found] = (
                service(proxies=[ProxyFigures("p")])
                .plus(service(proxies=[each]) for each in pair)
                .proxies
            )
            self.assertEqual((found.lastError, found.lastErrorTime), ("new", 2.0))

    def test_theLinesOfAllComeInTheirOrderAndTheOldestGo(self) -> None:
        ours = [said(time) for time in range(0, MOST_SAID, 2)]
        theirs = [said(time) for time in range(1, MOST_SAID + 20, 2)]
        found = service(said=ours).plus([service(said=theirs)]).said
        times = [line.time for line in found]
        self.assertEqual(times, sorted(times))
        self.assertEqual(len(times), MOST_SAID)
        self.assertEqual(times[-1], MOST_SAID + 19)

    def test_theDescriptorsAreThoseOfTheFullestProcess(self) -> None:
        total = service().plus(
            [service(descriptors=n, mostDescriptors=most) for n, most in ((9, 20), (3, 10))]
        )
        self.assertEqual((total.descriptors, total.mostDescriptors), (9, 20))

    def test_processesCanExchangeThem(self) -> None:
        figures = service(tunnels=[TunnelFigures("a", failures={"x": 1})], said=[said(1.0)])
        self.assertEqual(pickle.loads(pickle.dumps(figures)), figures)
