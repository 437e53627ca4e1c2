"""conf/Containerfile and conf/kubernetes: what they name is there, and ptunnel understands it."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings, parseDuration
from ptunnel.tap import Options

ROOT = Path(__file__).resolve().parents[1]
CONTAINERFILE = ROOT / "conf" / "Containerfile"
DEPLOYMENT = ROOT / "conf" / "kubernetes" / "deployment.yaml"
AUTOSCALING = ROOT / "conf" / "kubernetes" / "autoscaling.yaml"
ADAPTER = ROOT / "conf" / "prometheus" / "adapter.yml"
MANIFESTS = sorted((ROOT / "conf" / "kubernetes").glob("*.yaml"))
# The oldest that a manifest names, and one of the newest.
VERSIONS = "1.29", "1.34"
CONFIG = "/etc/ptunnel/tunnels.ini"


class ContainerfileTests(SynchronousTestCase):
    def lines(self, word: str) -> list[str]:
        return re.findall(rf"(?m)^{word} (.*)$", CONTAINERFILE.read_text("utf-8"))

    def test_whatItCopiesIsThere(self) -> None:
        for line in self.lines("COPY"):
            if not line.startswith("--from"):
                *sources, _ = line.split()
                for source in sources:
                    self.assertTrue((ROOT / source).exists(), source)

    def test_itCopiesAllThatTheBuildReads(self) -> None:
        copied = " ".join(self.lines("COPY")).split()
        for name in "pyproject.toml", "README.md", "src", "docs/man":
            self.assertIn(name, copied)

    def test_itHasWhatTheStatusAddressNeeds(self) -> None:
        self.assertRegex(CONTAINERFILE.read_text("utf-8"), r"/src\[(\w+,)*metrics(,\w+)*\]")

    def test_itRunsWithoutPrivilegesAndKnowsItsConfig(self) -> None:
        self.assertEqual(self.lines("USER"), ["65532:65532"])
        self.assertEqual(self.lines("ENV"), [f"PTUNNEL_CONFIG={CONFIG}"])


class ManifestTests(SynchronousTestCase):
    if importlib.util.find_spec("kubernetes_validate") is None:
        skip = "kubernetes-validate is not installed"

    def documents(self, path: Path) -> list[dict[str, Any]]:
        import yaml  # type: ignore[import-untyped]

        return list(yaml.safe_load_all(path.read_text("utf-8")))

    def containers(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]]:
        """Each container of ours, its pod, and the documents beside it."""
        self.assertGreater(len(MANIFESTS), 1)
        for path in MANIFESTS:
            documents = self.documents(path)
            for document in documents:
                if document["kind"] == "Deployment":
                    pod = document["spec"]["template"]["spec"]
                    for container in pod.get("initContainers", []) + pod["containers"]:
                        if container["name"] == "ptunnel":
                            yield container, pod, documents

    def settings(self, container: dict[str, Any], documents: list[dict[str, Any]]) -> Settings:
        """What ptunnel makes of a container's arguments and variables."""
        [environ] = [d["stringData"] for d in documents if d["kind"] == "Secret"]
        environ = environ | {each["name"]: each["value"] for each in container.get("env", [])}
        for document in documents:
            if document["kind"] == "ConfigMap":
                path = Path(self.mktemp())
                path.write_text(document["data"][os.path.basename(CONFIG)], "utf-8")
                environ["PTUNNEL_CONFIG"] = str(path)
        command, *words = container["args"]
        self.assertEqual(command, "run")
        self.patch(os, "environ", environ)
        options = Options()
        options.parseOptions([re.sub(r"\$\((\w+)\)", lambda m: environ[m[1]], w) for w in words])
        return options.settings

    def test_theirSchemasHaveEveryKey(self) -> None:
        from kubernetes_validate import validate  # type: ignore[import-untyped]

        for path in MANIFESTS:
            for document in self.documents(path):
                # the kinds of Prometheus' operator are none of Kubernetes' own
                for version in VERSIONS if document["kind"] != "PodMonitor" else ():
                    self.assertEqual(validate(document, version, strict=True), version)

    def test_ptunnelUnderstandsItsArgumentsAndConfigWithoutAWarning(self) -> None:
        for container, _, documents in self.containers():
            settings = self.settings(container, documents)
            self.assertEqual(settings.warnings, ())
            self.assertEqual(settings.logFormat, "json")
            [proxy] = settings.proxies.values()
            self.assertEqual(proxy.username, "alice")

    def test_theyHaveTimeToEnd(self) -> None:
        for container, pod, documents in self.containers():
            preStop = container.get("lifecycle", {}).get("preStop", {"exec": {"command": ["0"]}})
            drain = self.settings(container, documents).drainTimeout or 0
            seconds = (parseDuration(preStop["exec"]["command"][-1]) or 0) + drain
            self.assertGreater(pod["terminationGracePeriodSeconds"], seconds + 5)

    def test_theProbesAskTheStatusAddress(self) -> None:
        for container, _, documents in self.containers():
            status = self.settings(container, documents).status
            self.assertEqual(status.host, "0.0.0.0")
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            paths = []
            for name in "startupProbe", "readinessProbe", "livenessProbe":
                asked = container[name]["httpGet"]
                self.assertEqual(ports[asked["port"]], status.port)
                paths.append(asked["path"])
            self.assertEqual(paths, ["/readyz", "/readyz", "/healthz"])

    def test_theyRunWithoutPrivileges(self) -> None:
        for container, pod, _ in self.containers():
            context = pod.get("securityContext", {}) | container["securityContext"]
            self.assertEqual(
                context,
                {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            )

    def test_theServiceLeadsToThePortOfTheTunnel(self) -> None:
        [container, _, documents] = next(self.containers())
        [service] = [d["spec"] for d in documents if d["kind"] == "Service"]
        [deployment] = [d["spec"] for d in documents if d["kind"] == "Deployment"]
        labels = deployment["template"]["metadata"]["labels"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        [tunnel] = self.settings(container, documents).tunnels
        self.assertEqual(service["selector"], labels)
        self.assertEqual(
            [ports[port["targetPort"]] for port in service["ports"]], [tunnel.listen.port]
        )

    def test_thereAreMoreReplicasByTheirSessions(self) -> None:
        import yaml

        monitor, scaler = self.documents(AUTOSCALING)
        [container, *_] = next(self.containers())
        scraped = {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]}
        self.assertLessEqual(scraped, {port["name"] for port in container["ports"]})
        [deployment] = [d for d in self.documents(DEPLOYMENT) if d["kind"] == "Deployment"]
        self.assertEqual(
            monitor["spec"]["selector"]["matchLabels"],
            deployment["spec"]["template"]["metadata"]["labels"],
        )
        target = scaler["spec"]["scaleTargetRef"]
        self.assertEqual(
            (target["apiVersion"], target["kind"], target["name"]),
            (deployment["apiVersion"], deployment["kind"], deployment["metadata"]["name"]),
        )
        [metric] = [each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"]]
        [rule] = yaml.safe_load(ADAPTER.read_text("utf-8"))["rules"]
        self.assertEqual(rule["name"]["as"], metric)
        self.assertEqual(re.findall(r"ptunnel_\w+", rule["metricsQuery"]), [metric])
        self.assertTrue(rule["seriesQuery"].startswith(f"{metric}{{"))
        self.assertGreaterEqual(scaler["spec"]["minReplicas"], deployment["spec"]["replicas"])
