"""`httpconnect:` endpoint strings: the plugin, and `ptunnel.route.clientstring`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel.auth import Credentials
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, ProxyTimeout, Unreachable
from ptunnel.route.clientstring import ARGUMENTS, parse
from tests.support import authority
from tests.support.fakes import Builder, Resolver, ResolvingReactor, acceptTCP, anyText, refuseTCP
from twisted.plugins import ptunnel_plugin

PAGE = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"
ONE, TWO = r"192.0.2.1\:3128", r"192.0.2.2\:8080"
ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"
CHALLENGE = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
SECRET = "wonder land"
# Of which each is right somewhere.
WORDS = ("p.example:1", "https://p.example", "http://u:p@p.example,http://q.example", "basic", "5m")


def basic(username: str, password: str) -> bytes:
    return b"\r\nProxy-Authorization: " + Credentials(username, password).basic() + b"\r\n"


class ClientStringTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.factory = Builder()

    def endpoint(self, text: str) -> Any:
        return clientFromString(self.reactor, f"httpconnect:{text}")

    def connect(self, text: str) -> Deferred[Any]:
        connecting: Deferred[Any] = self.endpoint(text).connect(self.factory)
        return connecting

    def dialled(self) -> list[tuple[str, int]]:
        return [client[:2] for client in self.reactor.tcpClients]

    def passwordFile(self, text: str = f"{SECRET}\n") -> str:
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        return str(path)


class PluginTests(ClientStringTestCase):
    def test_itIsAParserAndAPlugin(self) -> None:
        parser = ptunnel_plugin.httpConnect
        for interface in IPlugin, IStreamClientEndpointStringParserWithReactor:
            verifyObject(interface, parser)

    def test_twistedFindsOneAndNoMore(self) -> None:
        found = getPlugins(IStreamClientEndpointStringParserWithReactor)
        ours = [parser for parser in found if parser.prefix == "httpconnect"]
        self.assertEqual(ours, [ptunnel_plugin.httpConnect])

    def test_theNameMayBeWrittenInAnyCase(self) -> None:
        endpoint = clientFromString(self.reactor, f"HTTPConnect:a.example:1:proxy={ONE}")
        verifyObject(IStreamClientEndpoint, endpoint)

    def test_argumentsThatPythonWouldTakeForItsOwnAreMistakes(self) -> None:
        for name in "self", "reactor", "args":
            with self.assertRaises(ValueError):
                self.endpoint(f"a.example:1:proxy={ONE}:{name}=x")


class ConnectTests(ClientStringTestCase):
    def test_nothingIsStartedBeforeItConnects(self) -> None:
        endpoint = self.endpoint(f"imap.example:993:proxy={ONE},{TWO}")
        self.assertEqual((self.dialled(), self.reactor.getDelayedCalls()), ([], []))
        endpoint.connect(self.factory)
        self.assertEqual(self.dialled(), [("192.0.2.1", 3128)])

    def test_theTargetIsWhatTheProxyIsAskedFor(self) -> None:
        for target, asked in (
            ("imap.example:993", b"imap.example:993"),
            ("192.0.2.9:1", b"192.0.2.9:1"),
            (r"2001\:db8\:\:1:993", b"[2001:db8::1]:993"),
            (r"[2001\:DB8\:\:1]:993", b"[2001:db8::1]:993"),
            ("bücher.example:1", b"xn--bcher-kva.example:1"),
        ):
            self.setUp()
            connecting = self.connect(f"{target}:proxy={ONE}")
            transport = acceptTCP(self.reactor)
            self.assertTrue(transport.value().startswith(b"CONNECT " + asked + b" HTTP/1.1\r\n"))
            transport.receive(ESTABLISHED + b"hello")
            protocol = self.successResultOf(connecting)
            self.assertEqual(([protocol], protocol.received), (self.factory.built, b"hello"))

    def test_theProxyMayBeAnIPv6Address(self) -> None:
        for proxy in r"[2001\:db8\:\:2]\:3128", r"http\://[2001\:db8\:\:2]\:3128/":
            self.setUp()
            self.connect(f"imap.example:993:proxy={proxy}")
            self.assertEqual(self.dialled(), [("2001:db8::2", 3128)])

    def test_aNameIsResolvedWhenItConnects(self) -> None:
        resolver = Resolver("192.0.2.7")
        self.reactor = ResolvingReactor(resolver)
        endpoint = self.endpoint(r"imap.example:993:proxy=proxy.example\:3128")
        self.assertEqual(resolver.asked, [])
        endpoint.connect(self.factory)
        self.reactor.advance(0)
        self.assertEqual(
            (resolver.asked, self.dialled()), (["proxy.example"], [("192.0.2.7", 3128)])
        )

    def test_severalProxiesAreAChainInTheirOrder(self) -> None:
        for proxies in f"{ONE},{TWO}", rf"http\://{ONE},http\://{TWO}/":
            self.setUp()
            connecting = self.connect(f"imap.example:993:proxy={proxies}")
            transport = acceptTCP(self.reactor)
            self.assertIn(b"CONNECT 192.0.2.2:8080 ", transport.value())
            transport.clear()
            transport.receive(ESTABLISHED)
            self.assertIn(b"CONNECT imap.example:993 ", transport.value())
            transport.receive(ESTABLISHED)
            self.assertEqual([self.successResultOf(connecting)], self.factory.built)
            self.assertEqual(self.dialled(), [("192.0.2.1", 3128)])

    def test_anHttpsProxyIsSpokenToInTLS(self) -> None:
        path = quoteStringArgument(authority.authority().cert)
        for more in "", f":caFile={path}":
            self.setUp()
            self.connect(rf"imap.example:993:proxy=https\://{ONE}{more}")
            transport = acceptTCP(self.reactor)
            transport.protocol.transport.write(b"")
            self.assertEqual(transport.value()[:2], b"\x16\x03")
            self.assertNotIn(b"imap.example", transport.value())

    def test_cancellingAbortsTheConnection(self) -> None:
        connecting = self.connect(f"imap.example:993:proxy={ONE}")
        transport = acceptTCP(self.reactor)
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertTrue(transport.aborted)

    def test_aProxyThatCannotBeReachedIsNamed(self) -> None:
        connecting = self.connect(f"imap.example:993:proxy={ONE}")
        refuseTCP(self.reactor, OSError(111, "refused"))
        error = self.failureResultOf(connecting, Unreachable).value
        self.assertEqual(error.hop, "192.0.2.1:3128")

    def test_theTimeoutIsForTheWholeAttempt(self) -> None:
        for more, seconds in ("", 30), (":timeout=5", 5), (":timeout=2m", 120):
            self.setUp()
            connecting = self.connect(f"imap.example:993:proxy={ONE}{more}")
            acceptTCP(self.reactor)
            self.reactor.advance(seconds - 0.1)
            self.assertNoResult(connecting)
            self.reactor.pump([0.5] * 4)
            self.failureResultOf(connecting, ProxyTimeout)

    def test_aTimeoutOfZeroIsNone(self) -> None:
        connecting = self.connect(f"imap.example:993:proxy={ONE}:timeout=0")
        acceptTCP(self.reactor)
        self.reactor.pump([3600.0] * 4)
        self.assertNoResult(connecting)


class CredentialsTests(ClientStringTestCase):
    def challenged(self, text: str) -> Any:
        """The second request, and the transport that it came on."""
        connecting = self.connect(text)
        transport = acceptTCP(self.reactor)
        self.assertNotIn(b"Authorization", transport.value())
        transport.clear()
        transport.receive(CHALLENGE)
        return connecting, transport

    def test_thoseOfTheURLAreDecodedAndSentWhenTheyAreAskedFor(self) -> None:
        for userinfo, password in (
            ("alice:p%40ss%3A%2C", "p@ss:,"),
            (r"alice:a=b\:c", "a=b:c"),
            # Commas that are no ends of URLs, percent-encoded or not.
            ("alice:12,34", "12,34"),
        ):
            self.setUp()
            quoted = userinfo.replace("alice:", r"alice\:")
            _, transport = self.challenged(rf"a.example:1:proxy=http\://{quoted}@{ONE}")
            self.assertIn(basic("alice", password), transport.value())

    def test_eachProxyOfAChainGetsItsOwn(self) -> None:
        chain = rf"http\://alice\:one@{ONE},http\://bob\:two@{TWO}"
        _, transport = self.challenged(f"a.example:1:proxy={chain}")
        self.assertIn(basic("alice", "one"), transport.value())
        transport.clear()
        transport.receive(ESTABLISHED)
        transport.receive(CHALLENGE)
        self.assertIn(basic("bob", "two"), transport.value())
        self.assertNotIn(basic("alice", "one"), transport.value())

    def test_aPasswordFileIsReadWhenItIsNeeded(self) -> None:
        path = self.passwordFile("old")
        text = f"a.example:1:proxy={ONE}:username=alice:passwordFile={path}"
        endpoint = self.endpoint(text)
        Path(path).write_text("new")
        endpoint.connect(self.factory)
        transport = acceptTCP(self.reactor)
        transport.receive(CHALLENGE)
        self.assertIn(basic("alice", "new"), transport.value())

    def test_aFileIsMeantAsItWasWhenTheStringWasRead(self) -> None:
        path = Path(self.passwordFile())
        endpoint = self.endpoint(
            f"a.example:1:proxy={ONE}:username=alice:passwordFile={path}:auth=basic"
        )
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        connecting = endpoint.connect(self.factory)
        self.assertNoResult(connecting)
        self.assertIn(basic("alice", SECRET), acceptTCP(self.reactor).value())

    def test_aFileThatIsGoneByThenFailsTheConnection(self) -> None:
        path = self.passwordFile()
        text = f"a.example:1:proxy={ONE}:username=alice:passwordFile={path}:auth=basic"
        endpoint = self.endpoint(text)
        Path(path).unlink()
        self.failureResultOf(endpoint.connect(self.factory), CredentialsUnavailable)
        self.assertEqual(self.dialled(), [])

    def test_theyAreTheLastProxys(self) -> None:
        path = self.passwordFile()
        more = f"username=alice:passwordFile={path}:auth=basic"
        self.connect(f"a.example:1:proxy={ONE},{TWO}:{more}")
        transport = acceptTCP(self.reactor)
        self.assertNotIn(b"Authorization", transport.value())
        transport.receive(ESTABLISHED)
        self.assertIn(basic("alice", SECRET), transport.value())

    def test_withAuthNoneNobodyGetsThem(self) -> None:
        text = rf"a.example:1:proxy=http\://alice\:one@{ONE}:auth=none"
        connecting = self.connect(text)
        acceptTCP(self.reactor).receive(CHALLENGE)
        self.failureResultOf(connecting, CredentialsRefused)

    def test_equalStringsShareNoState(self) -> None:
        text = rf"a.example:1:proxy=http\://alice\:one@{ONE}:auth=basic"
        one, two = self.endpoint(text), self.endpoint(text)
        connecting = one.connect(self.factory)
        acceptTCP(self.reactor).receive(CHALLENGE)
        self.failureResultOf(connecting, CredentialsRefused)
        # The one leaves the account alone for a while; the other has not heard of it.
        self.failureResultOf(one.connect(self.factory), CredentialsRefused)
        self.assertEqual(len(self.dialled()), 1)
        two.connect(self.factory)
        self.assertEqual(len(self.dialled()), 2)


class MistakeTests(ClientStringTestCase):
    def mistake(self, text: str) -> str:
        with self.assertRaises(ValueError) as raised:
            self.endpoint(text)
        message = str(raised.exception)
        self.assertTrue(message.startswith("httpconnect: "), message)
        self.assertTrue(message.isprintable(), message)
        self.assertIs(type(raised.exception), ValueError)
        return message.removeprefix("httpconnect: ")

    def test_eachIsSaid(self) -> None:
        path, empty = self.passwordFile(), self.passwordFile("")
        cert = quoteStringArgument(authority.authority().cert)
        form = r"write httpconnect:HOST:PORT:proxy=..., and each colon within a value as \:"
        known = f"an argument that is not known; known are {', '.join(ARGUMENTS)}"
        one = "username and passwordFile: one is given without the other"
        a = f"a.example:1:proxy={ONE}"
        for text, said in {
            "": f"1 values without a name instead of 2; {form}",
            "a.example:1": f"proxy: it is missing; {form}",
            "a.example:1:proxy=": f"proxy: it is missing; {form}",
            f"a.example:proxy={ONE}": f"1 values without a name instead of 2; {form}",
            "a.example:1:proxy=p.example:3128": f"3 values without a name instead of 2; {form}",
            f"{a}:verify=no": known,
            f"{a}:password=hunter2": known,
            f"a.example:x:proxy={ONE}": (
                '"a.example:x": the port must be a number from 1 to 65535'
            ),
            f":1:proxy={ONE}": (
                '":1": a host is missing; write host:port, for example imap.gmail.com:993'
            ),
            "a.example:1:proxy=p.example": (
                'proxy: "p.example": a port is missing; write host:port, http://host:port or '
                "https://host:port, for example proxy.example.com:3128"
            ),
            f"a.example:1:proxy={ONE},{TWO},{ONE}": "proxy: one stands twice",
            f"{a}:auth=bearer": "auth: must be one of auto, basic, digest, ntlm, negotiate, none",
            r"a.example:1:proxy=socks5h\://s.example:auth=basic": (
                "auth: a SOCKS proxy takes user name and password as they are"
            ),
            f"{a}:auth=digest": "auth: digest needs username and passwordFile",
            f"{a}:username=alice": one,
            f"{a}:passwordFile={path}": one,
            f"{a}:username=alice:passwordFile=/nowhere": (
                'passwordFile: "/nowhere": No such file or directory'
            ),
            f"{a}:username=alice:passwordFile={empty}": (
                f'passwordFile: "{empty}": the file is empty'
            ),
            rf"{a}:username=a\:b:passwordFile={path}": (
                "username and passwordFile: a user name must not hold a colon (RFC 7617)"
            ),
            rf"a.example:1:proxy=u@{ONE}:username=alice:passwordFile={path}": (
                "username: the URL of the proxy has one already; leave one out"
            ),
            f"{a}:caFile={cert}": r"caFile: only TLS has a use for it; write proxy=https\://...",
            rf"a.example:1:proxy=https\://{ONE}:caFile={path}": (
                f'caFile: "{path}": no certificate in it'
            ),
            f"{a}:timeout=soon": (
                'timeout: "soon": not a duration; write 30, 30s, 5m, 1h, 500ms, or 0 for none'
            ),
        }.items():
            self.assertEqual(self.mistake(text), said, text)

    def test_noneShowsAPassword(self) -> None:
        for text in (
            "a.example:1:proxy=http://alice:hunter2@p.example:3128",
            "a.example:1:proxy=http://alice:x=hunter2@p.example",
            "a.example:1:proxy=http://alice:hunter2=x@p.example",
            r"a.example:1:proxy=http\://alice\:hunter2@p.example\:port",
            r"a.example:1:proxy=http\://alice\:hunter2",
            r"a.example:1:proxy=alice\:hunter2,@p.example",
            r"a.example:1:proxy=http\://alice\:12,hunter2@p.example,x",
            r"a.example:1:proxy=http\://alice\:hunter2/@p.example\:1",
            r"a.example:1:proxy=http\://alice\:hunter2@p.example\:1,http\://",
            r"a.example:1:proxy=http\://alice\:hunter2@p.example\:1,ftp\://q.example",
            r"http\://alice\:hunter2@p.example:1:proxy=p.example\:1",
            r"a.example:alice\:hunter2@p.example:proxy=p.example\:1",
        ):
            self.assertNotIn("hunter2", self.mistake(text))

    @given(
        st.just(["a.example", "1"]) | st.lists(anyText, max_size=3),
        st.dictionaries(st.sampled_from(ARGUMENTS), anyText | st.sampled_from(WORDS)),
    )
    @example(["a.example", "1"], {"proxy": "p.example:1", "timeout": "9" * 400})
    @example(["a.example", "1"], {"proxy": "p:1", "username": "a", "passwordFile": "\0"})
    @example(["a.example", "1"], {"proxy": "https://p:1", "caFile": "\0"})
    @example(["a.example", "1"], {"proxy": "https://p:1", "caFile": "\ud800"})
    @example(["a" * 300, "1"], {"proxy": "p:1"})
    def test_thereIsNoOtherError(self, args: list[str], kwargs: dict[str, str]) -> None:
        try:
            endpoint = parse(MemoryReactorClock(), *args, **kwargs)
        except ValueError as e:
            self.assertIs(type(e), ValueError)
            self.assertTrue(str(e).isprintable())
        else:
            verifyObject(IStreamClientEndpoint, endpoint)

    @given(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=20).filter(
            lambda word: not re.search(r"[/?#@:%]", word)
        ),
        st.sampled_from(["", "x", "-1", "99999", "1:2", ":"]),
    )
    def test_aPasswordIsInNoMessageWhateverElseIsWrong(self, password: str, port: str) -> None:
        url = f"http://alice:<{password}>@p.example:{port}"
        for text in url, quoteStringArgument(url):
            try:
                self.endpoint(f"a.example:1:proxy={text}:timeout=x")
            except (ValueError, RuntimeError) as e:  # RuntimeError: Twisted's, for a last backslash
                self.assertNotIn(f"<{password}", str(e))


class DocumentedTests(ClientStringTestCase):
    def test_eachStringOfTheManualIsRight(self) -> None:
        text = PAGE.read_text("utf-8")
        lines = re.findall(r"^httpconnect:(\S+)$", text, re.MULTILINE)
        self.assertEqual(len(lines), 5)
        for line in lines:
            found = line.replace("/etc/corp.password", self.passwordFile())
            verifyObject(IStreamClientEndpoint, self.endpoint(found))

    def test_theArgumentsAreThoseOfTheManual(self) -> None:
        _, _, section = PAGE.read_text("utf-8").partition("| argument | meaning |\n")
        table = section.partition("\n\n")[0]
        rows = [row.split(" | ")[0] for row in table.splitlines()[1:]]
        self.assertEqual(re.findall(r"`(\w+)`", "".join(rows)), list(ARGUMENTS))
