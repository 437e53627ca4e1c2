"""`ptunnel.status.metrics`: what Prometheus reads is what the figures say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger import BOUNDS
from ptunnel.ledger.figures import (
    ProxyFigures,
    ServiceFigures,
    TunnelFigures,
    WorkerFigures,
)
from ptunnel.ledger.stopwatch import Stopwatch
from tests.integration.programs import required
from tests.test_docs import ROOT, code, tables

if TYPE_CHECKING:
    from ptunnel.status.metrics import Exposition

LACKS = (
    None if importlib.util.find_spec("prometheus_client") else "prometheus-client is not installed"
)
PAGE = ROOT / "docs" / "metrics.md"
OPEN = "application/openmetrics-text; version=1.0.0"
# What Prometheus 2.42 and 3 send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def exposition(*tunnels: TunnelFigures, **figures: Any) -> Exposition:
    from ptunnel.status.metrics import Exposition

    given = {"version": "1.2", "pid": 1, "state": "running", "started": 1.75e9, "uptime": 1.0}
    return Exposition(lambda: ServiceFigures(**{**given, **figures}, tunnels=tunnels))


def everything() -> Exposition:
    """Of a service in which each metric has a value."""
    watch = Stopwatch()
    for seconds in 0.0005, BOUNDS[0], 0.3, 100.0:
        watch.add(seconds)
    return exposition(
        TunnelFigures(
            "imap",
            sessions=5,
            connecting=2,
            accepted=20,
            refused=3,
            connected=4,
            left=6,
            failures={"port-refused": 7, "unknown": 1},
            ends={"end": 9, "reset": 1},
            bytesSent=10**16,
            bytesReceived=12,
            connectTimes=watch.durations(),
        ),
        proxies=[
            ProxyFigures(
                "corp",
                trouble="it is ill",
                drained=True,
                rejection="wrong",
                failures={"no-answer": 8},
                connectTimes=watch.durations(),
            ),
            ProxyFigures("direct"),
        ],
        workers=[WorkerFigures(1, 2, True), WorkerFigures(2, None, False)],
        descriptors=50,
        mostDescriptors=1024,
    )


def samples(exposition: Exposition, accept: str | None = None) -> Samples:
    """Those that prometheus-client's parser for this format finds; each is there once."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families(exposition, accept):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def families(exposition: Exposition, accept: str | None = None) -> Iterable[Any]:
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as openParser

    kind, text = exposition.text(accept)
    parse = openParser if kind.startswith("application/openmetrics-text") else parser
    return parse.text_string_to_metric_families(text.decode())


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


class ValueTests(SynchronousTestCase):
    skip = LACKS

    def assertShown(self, expected: Mapping[Any, float], accept: str | None = None) -> None:
        found = samples(everything(), accept)
        self.assertEqual({one: found.get(one) for one in expected}, expected)

    def test_theServiceHasItsState(self) -> None:
        self.assertShown(
            {
                key("ptunnel_info", version="1.2"): 1,
                key("ptunnel_start_time_seconds"): 1.75e9,
                key("ptunnel_running"): 1,
                key("ptunnel_open_fds"): 50,
                key("ptunnel_max_fds"): 1024,
                key("ptunnel_workers"): 2,
                key("ptunnel_workers_ready"): 1,
            }
        )
        for state in "starting", "stopping":
            self.assertEqual(samples(exposition(state=state))[key("ptunnel_running")], 0)

    def test_aTunnelHasItsCounts(self) -> None:
        expected = {
            key("ptunnel_sessions", tunnel="imap"): 5,
            key("ptunnel_sessions_connecting", tunnel="imap"): 2,
            key("ptunnel_sessions_total", tunnel="imap"): 20,
            key("ptunnel_refused_total", tunnel="imap"): 3,
            key("ptunnel_left_total", tunnel="imap"): 6,
            key("ptunnel_failures_total", tunnel="imap", cause="port-refused"): 7,
            key("ptunnel_failures_total", tunnel="imap", cause="unknown"): 1,
            key("ptunnel_sessions_ended_total", tunnel="imap", cause="end"): 9,
            key("ptunnel_sessions_ended_total", tunnel="imap", cause="reset"): 1,
            key("ptunnel_bytes_total", tunnel="imap", direction="sent"): 1e16,
            key("ptunnel_bytes_total", tunnel="imap", direction="received"): 12,
            key("ptunnel_tunnel_drained", tunnel="imap"): 0,
        }
        for accept in None, OPEN:
            self.assertShown(expected, accept)
        drained = samples(exposition(TunnelFigures("t", drained=True)))
        self.assertEqual(drained[key("ptunnel_tunnel_drained", tunnel="t")], 1)

    def test_aProxyHasItsHealth(self) -> None:
        expected = {
            key("ptunnel_proxy_up", proxy="corp"): 0,
            key("ptunnel_proxy_up", proxy="direct"): 1,
            key("ptunnel_proxy_drained", proxy="corp"): 1,
            key("ptunnel_proxy_drained", proxy="direct"): 0,
            key("ptunnel_proxy_credentials_rejected", proxy="corp"): 1,
            key("ptunnel_proxy_credentials_rejected", proxy="direct"): 0,
            key("ptunnel_proxy_failures_total", proxy="corp", cause="no-answer"): 8,
            key("ptunnel_proxy_connect_seconds_count", proxy="corp"): 4,
            key("ptunnel_proxy_connect_seconds_count", proxy="direct"): 0,
        }
        for accept in None, OPEN:
            self.assertShown(expected, accept)

    def test_theBucketsOfAHistogramAddUp(self) -> None:
        name = "ptunnel_connect_seconds"
        expected: dict[Any, float] = {
            key(f"{name}_bucket", tunnel="imap", le=le): count
            for le, count in (
                ("0.001", 2),
                ("0.0025", 2),
                ("0.25", 2),
                ("0.5", 3),
                ("1.0", 3),
                ("30.0", 3),
                ("+Inf", 4),
            )
        }
        expected[key(f"{name}_count", tunnel="imap")] = 4
        expected[key(f"{name}_sum", tunnel="imap")] = 100.3015
        for accept in None, OPEN:
            self.assertShown(expected, accept)
        buckets = [one for one, _ in samples(everything()) if one == f"{name}_bucket"]
        self.assertEqual(len(buckets), len(BOUNDS) + 1)

    def test_bothFormatsSayTheSame(self) -> None:
        self.assertEqual(samples(everything()), samples(everything(), OPEN))

    def test_theFiguresAreReadForEachText(self) -> None:
        from ptunnel.status.metrics import Exposition

        sessions = iter((1, 2, 3))
        exposition = Exposition(
            lambda: ServiceFigures(
                "1", 1, "running", 0, 0, tunnels=[TunnelFigures("t", sessions=next(sessions))]
            )
        )
        for expected in 1, 2, 3:
            found = samples(exposition)
            self.assertEqual(found[key("ptunnel_sessions", tunnel="t")], expected)


class NameTests(SynchronousTestCase):
    skip = LACKS

    @given(st.lists(st.text(), unique=True), st.text())
    @example(['a"b', "a\\b", "a\nb", "a\\nb", 'a\\"b', "a\rb", "a,b", "}", "{", "# x"], "\\")
    @example(["\x85", "\u2028", "\x0b", "\x1c", " ", "=", '="'], '"')
    def test_eachComesBackAsItIs(self, names: list[str], proxy: str) -> None:
        tunnels = [TunnelFigures(name, accepted=n) for n, name in enumerate(names)]
        shown = exposition(*tunnels, proxies=[ProxyFigures(proxy)])
        for accept in None, OPEN:
            found = samples(shown, accept)
            for n, name in enumerate(names):
                self.assertEqual(found[key("ptunnel_sessions_total", tunnel=name)], n)
            self.assertEqual(found[key("ptunnel_proxy_up", proxy=proxy)], 1)

    def test_ofTwoOfOneNameOneIsShown(self) -> None:
        found = samples(exposition(TunnelFigures("a"), TunnelFigures("a", sessions=1)))
        self.assertEqual(found[key("ptunnel_sessions", tunnel="a")], 1)


class FormatTests(SynchronousTestCase):
    skip = LACKS

    def test_whoeverDoesNotNameOpenMetricsGetsTheOldFormat(self) -> None:
        for accept in (
            None,
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;version=10",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.00, text/plain",
            "application/openmetrics-textual",
            "x" * 5000,
            ",;=,;,=;",
        ):
            kind, text = everything().text(accept)
            self.assertEqual(kind, "text/plain; version=0.0.4; charset=utf-8", accept)
            self.assertNotIn(b"# EOF", text)

    def test_whoeverNamesItGetsOpenMetrics(self) -> None:
        for accept in (
            OPEN,
            PROMETHEUS_2,
            PROMETHEUS_3,
            "application/openmetrics-text",
            "text/plain, Application/OpenMetrics-Text ; q=0.5",
            'application/openmetrics-text; version="1.0.0"',
            "application/openmetrics-text; q=0.01",
        ):
            kind, text = everything().text(accept)
            self.assertRegex(kind, r"^application/openmetrics-text; version=\d", accept)
            self.assertTrue(text.endswith(b"\n# EOF\n"))

    @given(st.text())
    def test_noAcceptIsTooOdd(self, accept: str) -> None:
        self.assertTrue(everything().text(accept)[1])

    def test_noNameOfAFamilyStandsForTwo(self) -> None:
        for accept in None, OPEN:
            _, text = everything().text(accept)
            names = re.findall(rb"^# TYPE (\S+) ", text, re.MULTILINE)
            self.assertGreater(len(names), 20)
            self.assertEqual(len(names), len(set(names)))

    def test_promtoolFindsNothingToSay(self) -> None:
        _, text = everything().text(None)
        done = subprocess.run(
            [required("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))


class PageTests(SynchronousTestCase):
    """docs/metrics.md has each metric, with its type and its labels."""

    skip = LACKS

    def documented(self) -> dict[str, tuple[str, list[str]]]:
        rows = [
            row
            for heading in ("## The service", "## Tunnels", "## Proxies")
            for row in tables(PAGE, heading)
            if code(row[0])
        ]
        return {code(name)[0]: (kind, code(labels)) for name, kind, labels, *_ in rows}

    def test_itHasEachMetric(self) -> None:
        shown = {}
        for family in families(everything()):
            isCounter = family.type == "counter"
            name = f"{family.name}_total" if isCounter else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            shown[name] = family.type, sorted(labels - {"le"})
        documented = {
            name: (kind, sorted(labels)) for name, (kind, labels) in self.documented().items()
        }
        self.assertEqual(documented, shown)

    def test_itNamesNoOther(self) -> None:
        named = set(re.findall(r"\bptunnel_\w+", PAGE.read_text("utf-8")))
        self.assertLessEqual(named, namesOf(everything()) | set(self.documented()))


def namesOf(exposition: Exposition) -> set[str]:
    """Of all samples, as queries name them."""
    return {name for name, _ in samples(exposition)}
