"""Proxies that refuse, misbehave or are not there: what client, target, proxy and log get."""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
from base64 import b64encode
from collections.abc import Callable
from typing import ClassVar
from urllib.parse import quote, unquote

from tests.integration.case import IntegrationTestCase, Peer, at, echo, headOf, readToEnd, run
from tests.integration.programs import (
    HOST,
    Apache,
    Haproxy,
    Privoxy,
    Program,
    Ptunnel,
    Squid,
    SquidWithPassword,
    Tinyproxy,
    eventually,
    freePort,
    shared,
)

USER = "alice"
PASSWORD = "p@ss:w/rd 100%41"
WRONG = "another-password"


class RefusalTests(IntegrationTestCase):
    def test_aPortThatSquidRefusesByDefaultIsOneLineWithTheCause(self) -> None:
        target = self.peer(echo)
        tunnel = self.tunnel(shared(Squid, Squid.DEFAULT), target)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(target)}: ", " 403 ", "443")
        self.assertEqual(target.connections, 0)

    def test_aRefusalIsNotAReasonToGoWithoutTheProxy(self) -> None:
        target = self.peer(echo)
        tunnel = self.tunnel(shared(Squid, Squid.DEFAULT), target, "--direct")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, " 403 ")
        self.assertEqual(target.connections, 0)

    def test_aDeadTargetIsOneWarning(self) -> None:
        target = f"{HOST}:{freePort()}"
        tunnel = self.ptunnel("-p", at(shared(Squid)), f"0:{target}")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "warning", f"{target}: ", " 503 ")


class CauseTests(IntegrationTestCase):
    """What each proxy really answers is told apart: in the log, and by its cause in `check`."""

    # Names that no resolver knows (RFC 6761 section 6.4).
    UNKNOWN = "no-such-name.invalid:993"

    def assertCause(self, proxy: Program, target: str, cause: str, *parts: str) -> None:
        tunnel = self.ptunnel("-p", at(proxy), f"0:{target}")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "warning", f"{target}: ", *parts)
        done = run(*Ptunnel.COMMAND, "check", "--json", "-p", at(proxy), f"0:{target}")
        found = set(re.findall(r'"cause": "([a-z-]+)"', done.stdout.decode()))
        self.assertEqual((done.returncode, found), (1, {cause}), done.stdout.decode())

    def assertTargets(self, proxy: Program, name: tuple[str, str], closed: str) -> None:
        """A name that does not resolve, and a port that is closed.

        @param name: its cause and how the status begins; squid's depends on the resolver.
        @param closed: the status.
        """
        self.assertCause(proxy, self.UNKNOWN, name[0], "cannot reach", f" {name[1]}")
        dead = f"{HOST}:{freePort()}"
        self.assertCause(proxy, dead, "target-unreachable", "cannot reach", f" {closed} ")

    def test_squid(self) -> None:
        self.assertTargets(shared(Squid), ("target-name", "50"), "503")

    def test_squidWhoseRulesForbidIt(self) -> None:
        rules = "http_access deny all"
        self.assertCause(
            shared(Squid, rules), "192.0.2.1:443", "target-refused", "refuses", " 403 "
        )

    def test_tinyproxyWhichSaysTheSameOfBoth(self) -> None:
        self.assertTargets(shared(Tinyproxy), ("target-unreachable", "500"), "500")

    def test_apache(self) -> None:
        self.assertTargets(shared(Apache), ("target-name", "502"), "503")

    def test_privoxyWhichSays404OfAName(self) -> None:
        self.assertTargets(shared(Privoxy), ("target-name", "404"), "503")

    def test_squidBehindHAProxy(self) -> None:
        balancer = shared(Haproxy, f"server squid {at(shared(Squid))}")
        self.assertTargets(balancer, ("target-name", "50"), "503")

    def test_haproxyWithNoServerThatIsWell(self) -> None:
        balancer = shared(Haproxy, f"server gone {HOST}:{freePort()}\nretries 0")
        self.assertCause(balancer, "192.0.2.1:993", "proxy-overloaded", "cannot serve", " 503 ")

    def test_haproxyWhoseServerDoesNotAnswer(self) -> None:
        silent = self.peer(readToEnd)
        balancer = shared(Haproxy, f"server silent {at(silent)}")
        self.assertCause(balancer, "192.0.2.1:993", "target-unreachable", "cannot reach", " 504 ")

    def test_haproxyThatLimitsItsClients(self) -> None:
        balancer = shared(Haproxy, "http-request deny deny_status 429")
        self.assertCause(balancer, "192.0.2.1:993", "proxy-overloaded", "cannot serve", " 429 ")

    def test_haproxyWhoseRulesForbidIt(self) -> None:
        balancer = shared(Haproxy, "http-request deny")
        self.assertCause(balancer, "192.0.2.1:443", "target-refused", "refuses", " 403 ")

    def test_aProxyThatAnotherOneOutdoesIsAskedAfterIt(self) -> None:
        target = self.peer(echo)
        balancer = shared(Haproxy, f"server gone {HOST}:{freePort()}\nretries 0")
        good = shared(Squid)
        proxies = f"[proxy bad]\nurl = {at(balancer)}\n[proxy good]\nurl = {at(good)}\n"
        tunnel = self.configured(proxies, target, via="bad, good")
        for _ in range(5):
            self.assertEchoes(tunnel.port)
        self.assertOneLine(tunnel, "cannot serve", "good can, and is asked first")


class DeadProxyTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = f"{HOST}:{freePort()}"
        self.target = self.peer(echo)

    def test_aDeadProxyIsOneLine(self) -> None:
        tunnel = self.ptunnel("-p", self.proxy, f"0:{at(self.target)}")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(self.target)}: ", self.proxy)
        self.assertEqual(self.target.connections, 0)

    def test_directGoesWithoutADeadProxyAndWarns(self) -> None:
        tunnel = self.ptunnel("-p", self.proxy, "--direct", f"0:{at(self.target)}")
        self.assertEchoes(tunnel.port)
        self.assertOneLine(tunnel, "warning", "direct", self.proxy)


class CredentialsTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = shared(SquidWithPassword, USER, PASSWORD)
        self.target = self.peer(echo)

    def tunnelWith(self, password: str) -> Ptunnel:
        file = self.write(f"{password}\n")
        return self.tunnel(self.proxy, self.target, "-U", USER, "--password-file", file)

    def test_thePasswordOfAFileOpensTheProxy(self) -> None:
        self.assertEchoes(self.tunnelWith(PASSWORD).port)

    def test_thePasswordOfAURLIsPercentDecoded(self) -> None:
        url = f"http://{USER}:{quote(PASSWORD, safe='')}@{at(self.proxy)}"
        self.assertEchoes(self.ptunnel("-p", url, f"0:{at(self.target)}").port)

    def test_aWrongPasswordIsOneLineWithoutIt(self) -> None:
        tunnel = self.tunnelWith(WRONG)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(self.target)}: ", " 407 ")
        self.assertNotIn(WRONG, tunnel.output())
        self.assertNotIn(b64encode(f"{USER}:{WRONG}".encode()).decode(), tunnel.output())
        self.assertEqual(self.target.connections, 0)


class TinyPiecesTests(IntegrationTestCase):
    def test_anAnswerThatComesByteByByteOpensTheTunnel(self) -> None:
        def serve(connection: socket.socket) -> None:
            headOf(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"HTTP/1.1 200 OK\r\n" + b"Via: a\r\n" * 50 + b"\r\n":
                connection.sendall(bytes([byte]))
            echo(connection)

        proxy = self.peer(serve)
        self.assertEchoes(self.tunnel(proxy, proxy).port)

    def test_a407WhoseBodyComesInChunksOfOneByteIsAnswered(self) -> None:
        token = b64encode(f"{USER}:{PASSWORD}".encode())

        def serve(connection: socket.socket) -> None:
            while head := headOf(connection):
                if token in head:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    echo(connection)
                    return
                connection.sendall(
                    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="a"\r\n'
                    b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
                )

        def serveUntilCut(connection: socket.socket) -> None:
            with contextlib.suppress(ConnectionError):
                serve(connection)

        proxy = self.peer(serveUntilCut)
        file = self.write(PASSWORD)
        tunnel = self.tunnel(proxy, proxy, "-U", USER, "--password-file", file)
        self.assertEchoes(tunnel.port)


class MaskTests(IntegrationTestCase):
    """A proxy that sends a request back has nothing of it in the log that is secret."""

    SPELLINGS: ClassVar[dict[str, Callable[[str], str]]] = {
        "as it is": str,
        "entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
        "percents": lambda text: "".join(f"%{ord(c):02x}" for c in text),
        "JSON": lambda text: json.dumps(text).replace("/", r"\/").replace("=", r"\u003d"),
    }

    def test_theCutOfTheExcerptHidesNothingFromTheMask(self) -> None:
        token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        secrets = token, PASSWORD, "t0ken-of-the-team"
        config = f"""
            [proxy corp]
            url = http://{{at}}
            username = {USER}
            password-file = {self.write(PASSWORD)}
            auth = basic
            header = X-Team: t0ken-of-the-team
        """
        config = "\n".join(line.strip() for line in config.splitlines())
        for name, spelling in self.SPELLINGS.items():
            proxy = EchoingProxy(spelling)
            self.addCleanup(proxy.stop)
            tunnel = self.configured(config.format(at=at(proxy)), proxy)
            for _ in range(20):
                self.assertTurnedAway(tunnel.port)
            eventually(lambda t=tunnel: len(t.lines()) == 20, "a line for each")
            self.assertEqual(tunnel.end(), 0)
            output = html.unescape(unquote(tunnel.output().replace("\\", "")))
            self.assertIn("***", output)
            for secret in secrets:
                for at_ in range(len(secret) - 5):
                    self.assertNotIn(secret[at_ : at_ + 6], output, name)


class EchoingProxy(Peer):
    """Refuses each request, and repeats it behind a text that gets longer each time: so that it is
    cut in another place.
    """

    def __init__(self, spelling: Callable[[str], str]) -> None:
        self._spelling = spelling
        self._before = 470
        super().__init__(self._serve)

    def _serve(self, connection: socket.socket) -> None:
        head = headOf(connection).decode()
        fields = [line.partition(": ")[2] for line in head.splitlines()[2:-1]]
        said = " ".join(
            self._spelling(field) for field in [*(f.split()[-1] for f in fields), PASSWORD]
        )
        page = "x" * self._before + " " + said
        self._before += 7
        answer = f"HTTP/1.1 403 {said}\r\nContent-Length: {len(page)}\r\n\r\n{page}"
        connection.sendall(answer.encode())


class NothingBeforeTheAnswerTests(IntegrationTestCase):
    """Whatever a proxy answers but 2xx: it gets one CONNECT and nothing of the client's, and the
    client gets nothing of the proxy's."""

    def assertNothingPasses(self, answer: bytes, *options: str) -> None:
        proxy = FakeProxy(answer)
        self.addCleanup(proxy.stop)
        tunnel = self.tunnel(proxy, proxy, *options)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(proxy)}: ")
        target = at(proxy).encode()
        eventually(lambda: proxy.received, "the proxy has read to the end")
        (request,) = proxy.received
        self.assertTrue(
            request.startswith(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target))
        )
        self.assertEqual(request.find(b"\r\n\r\n"), len(request) - 4)

    def test_aRefusal(self) -> None:
        self.assertNothingPasses(b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nno way")

    def test_aRefusalWithABodyThatDoesNotCome(self) -> None:
        self.assertNothingPasses(b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\n")

    def test_garbage(self) -> None:
        self.assertNothingPasses(b"220 mail.example ESMTP\r\n")

    def test_aLineWithoutEnd(self) -> None:
        self.assertNothingPasses(b"HTTP/1.1 200 " + b"a" * 20_000)

    def test_silence(self) -> None:
        config = self.write("[ptunnel]\nconnect-timeout = 1s\n")
        self.assertNothingPasses(b"", "--config", config)


class FakeProxy(Peer):
    """Answers every request with the same, and reads on.

    @ivar received: all that each connection has sent until its end.
    """

    def __init__(self, answer: bytes) -> None:
        self.received: list[bytes] = []
        self._answer = answer
        super().__init__(self._serve)

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        answered = False
        with contextlib.suppress(ConnectionError):  # a reset is an end as well
            while data := connection.recv(65536):
                received += data
                if not answered and b"\r\n\r\n" in received:
                    connection.sendall(self._answer)
                    answered = True
        self.received.append(received)
