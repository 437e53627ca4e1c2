"""Three proxies that share the connections, one of which dies and comes back."""

from __future__ import annotations

import json
import socket
from collections import Counter

from tests.integration.case import IntegrationTestCase, at, echo
from tests.integration.programs import HOST, PATIENCE, Ptunnel, Tinyproxy, eventually

NAMES = "one", "two", "three"


class BalanceTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxies = {name: self.tinyproxy() for name in NAMES}

    def tinyproxy(self) -> Tinyproxy:
        tinyproxy = Tinyproxy()
        self.addCleanup(tinyproxy.stop)
        return tinyproxy

    def sections(self) -> str:
        pairs = self.proxies.items()
        return "".join(f"[proxy {name}]\nurl = http://{at(proxy)}\n" for name, proxy in pairs)

    def begin(self, policy: str) -> Ptunnel:
        via = f"{', '.join(NAMES)}\nbalance = {policy}"
        words = "-v", "--log-format", "json"
        return self.configured(self.sections(), self.peer(echo), *words, via=via)

    def open(self, tunnel: Ptunnel, client: str = HOST) -> socket.socket:
        """A session that stands."""
        skt = socket.create_connection((HOST, tunnel.port), PATIENCE, source_address=(client, 0))
        self.addCleanup(skt.close)
        skt.sendall(b"ping")
        self.assertEqual(skt.recv(100), b"ping")
        return skt

    def ways(self, tunnel: Ptunnel, count: int) -> list[tuple[str, str]]:
        """The client and the way of each session that has ended, once these are so many."""

        def ended() -> list[tuple[str, str]]:
            lines = tunnel.output().splitlines(keepends=True)
            rows = [json.loads(line) for line in lines if line.endswith("\n")]
            rows = [row for row in rows if row.get("session") is not None]
            return [(row["client"].partition(":")[0], row["way"]) for row in rows]

        eventually(lambda: len(ended()) >= count, f"{count} have ended")
        return ended()

    def close(self, *clients: socket.socket) -> None:
        for client in clients:
            client.close()

    def test_whatIsOpenIsSharedAndOneThatDiesLeavesItsShareToTheOthers(self) -> None:
        tunnel = self.begin("least")
        first = [self.open(tunnel) for _ in range(6)]
        self.proxies["two"].kill()
        self.close(*first[:1])
        third = [self.open(tunnel) for _ in range(3)]
        self.close(*first[1:], *third)
        count = Counter(way for _, way in self.ways(tunnel, 9))
        self.assertEqual(count["two"], 2)
        self.assertEqual(sorted(count.values()), [2, 3, 4])
        self.proxies["two"].start()
        opened = 9

        def isUsed() -> bool:
            nonlocal opened
            self.close(*[self.open(tunnel) for _ in range(3)])
            opened += 3
            return ("127.0.0.1", "two") in self.ways(tunnel, opened)[9:]

        eventually(isUsed, "the second is used again")
        self.assertEqual(tunnel.end(), 0)

    def test_eachHasItsTurn(self) -> None:
        tunnel = self.begin("round-robin")
        for sessions in range(1, 7):
            self.close(self.open(tunnel))
            self.ways(tunnel, sessions)
        self.assertEqual([way for _, way in self.ways(tunnel, 6)], 2 * list(NAMES))

    def test_theTargetsOfADoorShareThem(self) -> None:
        door = f"[door d]\nlisten = {HOST}:0\ntargets = {HOST}:*\nbalance = least\n"
        words = "-v", "--log-format", "json"
        tunnel = self.ptunnel("--config", self.write(self.sections() + door), *words)
        clients = [self.dial(tunnel.port) for _ in range(9)]
        for client in clients:
            target = socket.inet_aton(HOST) + self.peer(echo).port.to_bytes(2, "big")
            client.sendall(b"\5\1\0")
            self.assertEqual(client.recv(2), b"\5\0")
            client.sendall(b"\5\1\0\1" + target)
            self.assertEqual(client.recv(100)[:2], b"\5\0")
        self.close(*clients)
        count = Counter(way for _, way in self.ways(tunnel, 9))
        self.assertEqual(count, Counter(3 * NAMES))

    def test_aClientKeepsItsProxyAndOneThatDiesMovesItsOwnOnly(self) -> None:
        tunnel = self.begin("hash")
        clients = [f"127.0.0.{number}" for number in range(1, 13)]
        for client in 2 * clients:
            self.close(self.open(tunnel, client))
        before = dict(self.ways(tunnel, 24))
        self.assertEqual(set(before.items()), set(self.ways(tunnel, 24)))
        self.assertEqual(set(before.values()), set(NAMES))
        tunnel.end()

        lost = before[clients[0]]
        self.proxies[lost].kill()
        again = self.begin("hash")
        for client in clients:
            self.close(self.open(again, client))
        after = dict(self.ways(again, 12))
        for client in clients:
            if before[client] == lost:
                self.assertNotEqual(after[client], lost)
            else:
                self.assertEqual(after[client], before[client])
