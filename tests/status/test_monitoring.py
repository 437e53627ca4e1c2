"""conf/prometheus and conf/grafana: promtool reads them, and each metric that they name exists."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.descriptors import SESSION, SPARE, Descriptors
from tests.integration.programs import required
from tests.status.test_metrics import LACKS, everything, samples
from tests.test_docs import ROOT, anchors, code, tables

ALERTS = ROOT / "conf" / "prometheus" / "alerts.yml"
ALERT_TESTS = Path(__file__).with_name("alerts.test.yml")
ADAPTER = ROOT / "conf" / "prometheus" / "adapter.yml"
DASHBOARD = ROOT / "conf" / "grafana" / "ptunnel.json"
UNIT = ROOT / "conf" / "ptunnel.service"
NO_YAML = None if importlib.util.find_spec("yaml") else "PyYAML is not installed"
# Those that a scrape adds, and that of a bucket.
ADDED = {"job", "instance", "le"}


def promtool(*words: str, cwd: str | None = None) -> None:
    done = subprocess.run(
        [required("promtool"), *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode or "FAILED" in done.stdout:
        raise AssertionError(done.stdout + done.stderr)


def load(path: Path) -> Any:
    import yaml  # type: ignore[import-untyped]

    return yaml.safe_load(path.read_text("utf-8"))


def names(expression: str) -> set[str]:
    return set(re.findall(r"\bptunnel_\w+", expression))


def labels(expression: str) -> set[str]:
    """Those that a query selects or groups by."""
    selected = re.findall(r"(\w+)=~?\"", expression)
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    return {*selected, *(label.strip() for group in grouped for label in group.split(","))}


class MonitoringTestCase(SynchronousTestCase):
    skip = LACKS or NO_YAML

    def setUp(self) -> None:
        self.labels: dict[str, set[str]] = {}
        for name, pairs in samples(everything()):
            self.labels.setdefault(name, set()).update(label for label, _ in pairs)

    def assertExists(self, expression: str) -> None:
        """Assert that each metric exists, and that each label is one of theirs."""
        self.assertLessEqual(names(expression), set(self.labels), expression)
        theirs = set[str]().union(*(self.labels[name] for name in names(expression)))
        self.assertLessEqual(labels(expression), theirs | ADDED, expression)


class AlertTests(MonitoringTestCase):
    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]

    def test_promtoolReadsThem(self) -> None:
        promtool("check", "rules", str(ALERTS))

    def test_eachFiresWhenItShouldAndNoSooner(self) -> None:
        import yaml

        content = load(ALERTS)
        for group in content["groups"]:
            for rule in group["rules"]:
                del rule["annotations"]["description"]  # which has no figures
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "alerts.yml").write_text(yaml.safe_dump(content), "utf-8")
        (folder / "test.yml").write_text(ALERT_TESTS.read_text("utf-8"), "utf-8")
        promtool("test", "rules", "test.yml", cwd=str(folder))

    def test_eachIsTestedFiringAndSilent(self) -> None:
        tried = [case for test in load(ALERT_TESTS)["tests"] for case in test["alert_rule_test"]]
        every = {rule["alert"] for rule in self.rules()}
        for isFiring in False, True:
            found = {case["alertname"] for case in tried if ("exp_alerts" in case) is isFiring}
            self.assertEqual(found, every)

    def test_whatTheyNameExists(self) -> None:
        for rule in self.rules():
            self.assertExists(rule["expr"])

    def test_eachHasADelayASeverityAndSaysWhatToDo(self) -> None:
        for rule in self.rules():
            self.assertRegex(rule["for"], r"^[1-9]\d*[mh]$")
            self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))
            self.assertGreater(len(rule["annotations"]["description"]), 80, rule["alert"])

    def test_thePagesAndSectionsThatTheyNameAreThere(self) -> None:
        text = " ".join(ALERTS.read_text("utf-8").replace("#", " ").split())
        for page, section in re.findall(r"\b(docs/\w+\.md)(?:, \"([^\"]+)\")?", text):
            self.assertTrue((ROOT / page).exists(), page)
            if section:
                self.assertIn(section.lower().replace(" ", "-"), anchors(ROOT / page))

    def test_theManualHasEach(self) -> None:
        page = ROOT / "docs" / "metrics.md"
        documented = [code(row[0]) for row in tables(page, "## What to alert on")]
        self.assertEqual(
            [name for names in documented for name in names], [r["alert"] for r in self.rules()]
        )


class AdapterTests(MonitoringTestCase):
    def test_whatItNamesExists(self) -> None:
        [rule] = load(ADAPTER)["rules"]
        self.assertLessEqual(names(rule["metricsQuery"]), set(self.labels))


class DashboardTests(MonitoringTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.dashboard = json.loads(DASHBOARD.read_text("utf-8"))

    def expressions(self) -> Iterator[str]:
        for panel in self.dashboard["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))

    def test_whatItNamesExists(self) -> None:
        self.assertGreater(len(list(self.expressions())), 20)
        for expression in self.expressions():
            self.assertExists(expression)
        for variable in self.dashboard["templating"]["list"][1:]:
            self.assertExists(variable["query"]["query"])

    def test_itShowsEachMetric(self) -> None:
        text = DASHBOARD.read_text("utf-8")
        shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names(text)}
        self.assertEqual(shown, {re.sub(r"_(bucket|count|sum)$", "", name) for name in self.labels})

    def test_promtoolReadsEachQuery(self) -> None:
        import yaml

        rules = [
            {"record": f"a:b{n}", "expr": expression.replace("$__rate_interval", "1m")}
            for n, expression in enumerate(self.expressions())
        ]
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}), "utf-8")
        promtool("check", "rules", str(path))

    def test_itAsksTheDataSourceThatIsChosen(self) -> None:
        first, *_ = self.dashboard["templating"]["list"]
        self.assertEqual((first["type"], first["name"]), ("datasource", "datasource"))
        for panel in self.dashboard["panels"]:
            for one in (panel, *panel.get("targets", ())):
                if panel["type"] != "row":
                    self.assertEqual(one["datasource"]["uid"], "${datasource}")

    def test_noTwoPanelsLieOnOneAnother(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in self.dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))


class ScalingPageTests(SynchronousTestCase):
    """docs/scaling.md: what follows from limits in the code and in the unit."""

    def test_theSessionsThatDescriptorsAllow(self) -> None:
        [limit] = re.findall(r"(?m)^LimitNOFILE=(\d+)$", UNIT.read_text("utf-8"))
        descriptors = Descriptors(int(limit))
        sessions = 0
        while descriptors.has(SESSION):
            descriptors.used += SESSION
            sessions += 1
        text = (ROOT / "docs" / "scaling.md").read_text("utf-8")
        self.assertIn(f"`LimitNOFILE={limit}`: {sessions:,} |", text)

    def test_theReserveIsTheOneOfTheCode(self) -> None:
        for path in ALERTS, DASHBOARD:
            found = set(re.findall(r"ptunnel_max_fds(?:{[^}]*})? - (\d+)", path.read_text("utf-8")))
            self.assertEqual(found, {str(SPARE)})
        for name in "scaling.md", "metrics.md":
            self.assertIn(f" {SPARE} ", (ROOT / "docs" / name).read_text("utf-8"))
