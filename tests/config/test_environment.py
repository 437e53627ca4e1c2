"""`ptunnel.config.environment`: https_proxy and no_proxy, as curl reads them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config.environment import (
    SYSTEM_CONFIG,
    bypassWarnings,
    defaultPlaces,
    environmentProxy,
    isBypassed,
)
from ptunnel.errors import ConfigError


class EnvironmentProxyTests(SynchronousTestCase):
    def test_theFirstOfFourVariablesThatIsNotEmptyIsUsed(self) -> None:
        variables = "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"
        environ = {variable: f"{variable.replace('_', '-')}:1" for variable in variables}
        for variable in variables:
            proxy = environmentProxy(environ)
            assert proxy is not None
            self.assertEqual(proxy.host, variable.replace("_", "-"))
            environ[variable] = ""
        self.assertIsNone(environmentProxy(environ))

    def test_blanksAndLineEndsAroundItDoNotCount(self) -> None:
        for text in " http://p:1", "http://p:1\n", "\tp:1/ \r\n", "p:1 ":
            proxy = environmentProxy({"https_proxy": text})
            assert proxy is not None
            self.assertEqual(proxy.name, "p:1")
        proxy = environmentProxy({"https_proxy": " \n", "ALL_PROXY": "q:1"})
        assert proxy is not None
        self.assertEqual(proxy.name, "q:1")

    def test_httpProxyIsNotForTunnels(self) -> None:
        self.assertIsNone(environmentProxy({"http_proxy": "p:1", "HTTP_PROXY": "p:1"}))

    def test_withoutAPortItIs1080(self) -> None:
        for text in "proxy", "http://proxy", "http://proxy/", "u:p@proxy":
            proxy = environmentProxy({"https_proxy": text})
            assert proxy is not None
            self.assertEqual(proxy.name, "proxy:1080")

    def test_anHttpsProxyIsAtPort443(self) -> None:
        proxy = environmentProxy({"https_proxy": "https://proxy"})
        assert proxy is not None and proxy.tls is not None
        self.assertEqual((proxy.name, proxy.tls.verify), ("proxy:443", True))

    def test_anErrorNamesTheVariableAndHidesThePassword(self) -> None:
        error = self.assertRaises(
            ConfigError, environmentProxy, {"ALL_PROXY": "socks4a://alice:c4n4ry@proxy:1080"}
        )
        self.assertEqual(
            str(error),
            'ALL_PROXY: "socks4a://alice:***@proxy:1080": SOCKS4 is not spoken with proxies; '
            "write socks5h://host:port if it speaks SOCKS5",
        )

    def test_aSocksProxyIsTakenFromEachVariableAsCurlDoes(self) -> None:
        for variable in "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY":
            for scheme, protocol in ("socks5", "socks5"), ("socks5h", "socks5h"):
                proxy = environmentProxy({variable: f"{scheme}://u:p%40@proxy"})
                assert proxy is not None
                self.assertEqual((proxy.name, proxy.protocol), ("proxy:1080", protocol))
                self.assertEqual((proxy.username, proxy.password), ("u", Secret("p@")))


class DefaultPlacesTests(SynchronousTestCase):
    def test_theUsersFolderIsThatOfTheVariableOrOfTheHome(self) -> None:
        own = "/x/ptunnel/tunnels.ini", "/h/.config/ptunnel/tunnels.ini"
        for environ, first in (
            ({"XDG_CONFIG_HOME": "/x"}, own[0]),
            ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, own[0]),
            ({"HOME": "/h"}, own[1]),
            ({"XDG_CONFIG_HOME": "", "HOME": "/h"}, own[1]),
        ):
            self.assertEqual(defaultPlaces(environ), [first, SYSTEM_CONFIG], environ)

    def test_relativeFoldersAreIgnored(self) -> None:
        own = "/h/.config/ptunnel/tunnels.ini"
        self.assertEqual(
            defaultPlaces({"XDG_CONFIG_HOME": "x", "HOME": "/h"}), [own, SYSTEM_CONFIG]
        )
        for environ in {}, {"HOME": ""}, {"HOME": "h"}, {"XDG_CONFIG_HOME": "x", "HOME": "h"}:
            self.assertEqual(defaultPlaces(environ), [SYSTEM_CONFIG], environ)

    def test_whereTheVariableNamesAFileOrNoneThereIsNoDefault(self) -> None:
        for name in "/etc/other.ini", "":
            self.assertEqual(defaultPlaces({"PTUNNEL_CONFIG": name, "HOME": "/h"}), [])


class NoProxyTests(SynchronousTestCase):
    def assertBypassed(self, entries: str, *hosts: str) -> None:
        for host in hosts:
            self.assertTrue(isBypassed({"no_proxy": entries}, host, 993), (entries, host))

    def assertNotBypassed(self, entries: str, *hosts: str) -> None:
        for host in hosts:
            self.assertFalse(isBypassed({"no_proxy": entries}, host, 993), (entries, host))

    def test_aSuffixMatchesOnLabelBoundaries(self) -> None:
        for entry in "example.com", ".example.com", "*.example.com", "EXAMPLE.com", "example.com.":
            self.assertBypassed(
                entry, "example.com", "a.b.example.com", "Example.COM", "example.com."
            )
            self.assertNotBypassed(entry, "anexample.com", "example.com.org", "com", "xample.com")

    def test_theStarMatchesEverything(self) -> None:
        self.assertBypassed("*", "example.com", "10.0.0.1", "::1")

    def test_commasAndSpacesSeparate(self) -> None:
        self.assertBypassed(
            " a.example, b.example c.example\t,,d.example", "b.example", "d.example"
        )

    def test_addressesMatchExactly(self) -> None:
        self.assertBypassed("10.0.0.1,::1,[2001:db8::2]", "10.0.0.1", "::1", "2001:db8::2")
        self.assertNotBypassed("0.0.1, .0.0.1, 10.0.0.1", "110.0.0.1", "10.0.0.10", "::1")

    def test_networksMatchTheAddressesInThem(self) -> None:
        self.assertBypassed("10.0.0.0/8 [fd00::]/8", "10.9.8.7", "fd12::1")
        self.assertBypassed("10.1.2.3/8, fd00::/8", "10.9.8.7", "fd12::1")
        self.assertNotBypassed("10.0.0.0/8 fd00::/8", "11.0.0.1", "fe80::1", "host")

    def test_lowerCaseComesFirstAndEmptyIsUnset(self) -> None:
        self.assertFalse(isBypassed({"no_proxy": "a", "NO_PROXY": "b"}, "b", 1))
        self.assertTrue(isBypassed({"no_proxy": "", "NO_PROXY": "b"}, "b", 1))
        self.assertFalse(isBypassed({}, "b", 1))

    def test_anEntryWithAPortIsForThatPort(self) -> None:
        for entry, host in (
            ("example.com:993", "a.example.com"),
            ("10.0.0.0/8:993", "10.1.2.3"),
            ("10.0.0.1:993", "10.0.0.1"),
            ("[2001:db8::1]:993", "2001:db8::1"),
            ("[2001:db8::/32]:993", "2001:db8::1"),
            ("[2001:db8::]/32:993", "2001:db8::1"),
        ):
            self.assertBypassed(entry, host)
            self.assertNotBypassed(entry.replace(":993", ":994"), host)
            self.assertEqual(bypassWarnings({"no_proxy": entry}), [])

    def test_anEntryInBracketsIsAnAddress(self) -> None:
        for entry in "[2001:db8::1]", "[2001:db8::]/32", "2001:DB8::1", "2001:db8::/32":
            self.assertBypassed(entry, "2001:db8::1")
            self.assertNotBypassed(entry, "2001:db9::1", "host")

    def test_anInternationalNameIsTheOneInAscii(self) -> None:
        self.assertBypassed("bücher.example", "www.xn--bcher-kva.example")

    def test_anEntryThatMatchesNothingIsWarnedOf(self) -> None:
        for entry in (
            *("http://example.com", "10.0.0.0/33", "10.*", "192.168.", "example.com:0"),
            *("example.com:99999", "a:b", "<local>", "[::1", "fe80::1%eth0", "*.", "ex?mple.com"),
        ):
            [warning] = bypassWarnings({"NO_PROXY": f"good.example,{entry}"})
            self.assertEqual(
                warning,
                f'NO_PROXY: "{entry}" matches nothing; write a name, an address, a network such '
                "as 10.0.0.0/8, or one of them with :PORT",
            )
            self.assertNotBypassed(entry, "example.com", "10.0.0.1", "192.168.0.1", "::1")
        good = "*, example.com .example.com *.example.com 10.0.0.0/8 10.1.2.3/8 ::1 fd00::/8"
        self.assertEqual(bypassWarnings({"no_proxy": good, "NO_PROXY": "http://x"}), [])

    @given(st.text(), st.text(), st.integers(1, 65535))
    def test_anEntryWithAWarningMatchesNothing(self, entry: str, host: str, port: int) -> None:
        environ = {"no_proxy": entry}
        entries = [e for e in re.split(r"[,\s]+", entry) if e]
        if len(bypassWarnings(environ)) == len(entries):
            self.assertFalse(isBypassed(environ, host, port))

    @given(st.text(), st.text())
    def test_noEntryIsAnError(self, entries: str, host: str) -> None:
        isBypassed({"no_proxy": entries}, host, 993)
