"""Doors in a running service: how they are shown, drained, and changed by a reload."""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed

from ptunnel.config import DIRECT, Door, PasswordCommand, TargetPattern, TcpListen
from ptunnel.errors import ConfigError
from ptunnel.ledger.figures import Query, SessionFigures
from ptunnel.route import passwords
from ptunnel.service.changes import Changes
from tests.service.test_serving import CORP, OK, ReloadCase, tunnel
from tests.support.loopback import lines

GREETING, CHOSEN = b"\5\1\0", b"\5\0"
ASK = b"\5\1\0\1\xc0\0\2\7\0\x50"  # for 192.0.2.7:80
GRANTED, FORBIDDEN = (bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]) for code in (0, 2))
WEB = (TargetPattern("*", (80, 80)),)
MAIL = (TargetPattern("*", (993, 993)),)


def door(name: str, port: int, **settings: Any) -> Door:
    return Door(name, TcpListen("127.0.0.1", port), **{"via": (DIRECT,), **settings})


class DoorsCase(ReloadCase):
    def asking(self, port: int = 1) -> Any:
        client = self.client(port)
        client.receive(GREETING + ASK)
        return client

    def sessions(self) -> list[SessionFigures]:
        return list(self.successResultOf(self.service.listed(Query())).sessions)


class FiguresTests(DoorsCase):
    def test_theySayWhatIsADoorAndWhatItSpeaks(self) -> None:
        doors = (door("d", 1), door("s", 2, protocol="socks"))
        self.start(tunnel("a", 3), doors=doors)
        found = [
            (each.name, each.kind, each.target, each.protocols)
            for each in self.service.figures().tunnels
        ]
        self.assertEqual(
            found,
            [
                ("a", "tunnel", "192.0.2.9:993", ()),
                ("d", "door", "", ("socks", "http")),
                ("s", "door", "", ("socks",)),
            ],
        )

    def test_sessionsHaveTheTargetsThatTheirClientsHaveAskedFor(self) -> None:
        self.start(doors=(door("d", 1),))
        self.client(1)
        self.asking()
        found = [(each.tunnel, each.target, each.phase) for each in self.sessions()]
        self.assertEqual(found, [("d", "", "asking"), ("d", "192.0.2.7:80", "connecting")])
        [figures] = self.service.figures().tunnels
        self.assertEqual((figures.sessions, figures.connecting, figures.accepted), (2, 1, 2))

    def test_howManyListenIsSaidOfBoth(self) -> None:
        self.start(tunnel("a", 3), doors=(door("d", 1), door("s", 2)))
        self.assertEqual(self.service.status(), "1 tunnel and 2 doors listening, 0 sessions")
        self.reload(doors=(door("d", 1),))
        self.assertEqual(self.service.status(), "1 door listening, 0 sessions")


class PasswordTests(DoorsCase):
    def test_aReloadReadsItAgain(self) -> None:
        path = os.path.abspath(self.mktemp())
        known = door("d", 1, username="alice", password=PasswordCommand(f"cat {path}"))
        read: list[str] = []

        def run(reactor: Any, command: str) -> Deferred[str]:
            read.append(command)
            return succeed("word" if len(read) == 1 else "other")

        self.patch(passwords, "_run", run)
        self.start(doors=(known,))
        for word, code in (b"word", 0), (b"other", 1):
            self.assertEqual(self.verdict(word), code, word)
        self.reload(doors=(known,))
        for word, code in (b"word", 1), (b"other", 0):
            self.assertEqual(self.verdict(word), code, word)
        self.assertEqual(len(read), 2)

    def verdict(self, word: bytes) -> int:
        client = self.client(1)
        client.receive(b"\5\1\2" + b"\1\5alice" + bytes([len(word)]) + word)
        self.assertEqual(client.sent[:3], b"\5\2\1")
        return int(client.sent[3])


class BypassTests(DoorsCase):
    def test_whatTheEnvironmentExemptsIsConnectedToDirectly(self) -> None:
        corp = door("d", 1, via=("corp",), noProxy="192.0.2.7")
        self.start(doors=(corp,), proxies={"corp": CORP})
        self.asking()
        other = self.client(1)
        other.receive(GREETING + b"\5\1\0\1\xc0\0\2\x08\0\x50")
        reached = [client[0] for client in self.reactor.tcpClients]
        self.assertEqual(reached, ["192.0.2.7", CORP.host])


class DrainTests(DoorsCase):
    def test_oneIsDrainedByItsName(self) -> None:
        self.start(doors=(door("d", 1),))
        running = self.asking()
        self.service.setDrained("tunnel", "d", drained=True)
        self.assertIn("d: drained: new clients are turned away", lines(self.events)[-1])
        target = self.answer()
        self.assertEqual(running.sent, CHOSEN + GRANTED)
        self.assertEqual(self.asking().sent, b"")
        self.assertTrue(self.service.figures().tunnels[0].drained)
        self.service.setDrained("tunnel", "d", drained=False)
        self.assertEqual(self.asking().sent, CHOSEN)
        target.receive(b"bytes")
        self.assertEqual(running.sent, CHOSEN + GRANTED + b"bytes")


class ReloadTests(DoorsCase):
    def test_sessionsGoOnAndNewTargetsAreThoseOfNewClients(self) -> None:
        self.start(doors=(door("d", 1, targets=WEB),))
        client = self.asking()
        target = self.answer()
        changes = self.reload(doors=(door("d", 1, targets=MAIL),))
        self.assertEqual((changes, self.port(1).closed), (Changes(changed=("d",)), 0))
        client.receive(b"question")
        target.receive(b"answer")
        self.assertEqual(target.sent, b"question")
        self.assertEqual(client.sent, CHOSEN + GRANTED + b"answer")
        self.assertEqual(self.asking().sent, CHOSEN + FORBIDDEN)
        self.assertEqual(self.service.figures().tunnels[0].sessions, 1)

    def test_whoHasNotAskedYetIsServedByTheSettingsThatItCameTo(self) -> None:
        self.start(doors=(door("d", 1, targets=WEB),))
        client = self.client(1)
        self.reload(doors=(door("d", 1, targets=MAIL),))
        client.receive(GREETING + ASK)
        self.answer()
        self.assertEqual(client.sent, CHOSEN + GRANTED)

    def test_otherProxiesAreThoseOfNewClients(self) -> None:
        self.start(doors=(door("d", 1),))
        self.reload(doors=(door("d", 1, via=("corp",)),))
        client = self.asking()
        self.assertEqual(self.dialled(), [(CORP.host, CORP.port)])
        proxy = self.answer()
        self.assertIn(b"CONNECT 192.0.2.7:80 HTTP/1.1", proxy.sent)
        proxy.receive(OK)
        self.assertEqual(client.sent, CHOSEN + GRANTED)

    def test_aTunnelThatBecomesADoorKeepsItsPort(self) -> None:
        self.start(tunnel("x", 1))
        running = self.client(1)
        there = self.answer()
        changes = self.reload(doors=(door("x", 1),))
        self.assertEqual((changes, self.port(1).closed), (Changes(changed=("x",)), 0))
        client = self.asking()
        self.assertEqual(client.sent, CHOSEN)
        self.assertEqual(self.dialled()[-1], ("192.0.2.7", 80))
        there.receive(b"220 still here")
        self.assertEqual(running.sent, b"220 still here")
        [figures] = self.service.figures().tunnels
        self.assertEqual((figures.kind, figures.sessions), ("door", 2))

    def test_whereOthersReachIt(self) -> None:
        # Of what systemd gives, only the bound port knows where it is.
        self.start(tunnel("x", 1))
        self.patch(self.port(1), "getHost", lambda: IPv4Address("TCP", "0.0.0.0", 1))
        error = self.assertRaises(ConfigError, self.reload, doors=(door("x", 1),))
        self.assertIn('listen: "0.0.0.0:1": other machines reach it', str(error))
        self.client(1)
        self.assertEqual(self.dialled(), [("192.0.2.9", 993)])
        known = {"allow": (ip_network("10.0.0.0/8"),), "username": "team"}
        self.reload(doors=(door("x", 1, **known),))
        self.assertRaises(ConfigError, self.reload, doors=(door("x", 1),))

    def test_andBackAgain(self) -> None:
        self.start(doors=(door("x", 1),))
        self.asking()
        running = self.answer()
        self.reload(tunnel("x", 1))
        self.client(1)
        self.assertEqual(self.dialled()[-1], ("192.0.2.9", 993))
        self.assertEqual([each.target for each in self.sessions()], ["192.0.2.7:80", ""])
        self.assertEqual(running.how, [])

    def test_whatIsDrainedStaysSo(self) -> None:
        self.start(doors=(door("d", 1, targets=WEB),))
        self.service.setDrained("tunnel", "d", drained=True)
        self.reload(doors=(door("d", 1, targets=MAIL),))
        self.assertEqual(self.asking().sent, b"")
