"""`ptunnel.config.listens`: `auto`, and connections that would lead back to ourselves."""

from __future__ import annotations

import ipaddress
import pickle

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import TcpListen, UnixListen, listens, ownListen, parseListen
from ptunnel.config.listens import autoAddresses
from ptunnel.errors import ConfigError
from tests.config.parsers.test_words import hosts, names, ports
from tests.config.test_config import SettingsTestCase


class AutoAddressTests(SynchronousTestCase):
    @given(st.lists(names, max_size=20))
    def test_eachNameHasALoopbackAddressOfItsOwn(self, hosts: list[str]) -> None:
        addresses = autoAddresses(hosts)
        self.assertEqual(set(addresses), {host.lower() for host in hosts})
        self.assertEqual(len(set(addresses.values())), len(addresses))
        for text in addresses.values():
            address = ipaddress.IPv4Address(text)
            self.assertTrue(address.is_loopback)
            self.assertNotIn(address, ipaddress.ip_network("127.0.0.0/16"))
            self.assertNotIn(address.packed[3], (0, 255))

    @given(st.lists(names, min_size=1, max_size=20), st.randoms())
    def test_theOrderOfTheNamesIsNoMatter(self, hosts: list[str], random: object) -> None:
        shuffled = [*hosts]
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        self.assertEqual(autoAddresses(hosts), autoAddresses(shuffled))

    def test_itIsTheSameInEveryVersion(self) -> None:
        # It stands in hosts files.
        self.assertEqual(
            autoAddresses(["imap.gmail.com", "smtp.gmail.com"]),
            {"imap.gmail.com": "127.212.121.151", "smtp.gmail.com": "127.19.71.65"},
        )

    def test_howANameIsWrittenIsNoMatter(self) -> None:
        self.assertEqual(
            autoAddresses(["IMAP.gmail.com.", "imap.Gmail.com"]), autoAddresses(["imap.gmail.com"])
        )

    def test_whereTwoMeetTheFirstByNameStays(self) -> None:
        self.patch(
            listens,
            "_candidates",
            lambda host: iter(["127.1.1.1", "127.1.1.2", f"127.1.2.{ord(host)}"]),
        )
        for order in "abc", "cba", "bca":
            self.assertEqual(
                autoAddresses(order), {"a": "127.1.1.1", "b": "127.1.1.2", "c": "127.1.2.99"}
            )


class AutoTests(SettingsTestCase):
    def file(self, *targets: str) -> str:
        return "".join(
            f"[tunnel {n}]\nlisten = auto\ntarget = {target}\n" for n, target in enumerate(targets)
        )

    def test_itIsTheTargetsPortOnAnAddressOfTheTarget(self) -> None:
        targets = "imap.gmail.com:993", "smtp.gmail.com:465", "Imap.gmail.com.:143"
        settings = self.load(file=self.file(*targets), proxies=("p:1",))
        addresses = autoAddresses(["imap.gmail.com", "smtp.gmail.com"])
        self.assertEqual(
            [tunnel.listen for tunnel in settings.tunnels],
            [
                TcpListen(addresses["imap.gmail.com"], 993),
                TcpListen(addresses["smtp.gmail.com"], 465),
                TcpListen(addresses["imap.gmail.com"], 143),
            ],
        )
        self.assertEqual(pickle.loads(pickle.dumps(settings)), settings)

    def test_whatHasNoNameOfItsOwnIsAMistake(self) -> None:
        for target in "192.0.2.1:993", "[2001:db8::1]:993", "localhost:993", "a.LocalHost.:993":
            self.assertWrong(
                "FILE: [tunnel 0] listen: auto is for targets with a name of their own, and the "
                f"target is {target}; write where to listen",
                file=self.file(target),
                proxies=("p:1",),
            )

    def test_theSameTargetTwiceIsAMistake(self) -> None:
        address = autoAddresses(["h"])["h"]
        self.assertWrong(
            f'FILE: [tunnel 1]: "{address}:1" is taken by FILE: [tunnel 0]; '
            "give each tunnel an address of its own",
            file=self.file("h:1", "H:1"),
            proxies=("p:1",),
        )
        self.assertWrong(
            f'TUNNEL: "{address}:1:x:1": "{address}:1" is taken by FILE: [tunnel 0]; '
            "give each tunnel an address of its own",
            f"{address}:1:x:1",
            file=self.file("h:1"),
            proxies=("p:1",),
        )

    def test_aUnixSocketIsTheSameWhateverItsMode(self) -> None:
        tunnels = "\n".join(
            f"[tunnel {n}]\nlisten = {listen}\ntarget = t:1"
            for n, listen in enumerate(("unix:/x", "unix:/x:mode=0660"))
        )
        self.assertWrong(
            'FILE: [tunnel 1]: "unix:/x" is taken by FILE: [tunnel 0]; '
            "give each tunnel an address of its own",
            file=tunnels,
            proxies=("p:1",),
        )

    def test_anyOtherSpellingOfItIsNone(self) -> None:
        self.assertWrong(
            'FILE: [tunnel 0] listen: "Auto": a port is missing; write port, host:port, '
            "[v6]:port, unix:/path, a Twisted endpoint string or auto",
            file=self.file("h:1").replace("auto", "Auto"),
            proxies=("p:1",),
        )


class OwnListenTests(SynchronousTestCase):
    def leadsBack(self, listen: str, host: str, port: int = 9) -> bool:
        return ownListen([UnixListen("/x"), parseListen(listen)], host, port) is not None

    def test_theSameAddressOrName(self) -> None:
        for listen, host in (
            ("127.0.0.1:9", "127.0.0.1"),
            ("127.0.0.1:9", "::ffff:127.0.0.1"),
            ("127.0.0.1:9", "localhost"),
            ("127.0.0.1:9", "db.LOCALHOST."),
            ("127.0.0.1:9", "0.0.0.0"),
            ("localhost:9", "127.0.0.1"),
            ("localhost:9", "::1"),
            ("localhost:9", "Localhost"),
            ("[::1]:9", "::1"),
            ("[::1]:9", "0:0:0:0:0:0:0:1"),
            ("[::1]:9", "::"),
            ("192.0.2.1:9", "192.0.2.1"),
            ("box.example:9", "Box.example."),
        ):
            self.assertTrue(self.leadsBack(listen, host), (listen, host))
            self.assertFalse(self.leadsBack(listen, host, 10), (listen, host))

    def test_whoListensEverywhereListensOnLoopback(self) -> None:
        for listen in "0.0.0.0:9", "[::]:9":
            for host in "127.0.0.1", "127.9.9.9", "localhost", "0.0.0.0", "::":
                self.assertTrue(self.leadsBack(listen, host), (listen, host))
            for host in "192.0.2.1", "a.example", "2001:db8::1":
                self.assertFalse(self.leadsBack(listen, host), (listen, host))

    def test_othersDoNot(self) -> None:
        for listen, host in (
            ("127.0.0.1:9", "127.0.0.2"),
            ("127.0.0.2:9", "localhost"),
            ("127.0.0.1:9", "::1"),
            ("127.0.0.1:9", "localhost.example"),
            ("127.0.0.1:9", "notlocalhost"),
            ("unix:/y", "127.0.0.1"),
            ("tcp:9:interface=127.0.0.1", "127.0.0.1"),
        ):
            self.assertFalse(self.leadsBack(listen, host), (listen, host))

    @given(hosts, ports)
    def test_whatIsListenedOnLeadsBackHoweverItIsWritten(self, host: str, port: int) -> None:
        listen = TcpListen(host, port)
        self.assertEqual(ownListen([listen], host.upper(), port), listen)


class LoopTests(SettingsTestCase):
    tunnel = "[tunnel t]\nlisten = 3128\ntarget = x:1\n"

    def test_aProxyThatIsOneOfOurTunnelsIsAMistake(self) -> None:
        what = (
            '"localhost:3128": FILE: [tunnel t] listens there, so ptunnel would connect to itself; '
            "write the address of the proxy"
        )
        for where, options in (
            ("-p", {"file": self.tunnel, "proxies": ("localhost:3128",)}),
            ("https_proxy", {"file": self.tunnel, "environ": {"all_proxy": "localhost:3128"}}),
            (
                "FILE: [proxy a] url",
                {"file": self.tunnel + "[proxy a]\nurl = http://localhost:3128\n"},
            ),
        ):
            self.assertWrong(f"{where}: {what}", **options)

    def test_butNotOneThatIsReachedThroughAnotherOrNotUsed(self) -> None:
        here = "[proxy here]\nurl = 127.0.0.1:3128\n"
        file = self.tunnel + here + "through = far\n[proxy far]\nurl = far:1\n"
        self.assertEqual(len(self.load(file=file).proxies), 2)
        file = self.tunnel + "via = far\n" + here + "[proxy far]\nurl = far:1\n"
        self.assertEqual(len(self.load(file=file).proxies), 1)

    def test_aDirectTargetThatIsOneOfOurTunnelsIsAMistake(self) -> None:
        file = self.tunnel + "[tunnel b]\nlisten = 9\ntarget = 127.0.0.1:3128\n"
        self.assertWrong(
            'FILE: [tunnel b] target: "127.0.0.1:3128": FILE: [tunnel t] listens there, '
            "so with direct ptunnel would connect to itself",
            file=file,
            proxies=("p:1",),
            direct=True,
        )
        # Of a proxy's own 127.0.0.1 nothing is known.
        self.assertEqual(len(self.load(file=file, proxies=("p:1",)).tunnels), 2)

    def test_aTargetThatIsOurOwnUnixSocketIsAMistake(self) -> None:
        self.assertWrong(
            'FILE: [tunnel a] target: "unix:/run/a": FILE: [tunnel a] listens there, '
            "so with direct ptunnel would connect to itself",
            file="[tunnel a]\nlisten = unix:/run/a\ntarget = unix:/run//a\nvia = direct\n",
        )

    def test_aWordThatLeadsToItself(self) -> None:
        self.assertWrong(
            'TUNNEL: "7:localhost:7" target: "localhost:7": TUNNEL: "7:localhost:7" listens there, '
            "so with direct ptunnel would connect to itself",
            "7:localhost:7",
            direct=True,
        )

    def test_anyFreePortIsNobodysTarget(self) -> None:
        self.assertEqual(len(self.load("0:localhost:7", direct=True).tunnels), 1)


class UnixTargetTests(SettingsTestCase):
    FILE = "[proxy p]\nurl = p:1\n[tunnel a]\nlisten = 7\ntarget = unix:/run/a\n"

    def test_itIsReachedDirectlyOnly(self) -> None:
        for via in "direct", "p, direct":
            [tunnel] = self.load(file=f"{self.FILE}via = {via}\n").tunnels
            self.assertEqual(tunnel.via, ("direct",))
            self.assertEqual((tunnel.target, tunnel.targetPath), ("unix:/run/a", "/run/a"))
        [tunnel] = self.load(file=self.FILE, direct=True).tunnels
        self.assertEqual(tunnel.via, ("direct",))

    def test_aProxyIsAnErrorOfOneLine(self) -> None:
        what = "no proxy can reach it, and it goes via p; write via = direct"
        for more in "", "via = p\n":
            self.assertWrong(
                f'FILE: [tunnel a] target: "unix:/run/a": {what}', file=self.FILE + more
            )
        self.assertWrong(
            'FILE: [tunnel a] target: "unix:/run/a": no proxy can reach it, and it goes via '
            "q:1; write via = direct",
            file="[tunnel a]\nlisten = 7\ntarget = unix:/run/a\n",
            environ={"https_proxy": "http://q:1"},
        )

    def test_thePathIsWhole(self) -> None:
        for path, why in (
            ("", "the path must begin with /, and hold no control characters"),
            ("run/a", "the path must begin with /, and hold no control characters"),
            ("/run/", "the path is that of a folder"),
            ("/" + "a" * 107, "the path is longer than 107 bytes"),
        ):
            where = f"{self.FILE.replace('/run/a', path)}via = direct\n"
            error = self.assertRaises(ConfigError, self.load, file=where)
            self.assertIn(why, str(error))

    def test_TLSWantsAName(self) -> None:
        self.assertWrong(
            "FILE: [tunnel a] tls: a Unix socket has no name to verify; "
            "write tls-server-name = NAME",
            file=f"{self.FILE}via = direct\ntls = yes\n",
        )
        named = f"{self.FILE}via = direct\ntls = yes\ntls-server-name = a.example\n"
        self.assertIsNotNone(self.load(file=named).tunnels[0].tls)

    def test_autoIsNotForIt(self) -> None:
        self.assertWrong(
            "FILE: [tunnel a] listen: auto is for targets with a name of their own, and the target "
            "is unix:/run/a; write where to listen",
            file=self.FILE.replace("= 7", "= auto") + "via = direct\n",
        )
