"""One word to one value: `ptunnel.config.parsers.words` and `ptunnel.config.parsers.addresses`."""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config import (
    EndpointListen,
    TcpListen,
    UnixListen,
    parseDuration,
    parseHeaders,
    parseHostPort,
    parseListen,
    parseListenHost,
    parseNetworks,
    parseProxy,
    parseTunnel,
)
from ptunnel.config.parsers.addresses import parseHost, parseHostAndPort, parseTrusted
from ptunnel.config.parsers.words import (
    choice,
    parseAlpn,
    parseLimit,
    parseRate,
    parseThrough,
    parseVia,
    parseWorkers,
    parseYesNo,
    show,
)
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import hostPort
from ptunnel.tls import TlsSettings

CANARY = "c4n4ry"

labels = st.from_regex(r"[A-Za-z]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
addresses = st.ip_addresses().map(str)
hosts = names | addresses
ports = st.integers(1, 65535)
# What people get wrong, and not only noise.
words = st.text() | st.text(alphabet="[]:@/%?#.,*-_ 0123456789abxé١\n\r\x00", max_size=40)

PARSERS: list[Callable[[str], object]] = [
    parseAlpn,
    parseDuration,
    parseHeaders,
    parseHost,
    parseHostPort,
    parseLimit,
    parseRate,
    parseListen,
    parseListenHost,
    parseNetworks,
    parseProxy,
    parseThrough,
    parseTrusted,
    parseTunnel,
    parseVia,
    choice("a", "b"),
]


class WordsTestCase(SynchronousTestCase):
    def assertWrong(self, parse: Callable[[str], object], text: str, reason: str) -> None:
        """The parser's error is the text in quotes and something that begins with this reason."""
        error = self.assertRaises(ConfigError, parse, text)
        self.assertIn(f"{show(text)}: {reason}", str(error))


class AnyTextTests(WordsTestCase):
    @given(words)
    def test_anythingIsAValueOrOneLineOfConfigError(self, text: str) -> None:
        for parse in PARSERS:
            try:
                parse(text)
            except ConfigError as e:
                self.assertTrue(str(e).isprintable(), repr(str(e)))
                self.assertLess(len(str(e)), 400)

    @given(words)
    @example("é" * 300 + ":1")
    @example("http://proxy\udc80:1")
    def test_aHostIsAlwaysOneThatARequestMayCarry(self, text: str) -> None:
        for suffix in "", ":993":
            try:
                host, port = parseHostPort(text + suffix)
            except ConfigError:
                continue
            self.assertNotRegex(host, r"[^!-~]|[/?#@\[\]]")
            self.assertTrue(0 < port < 65536)
            self.assertEqual(parseHostPort(hostPort(host, port)), (host, port))


class ShowTests(SynchronousTestCase):
    def test_controlCharactersAreEscaped(self) -> None:
        self.assertEqual(show("a\n\x00\u202e\udc80"), '"a\\n\\x00\\u202e\\udc80"')

    def test_longTextIsShortened(self) -> None:
        self.assertEqual(show("x" * 1000), '"' + "x" * 77 + '..."')

    def test_aPasswordBeforeAnAtSignIsHidden(self) -> None:
        self.assertEqual(show(f"http://alice:{CANARY}@proxy:1"), '"http://alice:***@proxy:1"')
        self.assertEqual(show(f"alice:{CANARY}@proxy:1"), '"alice:***@proxy:1"')
        self.assertEqual(show(f"http://a:{CANARY}/@{CANARY}@proxy"), '"http://a:***@proxy"')
        self.assertEqual(show(f"a@b.c:{CANARY}@proxy"), '"a@b.c:***@proxy"')
        self.assertEqual(show(f" 'http://a:{CANARY}@proxy"), '" \'http://a:***@proxy"')

    def test_nothingElseIs(self) -> None:
        for text in "alice@host:22", "http://alice@proxy:1", "http://proxy:1 # x", "a:b":
            self.assertEqual(show(text), f'"{text}"')

    @given(st.text(), st.text().filter(lambda text: "@" not in text))
    def test_noPasswordIsShownWhereverItsAtSignStands(self, before: str, after: str) -> None:
        self.assertNotIn(CANARY, show(f"http://alice:{CANARY}{before}@{after}"))


class HostPortTests(WordsTestCase):
    @given(hosts, ports)
    def test_hostAndPortComeBack(self, host: str, port: int) -> None:
        self.assertEqual(parseHostPort(hostPort(host, port)), (host, port))

    def test_internationalNamesAreEncoded(self) -> None:
        self.assertEqual(parseHostPort("Bücher.example:1"), ("xn--bcher-kva.example", 1))

    def test_aNameMayEndInADot(self) -> None:
        self.assertEqual(parseHostPort("imap.gmail.com.:993"), ("imap.gmail.com.", 993))

    def test_aPortIsRequired(self) -> None:
        error = self.assertRaises(ConfigError, parseHostPort, "imap.gmail.com")
        self.assertEqual(
            str(error),
            '"imap.gmail.com": a port is missing; write host:port, for example imap.gmail.com:993',
        )

    def test_aPortIsAnASCIINumberFrom1To65535(self) -> None:
        for port in "0", "65536", "-1", "+1", " 1", "1_0", "١", "²", "0x1", "1.0", "", "000001":
            self.assertWrong(
                parseHostPort, f"host:{port}", "the port must be a number from 1 to 65535"
            )

    def test_aHostIsRequired(self) -> None:
        self.assertWrong(parseHostPort, ":993", "a host is missing")
        self.assertWrong(parseHostPort, "", "a host is missing")

    def test_IPv6NeedsBrackets(self) -> None:
        for text in "::1:993", "2001:db8::1", "1:2:3:4:5:6:7:8:993":
            self.assertWrong(parseHostPort, text, "an IPv6 address needs brackets")

    def test_bracketsHoldAValidIPv6AddressWithoutAZone(self) -> None:
        for inside in "", "1.2.3.4", "host", "::g", "fe80::1%eth0", "1::2::3":
            self.assertWrong(parseHostPort, f"[{inside}]:1", "not an IPv6 address in brackets")

    def test_anAddressOfNumbersIsAValidIPv4One(self) -> None:
        for host in "443", "127.1", "256.0.0.1", "01.2.3.4", "1.2.3.4.":
            self.assertWrong(parseHostPort, f"{host}:1", "not a valid IPv4 address")

    def test_aHostHasNoSchemeUserPathSpaceOrControl(self) -> None:
        for host in [*"*@?#%", "h/p", "h\0", "a..b", "-a", "%41", "u@h"]:
            self.assertWrong(parseHostPort, f"{host}:1", "not a host name or address")
        for host in "h h", "h\r\nX", "h ", "h\r", "h\u200b":
            self.assertWrong(parseHostPort, f"{host}:1", "white space stands in it")
        for text in "http://host:1", "http://host", "[::1", "h]:1", "[::1]x:1", "a:b:1":
            self.assertRaises(ConfigError, parseHostPort, text)

    def test_namesAreNoLongerThanDNSAllows(self) -> None:
        self.assertWrong(parseHostPort, f"{'a' * 64}.example:1", "not a host name or address")
        self.assertWrong(parseHostPort, f"{'a.' * 127}com:1", "not a host name or address")


class HostTests(WordsTestCase):
    def test_aNameOrAnAddressWithOrWithoutBrackets(self) -> None:
        for text, host in (
            ("proxy.example", "proxy.example"),
            ("Bücher.example", "xn--bcher-kva.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[::1]", "::1"),
        ):
            self.assertEqual(parseHost(text), host)

    def test_nothingElse(self) -> None:
        for text in "", "proxy:1", "https://proxy", "*.example", "a b", "u@h":
            self.assertWrong(parseHost, text, "")


class TunnelTests(WordsTestCase):
    @given(hosts, st.integers(0, 65535), hosts, ports)
    def test_aTunnelComesBack(self, listen: str, local: int, host: str, port: int) -> None:
        word = f"{hostPort(listen, local)}:{hostPort(host, port)}"
        self.assertEqual(parseTunnel(word), (TcpListen(listen, local), host, port))

    def test_withoutAListenHostItIsTheGivenOne(self) -> None:
        self.assertEqual(parseTunnel("9993:[::1]:993", "::2"), (TcpListen("::2", 9993), "::1", 993))
        self.assertEqual(parseTunnel("0:h:1"), (TcpListen("127.0.0.1", 0), "h", 1))

    def test_threeOrFourPartsAreATunnel(self) -> None:
        for word in "", "9993", "host:993", "a:1:b:2:c", "9993:::1:993":
            self.assertWrong(
                parseTunnel,
                word,
                "not a tunnel; write [LISTEN_HOST:]LOCAL_PORT:REMOTE_HOST:REMOTE_PORT",
            )

    def test_eachPortIsNamed(self) -> None:
        self.assertWrong(parseTunnel, "x:h:1", "LOCAL_PORT must be a number from 0 to 65535")
        self.assertWrong(parseTunnel, "1:h:0", "REMOTE_PORT must be a number from 1 to 65535")
        self.assertWrong(parseTunnel, "1:h:65536", "REMOTE_PORT must be a number")

    def test_emptyHostsAreRefused(self) -> None:
        self.assertWrong(parseTunnel, ":1:h:1", "a host is missing")
        self.assertWrong(parseTunnel, "1::1", "a host is missing")


class ProxyTests(WordsTestCase):
    def test_hostAndPort(self) -> None:
        proxy = parseProxy("proxy.example:3128")
        self.assertEqual((proxy.host, proxy.port), ("proxy.example", 3128))
        self.assertEqual(proxy.name, "proxy.example:3128")
        self.assertEqual((proxy.username, proxy.password), (None, None))
        self.assertEqual((proxy.auth, proxy.tls, proxy.through), ("auto", None, None))

    def test_anHttpsURLMeansTLSVerifiedByTheSystemsRoots(self) -> None:
        proxy = parseProxy("HTTPS://proxy.example/")
        self.assertEqual((proxy.name, proxy.port), ("proxy.example:443", 443))
        self.assertEqual(proxy.tls, TlsSettings(alpn=("http/1.1",)))
        assert proxy.tls is not None
        self.assertTrue(proxy.tls.verify)
        self.assertEqual(parseProxy("https://a:b@proxy:3128").port, 3128)

    def test_anIPv6ProxyIsNamedWithBrackets(self) -> None:
        proxy = parseProxy("http://[2001:DB8::1]:8080/")
        self.assertEqual((proxy.name, proxy.host), ("[2001:db8::1]:8080", "2001:db8::1"))

    def test_aURLWithoutAPortIs1080(self) -> None:
        self.assertEqual(parseProxy("HTTP://proxy").port, 1080)

    def test_aWordWithoutAPortIsRefusedUnlessADefaultIsGiven(self) -> None:
        self.assertWrong(parseProxy, "proxy", "a port is missing; write host:port, http://")
        self.assertEqual(parseProxy("proxy", defaultPort=1080).port, 1080)

    @given(
        st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=":")),
        st.text(st.characters(exclude_categories=["Cc", "Cs"])),
        hosts,
        ports,
    )
    def test_percentEncodedCredentialsComeBack(
        self, user: str, password: str, host: str, port: int
    ) -> None:
        def quote(text: str) -> str:
            return "".join(f"%{byte:02x}" for byte in text.encode())

        proxy = parseProxy(f"http://{quote(user)}:{quote(password)}@{hostPort(host, port)}/")
        self.assertEqual((proxy.username, proxy.password), (user, Secret(password)))
        self.assertEqual((proxy.host, proxy.port), (host, port))

    def test_aUserAloneHasAnEmptyPassword(self) -> None:
        proxy = parseProxy("http://alice@proxy:1")
        self.assertEqual((proxy.username, proxy.password), ("alice", Secret("")))

    def test_theLastAtSignEndsTheUserinfo(self) -> None:
        proxy = parseProxy("http://a@b.c:p@w@proxy:1")
        self.assertEqual((proxy.username, proxy.password), ("a@b.c", Secret("p@w")))

    def test_emptyUserinfoIsNone(self) -> None:
        self.assertIsNone(parseProxy("http://@proxy:1").username)

    def test_otherSchemesAreRefused(self) -> None:
        for scheme in "socks", "socks4", "SOCKS4a":  # curl takes the first one for the second
            what = (
                "SOCKS4 is not spoken with proxies; write socks5h://host:port if it speaks SOCKS5"
            )
            self.assertWrong(parseProxy, f"{scheme}://p:1", what)
        for scheme in "ftp", "socks6", "socks5hh":
            self.assertWrong(parseProxy, f"{scheme}://p:1", "not a proxy's scheme")

    def test_aSocksProxyIsAtPort1080AndHasNoTLS(self) -> None:
        for text, name, protocol in (
            ("socks5://proxy", "proxy:1080", "socks5"),
            ("SOCKS5H://proxy/", "proxy:1080", "socks5h"),
            ("socks5h://[2001:db8::1]:9050", "[2001:db8::1]:9050", "socks5h"),
        ):
            proxy = parseProxy(text)
            self.assertEqual((proxy.name, proxy.protocol, proxy.tls), (name, protocol, None))
            self.assertTrue(proxy.isSocks)
        self.assertFalse(parseProxy("http://proxy").isSocks)

    def test_aUserAndPasswordMustFitIntoSocks(self) -> None:
        most = "x" * 255
        self.assertEqual(parseProxy(f"socks5://{most}:{most}@p").username, most)
        self.assertWrong(parseProxy, "socks5://:word@p", "SOCKS needs a user name")
        for userinfo, what in (
            (f"{most}x:word", "user name"),
            (f"alice:{most}x", "password"),
            (f"alice:{'é' * 128}", "password"),
        ):
            error = self.assertRaises(ConfigError, parseProxy, f"socks5h://{userinfo}@p")
            self.assertIn(f": the {what} is longer than the 255 bytes of SOCKS", str(error))

    def test_aPathIsRefused(self) -> None:
        for text in "http://p:1/x", "http://p:1//", "http://p/?x", "p:1//", "p:1/x", "http:/p:1":
            self.assertRaises(ConfigError, parseProxy, text)

    def test_aLoneSlashBehindItIsNone(self) -> None:
        for text in "p:1/", "http://p:1/", "u:p@p:1/":
            self.assertEqual(parseProxy(text).name, "p:1")

    def test_whatEndsAnAuthorityMustBeEncodedInAPassword(self) -> None:
        self.assertWrong(parseProxy, "http://a:p/w@proxy:1", "in a user or password, write / as")

    def test_credentialsThatBasicCannotCarryAreRefused(self) -> None:
        self.assertWrong(parseProxy, "http://a%3Ab:c@proxy:1", "a user name must not hold a colon")
        self.assertWrong(parseProxy, "http://a:%0d@proxy:1", "a password must not hold control")
        self.assertWrong(parseProxy, "http://a:%ff@proxy:1", "the user or password is not UTF-8")
        self.assertWrong(parseProxy, "http://a:\udc80@p:1", "a password must be text that UTF-8")

    def test_aURLCutOffInItsPasswordDoesNotShowIt(self) -> None:
        for text in f"http://alice:{CANARY}", f"alice:{CANARY}", f"http:alice:{CANARY}":
            error = self.assertRaises(ConfigError, parseProxy, text)
            self.assertNotIn(CANARY, str(error))
            self.assertIn(':***": ', str(error))

    def test_whatStandsBehindThePortIsShownAndNamed(self) -> None:
        for behind, reason in (
            (" # comment", "a # and what stands behind it are read as part of it"),
            (" ; comment", "a ; and what stands behind it are read as part of it"),
            ("\r", "a carriage return stands behind it"),
            (",q:1", "not a host and a port"),
        ):
            error = self.assertRaises(ConfigError, parseProxy, f"http://p:1{behind}")
            shown = f"http://p:1{behind}".replace("\r", "\\r")
            self.assertTrue(str(error).startswith(f'"{shown}": {reason}'), str(error))

    @given(words, words)
    @example("\r", "")
    @example("%ff", "proxy:1")
    def test_noErrorShowsAPassword(self, noise: str, rest: str) -> None:
        rest = rest.replace("@", "")
        for scheme in "", "http://", "https://", "socks5://", "socks4://", "nonsense:/":
            try:
                proxy = parseProxy(f"{scheme}alice:{CANARY}{noise}@{rest}")
            except ConfigError as e:
                self.assertNotIn(CANARY, str(e))
                self.assertIsNone(e.__cause__)
            else:
                self.assertNotIn(CANARY, repr(proxy))


class SlipTests(WordsTestCase):
    """What stands around an address and is no part of it is named for what it is."""

    parsers = (
        (parseHostPort, "imap.example:993"),
        (parseHost, "imap.example"),
        (parseListenHost, "127.0.0.1"),
        (parseTunnel, "9993:imap.example:993"),
        (parseProxy, "http://proxy.example:3128"),
        (parseListen, "127.0.0.1:9993"),
        (parseNetworks, "10.0.0.0/8"),
    )

    def assertNamed(self, before: str, behind: str, reason: str) -> None:
        for parse, text in self.parsers:
            parse(text)
            self.assertWrong(parse, f"{before}{text}{behind}", reason)

    def test_whiteSpace(self) -> None:
        for blank in " ", "\t", "\u00a0", "\u200b", "\ufeff", "  ":
            self.assertNamed(blank, "", "white space stands before it; take it out")
            self.assertNamed("", blank, "white space stands behind it; take it out")

    def test_lineEnds(self) -> None:
        self.assertNamed("", "\n", "a line break stands behind it")
        self.assertNamed("", "\r", "a carriage return stands behind it, as in files from Windows")
        self.assertNamed("", "\r\n", "a carriage return stands behind it, as in files from Windows")

    def test_quotes(self) -> None:
        for before, behind in ("'", "'"), ('"', '"'), ("\u201c", "\u201d"), ("", '"'), ("'", ""):
            self.assertNamed(before, behind, "quotes stand around it, and are read as part of it")

    def test_comments(self) -> None:
        for mark in "#", ";":
            self.assertNamed("", f" {mark} mail", f"a {mark} and what stands behind it")

    def test_butQuotesAndMarksMayBePartOfAPassword(self) -> None:
        proxy = parseProxy("'a:b ;c'@proxy:1")
        self.assertEqual((proxy.username, proxy.password), ("'a", Secret("b ;c'")))

    def test_aURLWhereNoneBelongs(self) -> None:
        for parse, text in (
            (parseHostPort, "https://imap.example:993"),
            (parseHostPort, "https://imap.example/"),
            (parseTunnel, "9993:https://imap.example:993"),
            (parseListen, "127.0.0.1:http://x"),
        ):
            error = str(self.assertRaises(ConfigError, parse, text))
            self.assertRegex(error, r"https?:// does not belong here; write ", text)


class TwoWordsTests(WordsTestCase):
    """A target as git's gitproxy and ssh's %h %p have it."""

    @given(hosts, ports)
    def test_hostAndPortComeBack(self, host: str, port: int) -> None:
        self.assertEqual(parseHostAndPort(host, str(port)), (host, port))

    def test_bracketsAreNotNeededAndNoHarm(self) -> None:
        for host in "2001:DB8::5", "[2001:db8::5]":
            self.assertEqual(parseHostAndPort(host, "22"), ("2001:db8::5", 22))
        self.assertEqual(parseHostAndPort("::1", "22"), ("::1", 22))

    @given(words, words)
    def test_anythingIsATargetOrOneLineOfConfigError(self, host: str, port: str) -> None:
        try:
            found, number = parseHostAndPort(host, port)
        except ConfigError as e:
            self.assertTrue(str(e).isprintable(), repr(str(e)))
        else:
            self.assertEqual(parseHostPort(hostPort(found, number)), (found, number))

    def test_aPortInTheHostIsAMistake(self) -> None:
        for host, port in ("host:22", "22"), ("host", "ssh"), ("host", ""), ("", "22"):
            self.assertRaises(ConfigError, parseHostAndPort, host, port)


class DurationTests(WordsTestCase):
    def test_unitsAreMillisecondsSecondsMinutesAndHours(self) -> None:
        for text, seconds in (
            ("30", 30),
            ("30s", 30),
            ("5m", 300),
            ("1h", 3600),
            ("500ms", 0.5),
            ("480h", 480 * 3600),
        ):
            self.assertEqual(parseDuration(text), seconds)

    def test_zeroIsNone(self) -> None:
        for text in "0", "0s", "0ms", "00":
            self.assertIsNone(parseDuration(text))

    def test_anythingElseIsRefused(self) -> None:
        for text in "", "s", "1d", "-1", "+1", "1.5s", "1 s", "1S", "١", "1e3", "inf", "1m30s":
            self.assertWrong(parseDuration, text, "not a duration; write 30, 30s, 5m, 1h")

    def test_whatAReactorCannotWaitForIsRefused(self) -> None:
        self.assertWrong(parseDuration, "481h", "longer than 480h; write 0 for none")
        self.assertWrong(parseDuration, "999999999h", "longer than 480h")


class LimitTests(WordsTestCase):
    def test_zeroIsNone(self) -> None:
        self.assertIsNone(parseLimit("0"))
        self.assertEqual(parseLimit("1000"), 1000)

    def test_absurdNumbersAreRefused(self) -> None:
        for text in "", "-1", "1000001", "9" * 5000, "1k", "١":
            self.assertWrong(parseLimit, text, "not a number from 1 to 1000000, or 0")


class RateTests(WordsTestCase):
    def test_itIsANumberOfSessionsASecond(self) -> None:
        for text, rate in (("20", 20.0), ("0.5", 0.5), ("0", None), ("0.000", None)):
            self.assertEqual(parseRate(text), rate)

    def test_anythingElseIsRefused(self) -> None:
        for text in "", "-1", "5/s", "1e3", "nan", ".5", "0.0001", "9" * 7, "١":
            self.assertWrong(parseRate, text, "not a number of sessions a second; write 20 or")


class ListenTests(WordsTestCase):
    def test_aPortIsOfThisMachineOnly(self) -> None:
        self.assertEqual(parseListen("9993"), TcpListen("127.0.0.1", 9993))
        self.assertEqual(parseListen("0"), TcpListen("127.0.0.1", 0))

    @given(hosts, st.integers(0, 65535))
    def test_hostAndPortComeBack(self, host: str, port: int) -> None:
        listen = TcpListen(host, port)
        if host not in ("tcp", "tcp4", "tcp6", "unix"):
            self.assertEqual(parseListen(str(listen)), listen)

    def test_aHostOrATypeOfEndpointAlone(self) -> None:
        for text in "systemd:", "tcp:", "localhost:":
            self.assertWrong(parseListen, text, "nothing stands behind the colon; write port, ")

    def test_anAbsolutePathIsAUnixSocket(self) -> None:
        self.assertEqual(parseListen("unix:/run/x y"), UnixListen("/run/x y"))
        self.assertEqual(str(parseListen("unix:/run/x")), "unix:/run/x")

    def test_aUnixPathThatCannotBeBoundIsRefused(self) -> None:
        for text in "unix:", "unix:run", "unix:/a\0b", "unix:/a\nb":
            self.assertWrong(parseListen, text, "the path must begin with /")
        self.assertWrong(parseListen, "unix:/" + "é" * 54, "the path is longer than 107 bytes")

    def test_aUnixSocketMayHaveAModeOfItsOwn(self) -> None:
        self.assertEqual(parseListen("unix:/run/x"), UnixListen("/run/x", 0o600))
        for text in "unix:/run/x:mode=0660", "unix:/run/x:lockfile=0:mode=660:backlog=9":
            self.assertEqual(parseListen(text), UnixListen("/run/x", 0o660))
        self.assertEqual(parseListen("unix:address=/run/a\\:b"), UnixListen("/run/a:b"))
        for mode in "", "rw", "8", "0888", "1777", "0o660", "66":
            text = f"unix:/run/x:mode={mode}"
            self.assertWrong(parseListen, text, "the mode must be three octal digits")
        self.assertWrong(parseListen, "unix:/run/x:colour=red", '"colour=red": not known')
        self.assertWrong(parseListen, "unix:/run/x/", "the path is that of a folder")

    def test_otherWordsWithAColonAreEndpointStrings(self) -> None:
        for text in (
            "systemd:domain=INET:index=0",
            "tcp:9993",
            "tcp6:9993",
            "tcp:9993:interface=127.0.0.1",
            "ssl:443:privateKey=k.pem",
            "haproxy:tcp:9993",
            "stdio:x",
        ):
            self.assertEqual(parseListen(text), EndpointListen(text))
            self.assertEqual(str(parseListen(text)), text)

    def test_addressesWithMistakesAreNotEndpointStrings(self) -> None:
        for text, reason in (
            ("99999", "the port must be a number from 0 to 65535"),
            ("host:99999", "the port must be a number from 0 to 65535"),
            ("127.0.0.1:99x", "the port must be a number from 0 to 65535"),
            ("host:", "nothing stands behind the colon; write port, host:port"),
            ("host", "a port is missing; write port, host:port, [v6]:port, unix:/path"),
            (":9993", "a host is missing"),
            ("*:9993", "not a host name or address"),
            ("fe80::1:9993", "an IPv6 address needs brackets"),
            ("tcp:9993\n", "a line break stands behind it"),
            ("tcp:99\x7f", "an endpoint string must hold no control characters"),
        ):
            self.assertWrong(parseListen, text, reason)

    def test_aListenHostMayBeIPv6WithOrWithoutBrackets(self) -> None:
        for text in "::1", "[::1]", "0::1":
            self.assertEqual(parseListenHost(text), "::1")
        self.assertWrong(parseListenHost, "h:1", "not a host name or address; write an address")


class NetworksTests(WordsTestCase):
    @given(st.lists(st.ip_addresses() | st.ip_addresses(network="10.0.0.0/8"), min_size=1))
    def test_addressesComeBack(self, given: list[ipaddress.IPv4Address]) -> None:
        networks = parseNetworks(" , ".join(map(str, given)))
        self.assertEqual(networks, tuple(map(ipaddress.ip_network, given)))

    def test_networksAreCIDR(self) -> None:
        self.assertEqual(
            parseNetworks("127.0.0.0/8, ::1"),
            (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        )

    def test_bitsBehindTheMaskAreRefused(self) -> None:
        self.assertWrong(
            parseNetworks,
            "::1,10.0.0.1/8",
            '"10.0.0.1/8" has bits behind its mask; did you mean 10.0.0.0/8?',
        )

    def test_anythingElseIsRefused(self) -> None:
        for text in (
            "",
            "::1,",
            "localhost",
            "10",
            "10.0.0.0/33",
            "[::1]",
            "fe80::1%a",
            "1.2.3.4-5",
            "١.0.0.1",
        ):
            self.assertRaises(ConfigError, parseNetworks, text)


class ViaTests(WordsTestCase):
    @given(st.lists(labels.filter(lambda name: name != "direct"), min_size=1, unique=True))
    def test_namesComeBackInOrder(self, given: list[str]) -> None:
        self.assertEqual(parseVia(" , ".join(given)), tuple(given))
        self.assertEqual(parseVia(",".join([*given, "direct"])), (*given, "direct"))

    def test_directMustComeLast(self) -> None:
        self.assertWrong(parseVia, "direct, corp", "direct must come last: it is used when no")

    def test_emptyNamesAndRepeatedOnesAreRefused(self) -> None:
        for text in "", ",", "a,,b", "a,":
            self.assertWrong(parseVia, text, "a name is missing")
        self.assertWrong(parseVia, "a,b,a", "a name stands twice")


class HeadersTests(SynchronousTestCase):
    @given(
        st.lists(
            st.tuples(
                st.from_regex(r"X-[A-Za-z0-9!#$%&'*+.^_`|~-]*", fullmatch=True),
                st.text(string.ascii_letters + string.digits + ":;, \t\"'()@/").map(str.strip),
            ),
            min_size=1,
        )
    )
    def test_headersComeBack(self, headers: list[tuple[str, str]]) -> None:
        text = "\n".join(f"{name}: {value}" for name, value in headers)
        self.assertEqual(parseHeaders(text), tuple(headers))

    def test_whatIsNotAHeaderIsRefusedByItsNumber(self) -> None:
        for line in f"{CANARY}", f"X {CANARY}: y", f": {CANARY}", "", f"X\0{CANARY}: y":
            error = self.assertRaises(ConfigError, parseHeaders, f"X-A: b\n{line}")
            self.assertEqual(str(error), "header 2 is not a header; write Name: value, one a line")

    def test_aValueIsASCIIWithoutControls(self) -> None:
        for value in "é", "\r", "\0", "a\rb", "\x7f", "\udc80":
            error = self.assertRaises(ConfigError, parseHeaders, f"X-A: {CANARY}{value}")
            self.assertEqual(
                str(error), '"X-A": the value must be ASCII without control characters'
            )

    def test_headersThatTheRequestHasAreRefusedWithAHint(self) -> None:
        for name, hint in (
            ("Host", "it is always the target"),
            ("content-length", "a CONNECT request has no body"),
            ("Transfer-Encoding", "a CONNECT request has no body"),
            ("Proxy-Authorization", "give username and password-file instead"),
        ):
            error = self.assertRaises(ConfigError, parseHeaders, f"{name}: {CANARY}")
            self.assertEqual(str(error), f'"{name}": not allowed: {hint}')


class ChoiceTests(WordsTestCase):
    def test_otherWordsAreRefusedWithTheRightOnes(self) -> None:
        self.assertWrong(choice("text", "json"), "xml", "must be one of text, json")


class ThroughTests(WordsTestCase):
    def test_itIsOneName(self) -> None:
        self.assertEqual(parseThrough("two  words"), "two words")
        self.assertWrong(parseThrough, "a, b", "more than one name; a proxy is reached through")

    def test_directIsNoProxy(self) -> None:
        self.assertWrong(parseThrough, "direct", "direct means a connection without a proxy; leave")


class SwitchTests(SynchronousTestCase):
    def test_yesAndNoAreTheOnlyAnswers(self) -> None:
        self.assertEqual((parseYesNo("yes"), parseYesNo("no")), (True, False))
        for text in "", "true", "YES", "1":
            self.assertRaises(ConfigError, parseYesNo, text)

    def test_workersAreANumberFromOneOn(self) -> None:
        self.assertEqual((parseWorkers("1"), parseWorkers("1024")), (1, 1024))
        for text in "", "0", "-1", "1025", "two", "١":
            self.assertRaises(ConfigError, parseWorkers, text)
