"""What this machine runs out of: it is said, blamed on nobody, and changes no way."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from tests.integration.case import IntegrationTestCase, Peer, RecordingProxy, at, echo, headOf
from tests.integration.programs import HOST, NO_PROXY_SETTINGS, PATIENCE, Ptunnel, eventually

CLIENTS = 30
RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


def leave(tunnel: Ptunnel, free: int) -> None:
    """Let a process have so many descriptors more than it has now."""
    pid = tunnel.process.pid
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    limit = 0
    while free > 0:
        free -= limit not in taken
        limit += 1
    while limit in taken:
        limit += 1
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, most))


class DescriptorTests(IntegrationTestCase):
    splice = "yes"

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, "PTUNNEL_TEST_KERNEL_SPLICE": self.splice})
        self.proxy = RecordingProxy()
        self.addCleanup(self.proxy.stop)
        self.target = self.peer(echo)

    def assertNoWayIsChanged(self, proxy: str) -> None:
        ways = f"[proxy corp]\nurl = http://{proxy}"
        tunnel = self.configured(ways, self.target, via="corp, direct")
        with self.dial(tunnel.port) as client:
            client.sendall(b"ping")
            self.assertEqual(client.recv(100), b"ping")
            held = _held(tunnel)
        eventually(lambda: _held(tunnel) == held - 2, "the session ends")
        leave(tunnel, 1)
        with contextlib.suppress(ConnectionError), self.dial(tunnel.port) as client:
            client.sendall(b"secret")
            self.assertEqual(client.recv(100), b"")
        eventually(lambda: "gets no tunnel" in tunnel.output(), "the line")
        leave(tunnel, 100)
        for _ in range(3):
            self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.end(), 0)
        [line] = tunnel.lines()
        self.assertIn("this machine cannot connect to the proxy", line)
        self.assertIn("too many open files", line)
        self.assertIn("ulimit -n", line)
        self.assertEqual(self.target.connections, len(self.proxy.requests))

    def test_withoutDescriptorsNoWayIsChanged(self) -> None:
        self.assertNoWayIsChanged(at(self.proxy))

    def test_theSameForAProxyThatHasAName(self) -> None:
        self.assertNoWayIsChanged(f"localhost:{self.proxy.port}")


class BufferTests(DescriptorTests):
    splice = "no"


class BudgetTests(IntegrationTestCase):
    def test_allTunnelsShareOneBudgetAndEachSaysOnceThatItIsUsedUp(self) -> None:
        proxy = RecordingProxy()
        self.addCleanup(proxy.stop)
        target = self.peer(echo)
        tunnel = self.ptunnel(
            *("-p", at(proxy), f"0:{at(target)}", f"0:{at(target)}"),
            command=["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *Ptunnel.COMMAND],
        )
        eventually(lambda: tunnel.output().count("listening on") == 2, "both tunnels listen")
        ports = [int(port) for port in re.findall(r"127.0.0.1:(\d+), to", tunnel.output())]
        served = []
        for number in range(40):
            client = self.dial(ports[number % 2])
            with contextlib.suppress(ConnectionError):
                client.sendall(b"ping")
                if client.recv(100) == b"ping":
                    served.append(client)
        self.assertEqual(len(served), (64 * 3 // 4 - 2) // 2)  # a quarter is reserved
        for client in served:
            client.close()
        eventually(lambda: _held(tunnel) < 20, "the sessions end")
        for port in ports:
            self.assertEchoes(port)
        self.assertEqual(tunnel.end(), 0)
        lines = tunnel.lines()
        self.assertEqual(len(lines), 2, lines)
        for line in lines:
            self.assertIn("64, are in use or reserved", line)
            self.assertIn("RLIMIT_NOFILE", line)


def _held(tunnel: Ptunnel) -> int:
    """How many descriptors it has."""
    return len(os.listdir(f"/proc/{tunnel.process.pid}/fd"))


class PortTests(IntegrationTestCase):
    def test_withoutLocalPortsNoWayIsChanged(self) -> None:
        if shutil.which("unshare") is None or shutil.which("ip") is None:
            raise SkipTest("it needs unshare and ip")
        here = ["unshare", "-rn", "true"]
        if subprocess.run(here, capture_output=True, check=False).returncode:
            raise SkipTest("it needs a network of its own, which is not allowed here")
        inside = subprocess.run(
            [*here[:2], sys.executable, "-m", "tests.integration.test_shortages"],
            env=NO_PROXY_SETTINGS,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        said = inside.stdout + inside.stderr
        self.assertEqual(inside.returncode, 0, said)
        got, *lines = inside.stdout.splitlines()
        served, straight = map(int, got.split())
        self.assertGreater(served, 0, said)
        self.assertEqual(straight, 0, said)
        turnedAway = [line for line in lines if "gets no tunnel" in line]
        self.assertEqual(len(turnedAway), CLIENTS - served, said)
        self.assertIn("this machine cannot connect to the proxy", turnedAway[0])
        self.assertIn("ip_local_port_range", turnedAway[0])
        self.assertNotIn("passed over", said)


def _proxy(client: socket.socket) -> None:
    """A proxy that is the target itself, which waits for its client to go."""
    headOf(client)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\nP")
    client.recv(1)


def _target(client: socket.socket) -> None:
    client.sendall(b"D")


def _inside() -> None:
    """In a network of its own: print how many clients were served by the proxy and how many
    directly, and what ptunnel has logged.
    """
    subprocess.check_call(["ip", "link", "set", "lo", "up"])
    Path(RANGE).write_text("40000 40020")
    proxy, target = Peer(_proxy), Peer(_target)
    tunnel = Ptunnel("-d", "-p", at(proxy), f"{HOST}:30000:{at(target)}")
    answers = []
    clients = []
    for number in range(CLIENTS):
        client = socket.socket()
        client.settimeout(PATIENCE)
        client.bind((f"127.0.0.{10 + number}", 0))
        client.connect((HOST, tunnel.port))
        clients.append(client)
        with contextlib.suppress(ConnectionError):
            answers.append(client.recv(1))
    served = [answers.count(word) for word in (b"P", b"D")]
    left = CLIENTS - sum(served)
    eventually(lambda: tunnel.output().count("gets no tunnel") >= left, "a line for each")
    print(*served)
    print(tunnel.output())
    tunnel.stop()


if __name__ == "__main__":
    _inside()
