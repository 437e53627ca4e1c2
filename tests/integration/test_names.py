"""A name whose look-up hangs: others go on, and a stop does not wait for it."""

from __future__ import annotations

import sys

from tests.integration.case import IntegrationTestCase, RecordingProxy, at, echo, run
from tests.integration.programs import HOST, Ptunnel, eventually

# The system's resolver hangs for one name, far longer than a test may take.
_PROGRAM = """
import socket, sys, time
from ptunnel.cli import main
real = socket.getaddrinfo
def getaddrinfo(host, *arguments, **named):
    if host == "slow.test":
        print("hangs", flush=True)
        time.sleep(1000)
    return real(host, *arguments, **named)
socket.getaddrinfo = getaddrinfo
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", _PROGRAM]


class HangingTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = RecordingProxy()
        self.addCleanup(self.proxy.stop)
        self.target = self.peer(echo)

    def service(self, hanging: str, proxies: str = "") -> tuple[Ptunnel, int]:
        """ptunnel with two tunnels. @return: with the port of the one that hangs."""
        config = f"""
[ptunnel]
drain-timeout = 1s
[proxy fast]
url = http://localhost:{self.proxy.port}
{proxies}
[tunnel other]
listen = {HOST}:0
target = {at(self.target)}
via = fast
[tunnel hanging]
listen = {HOST}:0
{hanging}
"""
        tunnel = self.ptunnel("--config", self.write(config), command=COMMAND)
        eventually(lambda: "hanging: listening" in tunnel.output(), "both tunnels listen")
        line = next(line for line in tunnel.output().splitlines() if "hanging: listening" in line)
        return tunnel, int(line.partition(f"{HOST}:")[2].partition(",")[0])

    def assertOthersGoOn(self, tunnel: Ptunnel, port: int) -> None:
        for _ in range(30):
            self.dial(port)
        eventually(lambda: "hangs" in tunnel.output(), "a look-up hangs")
        for _ in range(3):
            self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.output().count("hangs"), 1)
        self.assertEqual(tunnel.end(), 0)

    def test_aProxysNameHoldsUpNoOtherTunnelAndNoStop(self) -> None:
        slow = f"[proxy slow]\nurl = http://slow.test:{self.proxy.port}\n"
        self.assertOthersGoOn(*self.service(f"target = {at(self.target)}\nvia = slow", slow))

    def test_theSameForATargetThatIsReachedWithoutAProxy(self) -> None:
        self.assertOthersGoOn(*self.service("target = slow.test:1\nvia = direct"))

    def test_connectAndCheckEndByTheirDeadlinesWithTheirOwnCodes(self) -> None:
        config = self.write("[ptunnel]\nconnect-timeout = 500ms\n[proxy s]\nurl = slow.test:1\n")
        for words in (
            ["connect", "-c", config, "t.test:1"],
            ["check", "--deadline", "500ms", "-c", config, "0:t.test:1"],
            ["check", "--deadline", "500ms", "-d", "0:slow.test:1"],
        ):
            done = run(*COMMAND, *words)
            self.assertEqual(done.returncode, 1, done)
            self.assertIn(b"slow.test:1: timed out", done.stdout + done.stderr)
