"""Doors of a running ptunnel: shown and drained at the status address, handed over, reloaded."""

from __future__ import annotations

import signal
import socket

from tests.integration.case import HOST, at, run
from tests.integration.programs import PATIENCE, Ptunnel, eventually
from tests.integration.test_handover import HandOverCase
from tests.integration.test_status import TOKEN, StatusCase
from tests.support.loopback import freePort

GREETING, CHOSEN = b"\5\1\0", b"\5\0"
FORBIDDEN = 2


def asked(port: int, target: int) -> tuple[socket.socket, int]:
    """Ask a door for a target on this machine. @return: the connection, and the reply's code."""
    client = socket.create_connection((HOST, port), PATIENCE)
    client.sendall(GREETING)
    head = client.recv(2)
    if head != CHOSEN:
        return client, -1
    client.sendall(b"\5\1\0\1" + socket.inet_aton(HOST) + target.to_bytes(2, "big"))
    reply = b""
    while len(reply) < 10 and (data := client.recv(10 - len(reply))):
        reply += data
    return client, reply[1]


class DoorStatusTests(StatusCase):
    def config(self, status: str | None = None) -> str:
        return (
            f"[ptunnel]\nworkers = {self.workers}\nstatus = {status or self.status}\n"
            f"status-token-file = {self.token}\n[door web]\nlisten = {HOST}:0\nvia = direct\n"
            f"targets = 127.0.0.0/8:{self.target.port}\n"
        )

    def test_itIsShownWithTheTargetsOfItsSessionsAndDrained(self) -> None:
        sessions = []
        for _ in range(6):
            client, code = asked(self.port, self.target.port)
            self.addCleanup(client.close)
            self.assertEqual(code, 0)
            sessions.append(client)
        target = at(self.target)

        def shown() -> bool:
            found = self.document(f"/api/v1/sessions?q={target}&tunnel=web")
            return [each["target"] for each in found["sessions"]] == [target] * 6

        eventually(shown, "all of them are listed with their target")
        self.assertEqual(self.document("/api/v1/sessions?q=elsewhere")["total"], 0)
        [door] = self.document()["tunnels"]
        self.assertEqual((door["name"], door["kind"], door["target"]), ("web", "door", None))
        self.assertEqual(door["protocols"], ["socks", "http"])
        said = run(*Ptunnel.COMMAND, "sessions", "--status", f"{HOST}:{self.statusPort}")
        self.assertEqual(said.stdout.decode().count(target), 6, said)

        token = {"Authorization": f"Bearer {TOKEN}"}
        self.assertEqual(self.ask("/api/v1/tunnels/web/drain", "POST", token)[0], 204)
        eventually(self.turnsAway, "no new client is served")
        sessions[0].sendall(b"ping")
        self.assertEqual(sessions[0].recv(4), b"ping")

    def turnsAway(self) -> bool:
        try:
            client, code = asked(self.port, self.target.port)
        except OSError:
            return True
        client.close()
        return code == -1


class WorkersDoorStatusTests(DoorStatusTests):
    workers = 2


class DoorHandOverTests(HandOverCase):
    def config(self, more: str = "", service: str = "") -> str:
        self.door = getattr(self, "door", None) or freePort()
        return super().config(more or self.doorSection(self.target.port), service)

    def doorSection(self, target: int) -> str:
        where = f"listen = {HOST}:{self.door}\ntargets = 127.0.0.0/8:{target}\n"
        return f"[door web]\n{where}via = direct\n"

    def carried(self) -> socket.socket:
        client, code = asked(self.door, self.target.port)
        self.addCleanup(client.close)
        self.assertEqual(code, 0)
        return client

    def test_itsPortIsHandedOverAndItsSessionsGoOn(self) -> None:
        before = self.carried()
        self.talk(before)
        following = self.next()
        self.assertIn("took over 2 ports", following.output())
        self.talk(self.carried())
        self.talk(before)
        before.close()

    def test_aReloadWithOtherTargetsLeavesItsSessions(self) -> None:
        before = self.carried()
        text = self.read(self.path)
        here, there = (f"127.0.0.0/8:{port}" for port in (self.target.port, 1))
        self.assertIn(here, text)
        self.rewrite(self.path, text.replace(here, there))
        self.old.process.send_signal(signal.SIGHUP)
        eventually(lambda: "reloaded: " in self.old.output(), "it has reloaded")
        eventually(self.isForbidden, "new clients have the new targets")
        self.talk(before)

    def isForbidden(self) -> bool:
        client, code = asked(self.door, self.target.port)
        client.close()
        return code == FORBIDDEN

    @staticmethod
    def read(path: str) -> str:
        with open(path) as file:
            return file.read()

    @staticmethod
    def rewrite(path: str, text: str) -> None:
        with open(path, "w") as file:
            file.write(text)


class WorkersDoorHandOverTests(DoorHandOverTests):
    workers = 2
