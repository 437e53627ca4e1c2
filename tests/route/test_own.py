"""Ways that lead back to ptunnel itself: `ptunnel.route.own`."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.config import EndpointListen, Listen, TcpListen, UnixListen
from ptunnel.errors import Unreachable
from ptunnel.route.own import OwnPorts


def own(*listens: Listen) -> OwnPorts:
    return OwnPorts(lambda: listens)


class OwnTests(SynchronousTestCase):
    def test_whatListensThereIsKnownByItsAddressAndItsName(self) -> None:
        ports = own(TcpListen("127.0.0.1", 1080), TcpListen("192.0.2.1", 3128))
        for host in "127.0.0.1", "localhost", "LOCALHOST.", "::ffff:127.0.0.1", "0.0.0.0":
            self.assertTrue(ports.has(host, 1080), host)
            self.assertFalse(ports.has(host, 1081), host)
        self.assertTrue(ports.has("192.0.2.1", 3128))
        self.assertFalse(ports.has("192.0.2.2", 3128))
        self.assertFalse(ports.has("proxy.example", 3128))

    def test_oneOfEveryAddressIsKnownByAllOfThisMachine(self) -> None:
        for everywhere in "0.0.0.0", "::":
            ports = own(TcpListen(everywhere, 1080))
            for host in "127.0.0.1", "127.9.9.9", "localhost":
                self.assertTrue(ports.has(host, 1080), host)
            # Addresses for documentation are nobody's.
            self.assertFalse(ports.has("192.0.2.1", 1080))
            self.assertFalse(ports.has("2001:db8::1", 1080))

    def test_noSocketStaysOpenForTheQuestion(self) -> None:
        opened: list[socket.socket] = []
        made = socket.socket

        def counted(*how: int) -> socket.socket:
            opened.append(made(*how))
            return opened[-1]

        self.patch(socket, "socket", counted)
        own(TcpListen("0.0.0.0", 1080)).has("192.0.2.1", 1080)
        self.assertEqual([skt.fileno() for skt in opened], [-1])

    def test_otherWaysToListenAreNoPorts(self) -> None:
        ports = own(UnixListen("/run/x"), EndpointListen("systemd:index=0"))
        self.assertFalse(ports.has("127.0.0.1", 1080))

    def test_theyAreAsTheyAreNow(self) -> None:
        listens: list[Listen] = []

        def now() -> Iterable[Listen]:
            return listens

        ports = OwnPorts(now)
        self.assertFalse(ports.has("127.0.0.1", 1080))
        listens.append(TcpListen("127.0.0.1", 1080))
        self.assertTrue(ports.has("127.0.0.1", 1080))

    def test_addressesOfANameAreForbiddenWithAHint(self) -> None:
        forbid = own(TcpListen("127.0.0.1", 1080)).forbid("a.example", 1080)
        self.assertIsNone(forbid("192.0.2.1"))
        error = forbid("127.0.0.1")
        assert isinstance(error, Unreachable)
        self.assertEqual(str(error).split(" (")[0], "a.example leads back to ptunnel itself")
        self.assertIs(error.cause, causes.LEADS_BACK)
