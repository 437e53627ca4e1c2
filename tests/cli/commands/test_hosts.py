"""`ptunnel.cli.commands.hosts`: the lines of a hosts file."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.commands.hosts import hostsLines
from ptunnel.config import (
    DIRECT,
    Door,
    EndpointListen,
    Listen,
    Proxy,
    Settings,
    TcpListen,
    Tunnel,
    UnixListen,
)
from ptunnel.text import printable
from tests.config.parsers.test_words import addresses, names, ports

IMAP = "imap.gmail.com"
HERE = TcpListen("127.83.14.201", 993)
CORP = Proxy("corp", "proxy.example", 3128)


def tunnel(
    listen: Listen = HERE,
    host: str = IMAP,
    port: int = 993,
    via: tuple[str, ...] = ("corp",),
    name: str = "t",
) -> Tunnel:
    return Tunnel(name, listen, host, port, via=via)


def linesOf(*tunnels: Tunnel, proxies: tuple[Proxy, ...] = (CORP,)) -> list[str]:
    return hostsLines(Settings(tunnels, {proxy.name: proxy for proxy in proxies}))


class LineTests(SynchronousTestCase):
    def test_anAddressAndTheTargetsName(self) -> None:
        self.assertEqual(linesOf(tunnel()), ["127.83.14.201  imap.gmail.com"])

    def test_aDoorNeedsNone(self) -> None:
        door = Door("web", TcpListen("127.0.0.1", 1080), via=("corp",))
        lines = hostsLines(Settings((tunnel(),), {"corp": CORP}, (door,)))
        said = (
            "# web: a door needs no line: its clients are told where it is, and say their targets"
        )
        self.assertEqual(lines, ["127.83.14.201  imap.gmail.com", said])

    def test_anyLiteralAddressWillDo(self) -> None:
        for host in "127.0.0.1", "::1", "192.0.2.1":
            self.assertEqual(linesOf(tunnel(TcpListen(host, 993))), [f"{host}  {IMAP}"])

    def test_theNameIsInLowerCaseWithoutADotAtItsEnd(self) -> None:
        self.assertEqual(linesOf(tunnel(host="IMAP.Gmail.com.")), linesOf(tunnel()))

    def test_theyAreInTheOrderOfTheTunnels(self) -> None:
        tunnels = [
            tunnel(TcpListen(f"127.1.1.{n}", 993), host, name=host)
            for n, host in enumerate(("b.example", "c.example", "a.example"), 1)
        ]
        self.assertEqual(
            linesOf(*tunnels),
            ["127.1.1.1  b.example", "127.1.1.2  c.example", "127.1.1.3  a.example"],
        )

    def test_severalPortsOfATargetAreOneLine(self) -> None:
        other = tunnel(TcpListen(HERE.host, 143), IMAP.upper(), 143, name="u")
        self.assertEqual(linesOf(tunnel(), other), linesOf(tunnel()))


class CommentTests(SynchronousTestCase):
    def assertInPlaceOfALine(self, text: str, *tunnels: Tunnel) -> None:
        self.assertEqual(linesOf(*tunnels), [f"# t: {text}"])

    def test_whatListensOnNoAddress(self) -> None:
        for listen in UnixListen("/run/imap"), EndpointListen("systemd:domain=INET:index=0"):
            self.assertInPlaceOfALine(
                f"it listens on {listen}, and a hosts file has addresses only", tunnel(listen)
            )
        self.assertInPlaceOfALine(
            "it listens on localhost:993, and a hosts file needs an address; try listen = auto",
            tunnel(TcpListen("localhost", 993)),
        )
        for host, shown in ("0.0.0.0", "0.0.0.0"), ("::", "[::]"):
            self.assertInPlaceOfALine(
                f"it listens on every address, {shown}:993, and a line has one; try listen = auto",
                tunnel(TcpListen(host, 993)),
            )

    def test_aTargetThatHasNoNameToLead(self) -> None:
        for host in "192.0.2.1", "2001:db8::1":
            self.assertInPlaceOfALine(
                f"its target {host} is an address, and a hosts file is for names",
                tunnel(host=host),
            )
        self.assertInPlaceOfALine(
            "its target is unix:/run/a, and a hosts file is for names", tunnel(host="unix:/run/a")
        )
        for host in "localhost", "a.LocalHost":
            self.assertInPlaceOfALine(
                f"its target is {host}, which must stay the name of this machine",
                tunnel(host=host),
            )

    def test_whatOnlyGoesDirectWouldMeetItself(self) -> None:
        self.assertInPlaceOfALine(
            f"it goes direct, and a line for {IMAP} would lead it to itself",
            tunnel(via=(DIRECT,)),
        )

    def test_aNameByWhichAProxyIsFound(self) -> None:
        self.assertInPlaceOfALine(
            "proxy.example is the name of a proxy too, which ptunnel would then look for here",
            tunnel(host="Proxy.example."),
        )

    def test_butNotOneThatAnotherProxyLooksUp(self) -> None:
        inner = Proxy("inner", IMAP, 3128, through="corp")
        self.assertEqual(linesOf(tunnel(via=("inner",)), proxies=(CORP, inner)), linesOf(tunnel()))

    def test_aNameHasOneAddressOnly(self) -> None:
        other = tunnel(TcpListen("127.0.0.1", 1143), IMAP, 143, name="u")
        self.assertEqual(
            linesOf(tunnel(), other),
            [
                "127.83.14.201  imap.gmail.com",
                "# u: imap.gmail.com is at 127.83.14.201 already; "
                "write listen = 127.83.14.201:1143",
            ],
        )

    def test_anotherPortIsSaidBeforeTheLine(self) -> None:
        self.assertEqual(
            linesOf(tunnel(TcpListen("127.0.0.1", 9993))),
            [f"# t: use port 9993 of {IMAP}, and not 993", f"127.0.0.1  {IMAP}"],
        )
        self.assertEqual(
            linesOf(tunnel(TcpListen("127.0.0.1", 0))),
            [
                "# t: use the port that the log says, which is another one at each start, "
                "and not 993",
                f"127.0.0.1  {IMAP}",
            ],
        )

    def test_severalTargetsAtOneAddress(self) -> None:
        tunnels = [
            tunnel(TcpListen("127.0.0.1", port), f"{name}.example", port, name=name)
            for name, port in (("a", 1), ("c", 3), ("b", 2))
        ]
        which = "use no other port of a.example; listen = auto gives each name an address"
        lines = linesOf(*tunnels)
        self.assertEqual(
            lines[:2],
            [f"# a: 127.0.0.1 is b.example, c.example too, so {which}", "127.0.0.1  a.example"],
        )
        self.assertEqual(lines[3::2], ["127.0.0.1  c.example", "127.0.0.1  b.example"])

    def test_whatMayGoDirectDoesSoNoMore(self) -> None:
        self.assertEqual(
            linesOf(tunnel(via=("corp", DIRECT))),
            [
                f"# t: a line for {IMAP} leads it to itself whenever it goes direct",
                *linesOf(tunnel()),
            ],
        )

    def test_aProxyOnThisMachineMayReadTheSameHostsFile(self) -> None:
        for host in "localhost", "127.0.0.1", "::1":
            here = Proxy("corp", host, 3128)
            far = Proxy("far", host, 3128, through="corp")
            comment = (
                "# t: the proxy corp is on this machine too: if it reads the hosts file, as squid "
                f"does, a line for {IMAP} leads it back here"
            )
            proxies = here, far
            self.assertEqual(linesOf(tunnel(), proxies=proxies), [comment, *linesOf(tunnel())])
            # It is that other machine's.
            self.assertEqual(linesOf(tunnel(via=("far",)), proxies=proxies), linesOf(tunnel()))

    def test_aTunnelsNameStaysInItsComment(self) -> None:
        # What stands on a line of its own leads a name somewhere.
        [line] = linesOf(tunnel(UnixListen("/x"), name="a\n192.0.2.1 bank.example\r"))
        self.assertTrue(line.startswith("# a\\n192.0.2.1 bank.example\\r: "), line)


class AnyTunnelsTests(SynchronousTestCase):
    some = st.builds(
        Tunnel,
        st.text(max_size=9),
        st.builds(TcpListen, addresses | names, ports | st.just(0))
        | st.builds(UnixListen, st.just("/x")),
        st.sampled_from([IMAP, "a", "B.", "localhost"]) | names | addresses,
        ports,
        via=st.sampled_from([("corp",), ("corp", DIRECT), (DIRECT,)]),
    )

    @given(st.lists(some, max_size=9, unique_by=lambda tunnel: tunnel.name))
    def test_everyNameHasOneAddressAtWhichATunnelToItListens(self, tunnels: list[Tunnel]) -> None:
        seen: set[str] = set()
        for line in linesOf(*tunnels):
            self.assertTrue(line.isprintable())
            if line.startswith("# "):
                continue
            address, name = line.split("  ")
            ipaddress.ip_address(address)
            self.assertNotIn(name, seen)
            seen.add(name)
            there = [t for t in tunnels if t.targetHost.lower().removesuffix(".") == name]
            self.assertIn(
                address, [t.listen.host for t in there if isinstance(t.listen, TcpListen)]
            )

    @given(st.lists(some, max_size=9, unique_by=lambda tunnel: tunnel.name))
    def test_everyTunnelHasALineOrAComment(self, tunnels: list[Tunnel]) -> None:
        lines = linesOf(*tunnels)
        named = {line.partition("  ")[2] for line in lines if not line.startswith("# ")}
        for one in tunnels:
            if one.targetHost.lower().removesuffix(".") not in named:
                begin = printable(f"# {one.name}: ")
                self.assertTrue(any(line.startswith(begin) for line in lines), one)
