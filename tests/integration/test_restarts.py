"""Restarts under 50 new clients a second: with the socket of systemd, and of replicas one after the
other behind HAProxy.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

from tests.integration.case import HOST, IntegrationTestCase, Peer, at, echo, splicedConfig
from tests.integration.programs import PATIENCE, Program, Ptunnel, eventually, freePort, required
from tests.integration.test_handover import Load

# What systemd does: its socket is descriptor 3 of the process whose number it names.
SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="test")
os.execv(sys.executable, [sys.executable, "-m", "ptunnel", *sys.argv[2:]])
"""


def configured(listen: str, target: Peer, *service: str) -> str:
    lines = "\n".join(("[ptunnel]", *service))
    where = f"listen = {listen}\ntarget = {at(target)}\nvia = direct\n"
    return splicedConfig(f"{lines}\n[tunnel test]\n{where}")


class Activated(Ptunnel):
    """ptunnel with a socket that stays open over its restarts."""

    def __init__(self, listening: socket.socket, *words: str) -> None:
        os.set_inheritable(listening.fileno(), True)
        self.inherits = (listening.fileno(),)
        command = sys.executable, "-c", SYSTEMD, str(listening.fileno())
        super().__init__(*words, command=command)


class SocketActivationTests(IntegrationTestCase):
    def test_overFiveRestartsNobodyIsRefusedOrLost(self) -> None:
        listening = socket.create_server((HOST, 0), backlog=4096)
        self.addCleanup(listening.close)
        port = listening.getsockname()[1]
        listen = "systemd:domain=INET:name=test"
        config = self.write(configured(listen, self.peer(echo), "drain-timeout = 0"))
        program = Activated(listening, "--config", config)
        self.addCleanup(program.stop)
        restarts = 5
        with Load(port) as load:
            for _ in range(restarts):
                client = self.dial(port)
                client.sendall(b"ping")
                self.assertEqual(client.recv(4), b"ping")
                program.process.terminate()
                eventually(lambda: "stopping: " in program.output(), "the stop has begun")
                client.sendall(b"more")
                self.assertEqual(client.recv(4), b"more")
                client.close()
                self.assertEqual(program.process.wait(PATIENCE), 0)
                program.start()
                served = load.served
                eventually(lambda count=served: load.served > count, "it serves")  # type: ignore[misc]
        self.assertEqual(load.failures, [])
        self.assertGreater(load.served, restarts)


class Balancer(Program):
    """HAProxy before replicas, of which it asks whether they are ready. It tries nothing twice."""

    def __init__(self, servers: Sequence[tuple[int, int]]) -> None:
        """@param servers: the port of each, and that of its status address."""
        self._servers = servers
        super().__init__()

    def arguments(self) -> list[str]:
        servers = "\n".join(
            f"server s{port} {HOST}:{port} check port {status}" for port, status in self._servers
        )
        self.stats = self.folder / "stats"
        config = f"""
global
    stats socket {self.stats}
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout check 30s
    retries 0
listen replicas
    bind {HOST}:{self.port}
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server inter 100ms fall 1 rise 1
    {servers}
"""
        return [required("haproxy"), "-db", "-f", self.write("haproxy.cfg", config)]

    def isUp(self, port: int) -> bool:
        """Whether it sends clients to a server."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.stats))
            client.sendall(b"show stat\n")
            with client.makefile() as lines:
                return any(
                    line.split(",")[1] == f"s{port}" and line.split(",")[17] == "UP"
                    for line in lines
                    if "," in line
                )


class RollingRestartTests(IntegrationTestCase):
    def test_ofThreeReplicasNoConnectionFails(self) -> None:
        target = self.peer(echo)
        ports = [(freePort(), freePort()) for _ in range(3)]
        replicas = [self.replica(port, status, target) for port, status in ports]
        balancer = Balancer(ports)
        self.addCleanup(balancer.stop)
        for port, _ in ports:
            eventually(lambda port=port: balancer.isUp(port), "it is ready")  # type: ignore[misc]
        with Load(balancer.port) as load:
            for (port, _), replica in zip(ports, replicas, strict=True):
                client = self.dial(port)
                client.sendall(b"ping")
                self.assertEqual(client.recv(4), b"ping")
                replica.process.terminate()
                eventually(lambda port=port: not balancer.isUp(port), "it is known to stop")  # type: ignore[misc]
                eventually(lambda one=replica: "waiting for" in one.output(), "it is closed")  # type: ignore[misc]
                client.sendall(b"more")
                self.assertEqual(client.recv(4), b"more")
                client.close()
                self.assertEqual(replica.process.wait(PATIENCE), 0)
                replica.start()
                eventually(lambda port=port: balancer.isUp(port), "it is ready again")  # type: ignore[misc]
        self.assertEqual(load.failures, [])
        self.assertGreater(load.served, 100)

    def replica(self, port: int, status: int, target: Peer) -> Ptunnel:
        service = f"status = {HOST}:{status}", "drain-delay = 5s", "drain-timeout = 0"
        program = Ptunnel("--config", self.write(configured(f"{HOST}:{port}", target, *service)))
        self.addCleanup(program.stop)
        return program
