"""docs/examples, and docs/embedding.md, which shows them: each program is run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.mail.imap4 import IMAP4Server
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from ptunnel.auth import Credentials
from ptunnel.demo.littleproxy import LOOPBACK, LittleProxy
from ptunnel.demo.peers import Echo
from ptunnel.errors import TunnelError
from tests.support import authority
from tests.support.loopback import Peer

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = DOCS / "examples"
PAGE = DOCS / "embedding.md"
ALICE = Credentials("alice", "wonderland")
# Seconds for a program that has hung, which is no part of what is tested.
PATIENCE = 240


class Program(ProcessProtocol):
    """A program that runs.

    @ivar output: what it has said so far.
    @ivar complaints: the same, on standard error.
    @ivar ended: fires with its exit code; None: a signal ended it.
    """

    transport: Any

    def __init__(self) -> None:
        self.output = self.complaints = ""
        self.ended: Deferred[int | None] = Deferred()
        self.running = True
        self._waiting: list[tuple[str, Deferred[list[str]]]] = []

    def says(self, pattern: str) -> Deferred[list[str]]:
        """Wait until it has said something; fires with what the group in the pattern found."""
        said: Deferred[list[str]] = Deferred()
        self._waiting.append((pattern, said))
        self._look()
        return said

    def end(self, signalName: str) -> None:
        if self.running:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess(signalName)

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode()
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.complaints += data.decode()

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        waiting, self._waiting = self._waiting, []
        for pattern, said in waiting:
            said.errback(AssertionError(f"not said: {pattern}\n{self.output}\n{self.complaints}"))
        self.ended.callback(getattr(reason.value, "exitCode", None))

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for pattern, said in waiting:
            found = re.findall(pattern, self.output, re.MULTILINE)
            if found:
                said.callback(found)
            else:
                self._waiting.append((pattern, said))


class ExampleTestCase(TestCase):
    timeout = PATIENCE

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def start(self, name: str, *words: object, **environ: str) -> Program:
        command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
        return self.startCommand(command, environ)

    def startCommand(self, command: list[str], environ: dict[str, str]) -> Program:
        program = Program()
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        self.reactor.spawnProcess(
            program, command[0], command, env={**os.environ, "PYTHONPATH": path, **environ}
        )
        self.addCleanup(lambda: program.ended if program.running else None)
        self.addCleanup(program.end, "KILL")
        return program

    @inlineCallbacks
    def result(self, name: str, *words: object, code: int = 0) -> Any:
        """Run a program to its end; gives what it said, where it failed on standard error too."""
        program = self.start(name, *words)
        ended = yield program.ended
        said = program.output + program.complaints
        self.assertEqual(ended, code, said)
        return said if code else program.output

    def proxy(self, **options: Any) -> tuple[LittleProxy, int]:
        proxy = LittleProxy(**options)
        self.addCleanup(proxy.stop)
        return proxy, proxy.listen(self.reactor)

    def serve(self, build: Callable[[], Any] | Factory, tls: Any = None) -> int:
        """A server on loopback; its port."""
        factory = build if isinstance(build, Factory) else Factory.forProtocol(build)  # type: ignore[arg-type]
        factory.noisy = False
        if tls is None:
            port = self.reactor.listenTCP(0, factory, interface=LOOPBACK)
        else:
            port = self.reactor.listenSSL(0, factory, tls, interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def connect(self, port: int) -> Deferred[Any]:
        connecting: Deferred[Any] = TCP4ClientEndpoint(self.reactor, LOOPBACK, port).connect(
            Factory.forProtocol(Peer)
        )
        return connecting.addCallback(self._willClose)

    def _willClose(self, peer: Peer) -> Peer:
        self.addCleanup(lambda: peer.gone)
        self.addCleanup(peer.reset)
        return peer

    @inlineCallbacks
    def assertCarries(self, port: int | str) -> Any:
        """There is a way to an Echo behind a port, in which one side can end before the other."""
        peer = yield self.connect(int(port))
        peer.send(b"hello")
        yield peer.gets(5)
        peer.end()
        yield peer.isLost()
        self.assertTrue(peer.received.startswith(b"helloThat was 5 bytes, "), peer.received)


class Greeter(Protocol):
    """Says hello, and ends."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"* hello\r\n")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        pass


class Talker(Peer):
    """Says something as soon as it is connected."""

    def __init__(self, words: bytes) -> None:
        super().__init__()
        self._words = words

    def connectionMade(self) -> None:
        self.send(self._words)


def certificate() -> Any:
    pair = authority.server("localhost")
    return DefaultOpenSSLContextFactory(pair.key, pair.cert)


class TunnelsTests(ExampleTestCase):
    @inlineCallbacks
    def test_eachTargetHasItsPortAndAllShareOneLogin(self) -> Any:
        proxy, port = self.proxy(credentials=ALICE)
        target = f"{LOOPBACK}:{self.serve(Echo)}"
        program = self.start(
            "tunnels.py", LOOPBACK, port, "alice", target, target, PROXY_PASSWORD="wonderland"
        )
        yield program.says(f"(?s)({re.escape(target)}\n.*){{2}}")
        ports = re.findall(r"^127\.0\.0\.1:(\d+) leads to ", program.output, re.MULTILINE)
        self.assertEqual(len(ports), 2)
        for local in ports:
            yield self.assertCarries(local)
        self.assertEqual(proxy.connects, 2)
        self.assertEqual(proxy.refusals, {407: 1})


class ImapTests(ExampleTestCase):
    @inlineCallbacks
    def test_itAsksTheServerThroughTheProxy(self) -> Any:
        proxy, port = self.proxy()
        target = self.serve(IMAP4Server, certificate())
        ca = authority.authority().cert
        said = yield self.result("imap.py", LOOPBACK, port, "localhost", target, ca)
        self.assertIn("IMAP4rev1", said.split())
        self.assertEqual(proxy.connects, 1)

    @inlineCallbacks
    def test_aServerWithAStrangeCertificateIsNotAsked(self) -> Any:
        _, port = self.proxy()
        target = self.serve(IMAP4Server, certificate())
        said = yield self.result("imap.py", LOOPBACK, port, "localhost", target, code=1)
        self.assertIn("CertificateRefused", said)


class ChainTests(ExampleTestCase):
    @inlineCallbacks
    def test_itGoesThroughEach(self) -> Any:
        (first, one), (second, two) = self.proxy(), self.proxy()
        words = [f"{LOOPBACK}:{port}" for port in (self.serve(Greeter), one, two)]
        said = yield self.result("chain.py", *words)
        self.assertEqual(said, "* hello\r\n")
        self.assertEqual((first.connects, second.connects), (1, 1))

    @inlineCallbacks
    def test_itSaysWhichOneRefused(self) -> Any:
        (_, one), (_, two) = self.proxy(), self.proxy(ports=())
        words = [f"{LOOPBACK}:{port}" for port in (self.serve(Greeter), one, two)]
        said = yield self.result("chain.py", *words, code=1)
        self.assertTrue(said.startswith(f"ProxyRefused at {LOOPBACK}:{two}: "), said)
        self.assertEqual(len(said.splitlines()), 1)


class JoinTests(ExampleTestCase):
    @inlineCallbacks
    def test_whatOneSendsTheOtherGets(self) -> Any:
        peers = [Talker(b"hello"), Talker(b"you")]
        addresses = [f"{LOOPBACK}:{self.serve(lambda peer=peer: peer)}" for peer in peers]
        program = self.start("join.py", *addresses)
        one, two = peers
        yield two.gets(5)
        yield one.gets(3)
        one.end()
        yield two.isEnded()
        two.end()
        yield program.ended
        self.assertEqual((bytes(two.received), bytes(one.received)), (b"hello", b"you"))
        self.assertEqual(program.output, "5 bytes one way, 3 the other: end\n")


class DoorTests(ExampleTestCase):
    @inlineCallbacks
    def test_eachClientIsJoinedByHand(self) -> Any:
        proxy, port = self.proxy()
        words = LOOPBACK, port, LOOPBACK, self.serve(Echo)
        program = self.start("door.py", *words)
        [local] = yield program.says(r"^127\.0\.0\.1:(\d+) leads to ")
        yield self.assertCarries(local)
        [sent] = yield program.says(r"^(\d+) bytes out, \d+ in: end$")
        self.assertEqual((sent, proxy.connects), ("5", 1))

    @inlineCallbacks
    def test_withoutATunnelItsClientIsReset(self) -> Any:
        _, port = self.proxy(ports=())
        program = self.start("door.py", LOOPBACK, port, LOOPBACK, self.serve(Echo))
        [local] = yield program.says(r"^127\.0\.0\.1:(\d+) leads to ")
        peer = yield self.connect(int(local))
        yield peer.isLost()
        yield program.says(r"^(no tunnel): the proxy ")


class LocalProxyTests(ExampleTestCase):
    @inlineCallbacks
    def ask(self, local: str, port: int) -> Any:
        """Ask for a port of this machine by SOCKS. @return: the client, which has its answer."""
        peer = yield self.connect(int(local))
        peer.send(b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + port.to_bytes(2, "big"))
        yield peer.gets(12)
        return peer

    @inlineCallbacks
    def test_aClientGetsToWhatItAsksFor(self) -> Any:
        proxy, port = self.proxy()
        program = self.start("local_proxy.py", LOOPBACK, port, "127.0.0.0/8:*")
        [local] = yield program.says(r"^socks5h://127\.0\.0\.1:(\d+)$")
        peer = yield self.ask(local, self.serve(Greeter))
        yield peer.gets(21)
        self.assertEqual(bytes(peer.received)[:4], b"\5\0\5\0")
        self.assertTrue(bytes(peer.received).endswith(b"* hello\r\n"))
        self.assertEqual(proxy.connects, 1)

    @inlineCallbacks
    def test_thisMachineIsNoTargetUnlessItIsNamed(self) -> Any:
        proxy, port = self.proxy()
        program = self.start("local_proxy.py", LOOPBACK, port)
        [local] = yield program.says(r"^socks5h://127\.0\.0\.1:(\d+)$")
        peer = yield self.ask(local, self.serve(Greeter))
        self.assertEqual(bytes(peer.received)[:4], b"\5\0\5\2")
        self.assertEqual(proxy.connects, 0)


class EndpointStringTests(ExampleTestCase):
    @inlineCallbacks
    def test_theStringLeadsThroughTheProxy(self) -> Any:
        proxy, port = self.proxy(credentials=ALICE)
        url = rf"http\://alice\:wonderland@{LOOPBACK}\:{port}"
        target = self.serve(Greeter)
        said = yield self.result(
            "endpoint_string.py", f"httpconnect:{LOOPBACK}:{target}:proxy={url}"
        )
        self.assertEqual(said, "* hello\r\n")
        self.assertEqual(proxy.connects, 1)

    def test_itKnowsNothingOfPtunnel(self) -> None:
        text = (EXAMPLES / "endpoint_string.py").read_text("utf-8")
        self.assertNotRegex(text, r"(?m)^\s*(from|import) ptunnel")


class HTTPTests(ExampleTestCase):
    def site(self, tls: Any = None) -> int:
        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                return b"hello to " + request.getHeader(b"host")

        return self.serve(Site(Page()), tls)

    @inlineCallbacks
    def check(self, program: str) -> Any:
        proxy, port = self.proxy()
        plain, secured = self.site(), self.site(certificate())
        ca = authority.authority().cert
        for url, *more in (
            [f"http://{LOOPBACK}:{plain}/"],
            [f"https://localhost:{secured}/", ca],
        ):
            said = yield self.result(program, LOOPBACK, port, url, *more)
            self.assertEqual(said, f"200 hello to {url.split('/')[2]}\n")
        self.assertEqual(proxy.connects, 2)

    def test_theAgentGoesThroughTheProxy(self) -> Deferred[Any]:
        done: Deferred[Any] = self.check("http_agent.py")
        return done

    def test_soDoesTreq(self) -> Deferred[Any]:
        done: Deferred[Any] = self.check("http_treq.py")
        return done

    if importlib.util.find_spec("treq") is None:
        test_soDoesTreq.skip = "treq is not installed"  # type: ignore[attr-defined]


class SubprocessTests(ExampleTestCase):
    @inlineCallbacks
    def test_eachConnectionIsAProcessThatSeesItsClientEnd(self) -> Any:
        shout = "import sys; sys.stdout.write(sys.stdin.read().upper())"
        program = self.start("subprocess_endpoint.py", 0, sys.executable, "-c", shout)
        [port] = yield program.says(r"^127\.0\.0\.1:(\d+) leads to ")
        for word in b"one", b"two":
            peer = yield self.connect(int(port))
            peer.send(word)
            peer.end()
            yield peer.isLost()
            self.assertEqual(bytes(peer.received), word.upper())

    @inlineCallbacks
    def test_aCommandThatCannotBeRunEndsTheConnectionOnly(self) -> Any:
        program = self.start("subprocess_endpoint.py", 0, "/nonexistent")
        [port] = yield program.says(r"^127\.0\.0\.1:(\d+) leads to ")
        for _ in range(2):
            peer = yield self.connect(int(port))
            yield peer.isEnded()
            self.assertEqual(bytes(peer.received), b"")


class ServiceTests(ExampleTestCase):
    def arguments(self, target: int, proxy: int) -> tuple[str, ...]:
        return f"tcp:{LOOPBACK}:{proxy}", LOOPBACK, str(target), f"tcp:0:interface={LOOPBACK}"

    @inlineCallbacks
    def check(self, program: Program, proxy: LittleProxy) -> Any:
        """It serves; told to end, it lets nobody new in and waits for whom it has."""
        [port] = yield program.says(r"TunnelFactory starting on (\d+)$")
        yield self.assertCarries(port)
        peer = yield self.connect(int(port))
        peer.send(b"hel")
        yield peer.gets(3)
        program.end("TERM")
        yield program.says(r"\(TCP Port (\d+) Closed\)$")
        # Twisted says so just before it closes the socket, which resets whoever is waiting there.
        with contextlib.suppress(ConnectError):
            late = yield self.connect(int(port))
            yield late.isLost()
        peer.send(b"lo")
        yield peer.gets(5)
        peer.end()
        yield peer.isLost()
        yield program.ended
        self.assertTrue(peer.received.startswith(b"helloThat was 5 bytes, "), peer.received)
        self.assertEqual(proxy.connects, 2)

    @inlineCallbacks
    def test_embedded(self) -> Any:
        proxy, port = self.proxy()
        program = self.start("tunnel_service.py", *self.arguments(self.serve(Echo), port))
        yield self.check(program, proxy)

    @inlineCallbacks
    def test_underTwistd(self) -> Any:
        proxy, port = self.proxy()
        through, host, target, listen = self.arguments(self.serve(Echo), port)
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        program = self.startCommand(
            [*twistd, "--pidfile=", "-ny", str(EXAMPLES / "tunnel.tac")],
            {"PROXY": through, "TARGET": f"{host}:{target}", "LISTEN": listen},
        )
        yield self.check(program, proxy)

    @inlineCallbacks
    def test_aPortThatIsTakenEndsTheProgram(self) -> Any:
        through, host, target, _ = self.arguments(1, 1)
        taken = self.serve(Echo)
        listen = f"tcp:{taken}:interface={LOOPBACK}"
        said = yield self.result("tunnel_service.py", through, host, target, listen, code=1)
        self.assertIn("CannotListenError", said)


class PageTests(SynchronousTestCase):
    """docs/embedding.md and the programs."""

    def setUp(self) -> None:
        self.page = PAGE.read_text("utf-8")
        self.programs = {
            path.name: path.read_text("utf-8") for path in sorted(EXAMPLES.glob("*.*"))
        }

    def test_whatItShowsStandsInAProgram(self) -> None:
        shown = re.findall(r"^```python\n(.*?)^```$", self.page, re.DOTALL | re.MULTILINE)
        self.assertGreater(len(shown), 5)
        programs = [flat(text) for text in self.programs.values()]
        for block in shown:
            self.assertTrue(any(flat(block) in text for text in programs), block)

    def test_itNamesEachProgramAndThatIsRunHere(self) -> None:
        tests = Path(__file__).read_text("utf-8")
        self.assertEqual(
            set(re.findall(r"\(examples/([a-z_]+\.[a-z]+)\)", self.page)), set(self.programs)
        )
        for name in self.programs:
            self.assertIn(f'"{name}"', tests)

    def test_eachProgramIsShort(self) -> None:
        for name, text in self.programs.items():
            self.assertLess(len(text.splitlines()), 60, name)

    def test_itNamesEachErrorOnce(self) -> None:
        import ptunnel.errors

        kinds = [
            name
            for name, kind in vars(ptunnel.errors).items()
            if isinstance(kind, type) and issubclass(kind, TunnelError)
        ]
        rows = re.findall(r"^\| `(\w+)` \|", self.page, re.MULTILINE)
        self.assertEqual(sorted(set(rows) & set(kinds)), sorted(kinds))


def flat(text: str) -> str:
    """Code without its indentation from the left, whatever it stands in."""
    return "\n".join(line.strip() for line in textwrap.dedent(text).splitlines() if line.strip())
