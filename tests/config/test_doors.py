"""Doors in the config file, and -D: `ptunnel.config`."""

from __future__ import annotations

import ipaddress
from typing import Any

from ptunnel.auth import Secret
from ptunnel.config import Door, TargetPattern, TcpListen
from ptunnel.errors import ConfigError
from tests.config.test_config import SettingsTestCase

DOOR = "[door d]\nlisten = 1080\nvia = direct\n"
LOGIN = "username = alice\npassword = word\n"


class DoorsTestCase(SettingsTestCase):
    def assertMistake(self, part: str, **options: Any) -> None:
        """Loading fails with one line that has this part."""
        error = self.assertRaises(ConfigError, self.load, **options)
        self.assertIn(part, str(error))
        self.assertNotIn("\n", str(error))


class SectionTests(DoorsTestCase):
    def door(self, more: str = "", before: str = "") -> Door:
        [door] = self.load(file=before + DOOR + more).doors
        return door

    def test_theDefaults(self) -> None:
        door = self.door()
        self.assertEqual(door, Door("d", TcpListen("127.0.0.1", 1080), via=("direct",)))
        self.assertEqual((door.protocol, door.targets, door.username), ("auto", (), None))
        self.assertEqual(door.speaks, "SOCKS and HTTP proxy")

    def test_everyKeyHasItsValue(self) -> None:
        door = self.door(
            f"{LOGIN}protocol = http\ntargets = *.a:443\nallow = 10.0.0.0/8\nidle-timeout = 5m\n"
            "connect-timeout = 2s\nmax-connections = 7\nmax-connections-per-client = 3\n"
        )
        self.assertEqual(door.targets, (TargetPattern("*.a", (443, 443)),))
        self.assertEqual((door.username, door.password), ("alice", Secret("word")))
        self.assertEqual((door.protocol, door.speaks), ("http", "HTTP proxy"))
        self.assertEqual(door.allow, (ipaddress.ip_network("10.0.0.0/8"),))
        self.assertEqual((door.idleTimeout, door.connectTimeout), (300.0, 2.0))
        self.assertEqual((door.maxConnections, door.maxPerClient), (7, 3))

    def test_itHasTheDefaultsOfAllPortsAndNotThoseOfTunnels(self) -> None:
        door = self.door(before="[ptunnel]\nidle-timeout = 5m\ntls = yes\nsend-proxy = v1\n")
        self.assertEqual(door.idleTimeout, 300.0)

    def test_whatIsForTunnelsIsAMistake(self) -> None:
        for key in "target = a:1", "tls = yes", "starttls = imap", "send-proxy = v1":
            name = key.split(" ")[0]
            self.assertMistake(f"{name}: unknown key", file=f"{DOOR}{key}\n")
        what = "listen: auto is for tunnels, whose target has a name"
        self.assertMistake(what, file="[door d]\nlisten = auto\nvia = direct\n")

    def test_namesAndAddressesAreTheirOwn(self) -> None:
        tunnel = "[tunnel d]\nlisten = 1\ntarget = a:1\nvia = direct\n"
        self.assertMistake("[door d] has that name; take another", file=DOOR + tunnel)
        tunnel = "[tunnel t]\nlisten = 1080\ntarget = a:1\nvia = direct\n"
        self.assertMistake('"127.0.0.1:1080" is taken by', file=DOOR + tunnel)
        loop = f"[proxy p]\nurl = 127.0.0.1:1080\n{DOOR}".replace("direct", "p")
        self.assertMistake("[door d] listens there", file=loop)

    def test_thePasswordNeedsAUserAndTheUserAPassword(self) -> None:
        self.assertMistake("a password is missing", file=f"{DOOR}username = alice\n")
        self.assertMistake("the key username is missing", file=f"{DOOR}password = word\n")
        self.assertMistake(
            "password-file: password is given too", file=f"{DOOR}{LOGIN}password-file = x\n"
        )

    def test_aTypoIsSuggested(self) -> None:
        self.assertMistake(
            "target: unknown key; did you mean targets?", file=f"{DOOR}target = a:1\n"
        )
        self.assertMistake("[dor d]: unknown section; did you mean door?", file="[dor d]\n")


class OpenTests(DoorsTestCase):
    """Doors that other machines reach."""

    def test_theyWantToKnowTheirClients(self) -> None:
        for listen in "0.0.0.0:1", "[::]:1", "192.0.2.1:1", "tcp:1", "ssl:1", "a.example:1":
            door = f"[door d]\nlisten = {listen}\nvia = direct\n"
            allow = "allow = 10.0.0.0/8\n"
            self.assertMistake("without allow and username everyone", file=door)
            self.assertMistake("without username everyone", file=door + allow)
            self.assertMistake("without allow everyone", file=door + LOGIN)
            self.assertEqual(len(self.load(file=door + allow + LOGIN).doors), 1)

    def test_thoseOfThisMachineNeedNot(self) -> None:
        for listen in "1080", "127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/d", "systemd:x":
            door = f"[door d]\nlisten = {listen}\nvia = direct\n"
            self.assertEqual(len(self.load(file=door).doors), 1)


class OptionTests(DoorsTestCase):
    def test_eachMakesADoor(self) -> None:
        doors = self.load(doors=("1080", "[::1]:0", "localhost:3128"), direct=True).doors
        here = TcpListen("127.0.0.1", 1080), TcpListen("::1", 0), TcpListen("localhost", 3128)
        self.assertEqual(tuple(door.listen for door in doors), here)
        self.assertEqual({door.via for door in doors}, {("direct",)})
        self.assertEqual(len({door.name for door in doors}), 3)

    def test_mistakes(self) -> None:
        for word, message in (
            ("x", '-D: "x": a port is missing; write [HOST:]PORT'),
            ("65536", '-D: "65536": the port must be a number from 0 to 65535'),
            ("::1", '-D: "::1": an IPv6 address needs brackets'),
            ("*:1080", "without allow and username everyone there could use it"),
        ):
            self.assertMistake(message, doors=(word,), direct=True)
        self.assertMistake("is taken by", doors=("1080", "1080"), direct=True)

    def test_theProxyOfTheEnvironmentIsLeftOutForWhatItExempts(self) -> None:
        environ = {"https_proxy": "http://p:3128", "no_proxy": ".corp.example, 10.0.0.0/8"}
        [door] = self.load(doors=("1080",), environ=environ).doors
        self.assertEqual((door.via, door.noProxy), (("p:3128",), ".corp.example,10.0.0.0/8"))

    def test_aProxyOfOursIsNot(self) -> None:
        environ = {"no_proxy": ".corp.example"}
        [door] = self.load(doors=("1080",), proxies=("p:3128",), environ=environ).doors
        self.assertEqual((door.via, door.noProxy), (("p:3128",), ""))
