"""/metrics of a running service, as promtool and Prometheus read it."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.integration.case import HOST, IntegrationTestCase, RecordingProxy, at, echo
from tests.integration.programs import PATIENCE, Program, Ptunnel, eventually, freePort, required

LACKS = (
    None if importlib.util.find_spec("prometheus_client") else "prometheus-client is not installed"
)
OPEN = "application/openmetrics-text; version=1.0.0"
# An odd name, as a config file may have it.
NAME = 'odd "one" \\'
ALERTS = Path(__file__).resolve().parents[2] / "conf" / "prometheus" / "alerts.yml"


def get(port: int, path: str, host: str = HOST, **headers: str) -> bytes:
    """What a server answers, which must be 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)
    with opener.open(request, timeout=PATIENCE) as answer:
        return answer.read()


class Prometheus(Program):
    """Prometheus, which scrapes ptunnel every second and has its alert rules."""

    def __init__(self, target: int) -> None:
        """@param target: the port of a status address."""
        self._target = target
        super().__init__()

    def arguments(self) -> list[str]:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [self.write("alerts.yml", ALERTS.read_text("utf-8"))],
            "scrape_configs": [
                {
                    "job_name": "ptunnel",
                    "static_configs": [{"targets": [f"{HOST}:{self._target}"]}],
                }
            ],
        }
        return [
            required("prometheus"),
            f"--config.file={self.write('prometheus.yml', json.dumps(config))}",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={HOST}:{self.port}",
        ]

    def isReady(self) -> bool:
        """Whether it serves queries: it listens before it has read its database."""
        try:
            return bool(get(self.port, "/-/ready"))
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def values(self, query: str) -> list[float]:
        answer = json.loads(
            get(self.port, f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        )
        return [float(each["value"][1]) for each in answer["data"]["result"]]

    def targets(self) -> list[dict[str, Any]]:
        return json.loads(get(self.port, "/api/v1/targets"))["data"]["activeTargets"]

    def rules(self) -> list[dict[str, Any]]:
        groups = json.loads(get(self.port, "/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


class MetricsTestCase(IntegrationTestCase):
    skip = LACKS

    def start(self, workers: int) -> Ptunnel:
        """ptunnel with a tunnel by a proxy, and one whose target does not listen."""
        self.status = freePort()
        proxy = RecordingProxy()
        self.addCleanup(proxy.stop)
        config = f"""
            [ptunnel]
            workers = {workers}
            status = {HOST}:{self.status}
            [proxy corp]
            url = http://{at(proxy)}
            [tunnel {NAME}]
            listen = {HOST}:0
            target = {at(self.peer(echo))}
            via = corp
            [tunnel dead]
            listen = {HOST}:{freePort()}
            target = {HOST}:{freePort()}
            via = direct
        """
        tunnel = self.ptunnel("--config", self.write(config.replace("            ", "")))
        eventually(lambda: b"ready" in get(self.status, "/readyz"), "it is ready")
        return tunnel

    def value(self, name: str, accept: str = "", **labels: str) -> float | None:
        """Of one sample, which is there once or not at all."""
        from prometheus_client import parser
        from prometheus_client.openmetrics import parser as openParser

        text = get(self.status, "/metrics", Accept=accept).decode()
        parse = openParser if accept else parser
        found = [
            sample.value
            for family in parse.text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None

    def assertBecomes(self, expected: float, name: str, **labels: str) -> None:
        for accept in "", OPEN:
            eventually(
                lambda accept=accept: self.value(name, accept, **labels) == expected,
                f"{name} {labels} is {expected}, and not {self.value(name, **labels)}",
            )

    def echoing(self, port: int) -> socket.socket:
        """A session that has carried 4 bytes there and back."""
        client = self.dial(port)
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")
        return client


class ScrapeTests(MetricsTestCase):
    def assertCounts(self, workers: int) -> None:
        tunnel = self.start(workers)
        clients = [self.echoing(tunnel.port) for _ in range(5)]
        self.assertBecomes(5, "ptunnel_sessions", tunnel=NAME)
        self.assertBecomes(5, "ptunnel_sessions_total", tunnel=NAME)
        self.assertBecomes(0, "ptunnel_sessions_connecting", tunnel=NAME)
        self.assertBecomes(5, "ptunnel_connect_seconds_count", tunnel=NAME)
        self.assertBecomes(5, "ptunnel_connect_seconds_bucket", tunnel=NAME, le="+Inf")
        self.assertBecomes(5, "ptunnel_proxy_connect_seconds_count", proxy="corp")
        for direction in "sent", "received":
            self.assertBecomes(20, "ptunnel_bytes_total", tunnel=NAME, direction=direction)
        for client in clients[:2]:
            client.close()
        self.assertBecomes(2, "ptunnel_sessions_ended_total", tunnel=NAME, cause="end")
        self.assertBecomes(3, "ptunnel_sessions", tunnel=NAME)
        self.assertBecomes(5, "ptunnel_sessions_total", tunnel=NAME)
        for direction in "sent", "received":
            self.assertBecomes(20, "ptunnel_bytes_total", tunnel=NAME, direction=direction)

    def test_itSaysWhatOneProcessDoes(self) -> None:
        self.assertCounts(1)
        self.assertBecomes(0, "ptunnel_workers")

    def test_itSaysWhatAllWorkersDoTogether(self) -> None:
        self.assertCounts(2)
        self.assertBecomes(2, "ptunnel_workers")
        self.assertBecomes(2, "ptunnel_workers_ready")

    def test_aFailureHasItsCause(self) -> None:
        self.start(1)
        dead = json.loads(get(self.status, "/api/v1/"))["tunnels"][1]["listen"]
        self.assertTurnedAway(int(dead.rpartition(":")[2]))
        cause = {"cause": "connection-refused"}
        self.assertBecomes(1, "ptunnel_failures_total", tunnel="dead", **cause)
        self.assertBecomes(1, "ptunnel_proxy_failures_total", proxy="direct", **cause)
        self.assertBecomes(1, "ptunnel_sessions_total", tunnel="dead")
        self.assertBecomes(0, "ptunnel_connect_seconds_count", tunnel="dead")

    def test_theApiHasTheSameNumbers(self) -> None:
        tunnel = self.start(1)
        self.echoing(tunnel.port)
        eventually(lambda: self.value("ptunnel_sessions", tunnel=NAME) == 1, "a session")
        whole = json.loads(get(self.status, "/api/v1/"))
        [one] = [each for each in whole["tunnels"] if each["name"] == NAME]
        self.assertEqual(one["sessions"], self.value("ptunnel_sessions", tunnel=NAME))
        self.assertEqual(one["bytes_sent"], 4)
        self.assertBecomes(4, "ptunnel_bytes_total", tunnel=NAME, direction="sent")
        self.assertBecomes(whole["descriptors"]["limit"], "ptunnel_max_fds")
        self.assertBecomes(1, "ptunnel_info", version=whole["version"])

    def test_promtoolFindsNothingToSay(self) -> None:
        tunnel = self.start(1)
        self.echoing(tunnel.port)
        done = subprocess.run(
            [required("promtool"), "check", "metrics"],
            input=get(self.status, "/metrics"),
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))


class ProbeTests(MetricsTestCase):
    """What the kubelet sends: its Host is the address of the pod."""

    def test_aProbeByTheAddressOfThePodIsServedAndByAnotherNameNot(self) -> None:
        port = freePort()
        words = "--status", f"0.0.0.0:{port}", "-d", f"0:{at(self.peer(echo))}"
        self.ptunnel(*words)
        for path, said in ("/healthz", b"ok\n"), ("/readyz", b"ready\n"):
            self.assertEqual(get(port, path, pod := "127.0.0.3", Host=f"{pod}:{port}"), said)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            get(port, "/healthz", "127.0.0.3", Host=f"ptunnel.default.svc:{port}")
        caught.exception.close()
        self.assertEqual(caught.exception.code, 421)


class PrometheusTests(MetricsTestCase):
    def test_itScrapesAndItsRulesCanBeEvaluated(self) -> None:
        tunnel = self.start(1)
        self.echoing(tunnel.port)
        prometheus = Prometheus(self.status)
        self.addCleanup(prometheus.stop)
        name = json.dumps(NAME)
        eventually(prometheus.isReady, "a Prometheus that serves")
        eventually(
            lambda: prometheus.values(f"ptunnel_sessions{{tunnel={name}}}") == [1], "a scrape"
        )
        for query, expected in (
            ("up", [1]),
            ("ptunnel_running", [1]),
            (f"ptunnel_sessions_total{{tunnel={name}}}", [1]),
            (f"sum by (direction) (ptunnel_bytes_total{{tunnel={name}}})", [4, 4]),
            (f"ptunnel_connect_seconds_count{{tunnel={name}}}", [1]),
        ):
            self.assertEqual(prometheus.values(query), expected, query)
        eventually(
            lambda: {(r["health"], r["state"]) for r in prometheus.rules()} == {("ok", "inactive")},
            "each rule is evaluated, and none has a reason to fire",
        )
        [target] = prometheus.targets()
        self.assertEqual((target["health"], target["lastError"]), ("up", ""))
