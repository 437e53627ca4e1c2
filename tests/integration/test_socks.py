"""SOCKS proxies on the way: microsocks, Dante, `ssh -D`; alone and in chains."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from functools import partial
from queue import Queue

from tests.integration.case import (
    BULK,
    CHUNK,
    IntegrationTestCase,
    Peer,
    RecordingProxy,
    at,
    echo,
    run,
)
from tests.integration.programs import (
    HOST,
    PATIENCE,
    Dovecot,
    Program,
    Ptunnel,
    SecureDovecot,
    Squid,
    SquidWithTls,
    freePort,
    lacking,
    shared,
)
from tests.integration.socksservers import Dante, Microsocks, OpenSocks, SshDynamic
from tests.support import authority

ALICE = ("alice", "c4n4ry-word")
SCHEMES = ("socks5", "socks5h")
TRUSTED = f"tls-ca-file = {authority.authority().cert}"


class _Over6(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            echo(self.request)


def corp(proxy: Program | Peer, scheme: str = "socks5h", *keys: str) -> str:
    return "\n".join(["[proxy corp]", f"url = {scheme}://{at(proxy)}", *keys])


def known(credentials: tuple[str, str]) -> tuple[str, str]:
    return f"username = {credentials[0]}", f"password = {credentials[1]}"


class SocksCase(IntegrationTestCase):
    def to(self, target: str, proxies: str, *keys: str) -> Ptunnel:
        """ptunnel with a tunnel to a target, by whatever name. @param keys: of the tunnel."""
        tunnel = f"[tunnel test]\nlisten = {HOST}:0\ntarget = {target}\nvia = corp"
        return self.ptunnel("--config", self.write("\n".join([proxies, tunnel, *keys])))

    def assertCarriesOneWay(self, carry: Callable[[Program | Peer], Ptunnel]) -> None:
        """Mail passes, and bulk in each direction: with both at once microsocks stands still, as
        each of its writes waits for its reader.
        """
        self.assertCarriesMail(carry(shared(Dovecot)).port)
        data = random.Random(1).randbytes(CHUNK)
        tunnel = carry(self.peer(lambda client: pour(client, data)))
        with self.dial(tunnel.port) as client, client.makefile("rb") as stream:
            for _ in range(BULK // CHUNK):
                self.assertTrue(stream.read(CHUNK) == data)
            self.assertEqual(stream.read(), b"")
        taken: Queue[int] = Queue()
        with self.dial(carry(self.peer(lambda client: taken.put(drain(client)))).port) as client:
            for _ in range(BULK // CHUNK):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(taken.get(timeout=PATIENCE), BULK)


def pour(client: socket.socket, data: bytes) -> None:
    for _ in range(BULK // len(data)):
        client.sendall(data)


def drain(client: socket.socket) -> int:
    count = 0
    while data := client.recv(CHUNK):
        count += len(data)
    return count


class CarryingTests(SocksCase):
    def test_mailAndBulkPassThroughEach(self) -> None:
        for kind in Dante, SshDynamic:
            proxy = shared(kind)
            self.assertCarries(partial(self.configured, corp(proxy)))

    def test_mailAndBulkPassThroughMicrosocks(self) -> None:
        self.assertCarriesOneWay(partial(self.configured, corp(shared(Microsocks))))

    def test_anAddressAndANameAreReachedByBothSchemes(self) -> None:
        target = self.peer(echo)
        for kind in Microsocks, Dante, SshDynamic:
            for scheme in SCHEMES:
                proxies = corp(shared(kind), scheme)
                for name in at(target), f"localhost:{target.port}":
                    self.assertEchoes(self.to(name, proxies).port)

    def test_aTargetOfIPv6IsReachedToo(self) -> None:
        try:
            server = _Over6(("::1", 0), _Echo)
        except OSError:
            lacking("this machine has no IPv6")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        target = f"[::1]:{server.server_address[1]}"
        for kind in Microsocks, SshDynamic:
            self.assertEchoes(self.to(target, corp(shared(kind))).port)

    def test_theEnvironmentsProxyMayBeOne(self) -> None:
        for variable in "ALL_PROXY", "https_proxy":
            for scheme in SCHEMES:
                environment = {variable: f"{scheme}://{at(shared(Microsocks))}"}
                target = at(self.peer(echo))
                self.assertEchoes(self.ptunnel(f"0:{target}", environment=environment).port)

    def test_connectGoesThroughIt(self) -> None:
        proxy = OpenSocks(*ALICE)  # microsocks ends both directions at the first end
        self.addCleanup(proxy.stop)
        words = "-U", ALICE[0], "--password-file", self.write(ALICE[1])
        where = f"socks5h://{at(proxy)}", at(self.peer(echo))
        done = run(*Ptunnel.COMMAND, "connect", *words, "-p", *where, stdin=b"ping")
        self.assertEqual((done.stdout, done.returncode), (b"ping", 0), done.stderr)

    def test_anEndGoesBothWays(self) -> None:
        def answerAtTheEnd(connection: socket.socket) -> None:
            with connection.makefile("rb") as stream:
                connection.sendall(b"answer to " + stream.read())

        proxy = OpenSocks(*ALICE)
        self.addCleanup(proxy.stop)
        target = self.peer(answerAtTheEnd)
        with self.dial(self.configured(corp(proxy, "socks5h", *known(ALICE)), target).port) as c:
            c.sendall(b"this")
            c.shutdown(socket.SHUT_WR)
            with c.makefile("rb") as stream:
                self.assertEqual(stream.read(), b"answer to this")


class PasswordTests(SocksCase):
    def test_microsocksIsToldIt(self) -> None:
        proxy = shared(Microsocks, *ALICE)
        self.assertCarriesOneWay(partial(self.configured, corp(proxy, "socks5h", *known(ALICE))))

    def test_aWrongOneIsRejectedAndHidden(self) -> None:
        wrong = known((ALICE[0], "c4n4ry-wrong"))
        for proxy in shared(Microsocks, *ALICE), shared(Dante, "username"):
            tunnel = self.configured(corp(proxy, "socks5h", *wrong), self.peer(echo))
            self.assertTurnedAway(tunnel.port)
            self.assertOneLine(tunnel, f"the proxy {at(proxy)} ", "user name or password")
            self.assertNotIn("c4n4ry", tunnel.output())

    def test_itIsSentOnceWhateverTheNumberOfClients(self) -> None:
        proxy = OpenSocks(*ALICE)
        self.addCleanup(proxy.stop)
        wrong = known((ALICE[0], "wrong"))
        tunnel = self.configured(corp(proxy, "socks5h", *wrong), self.peer(echo))
        clients = [
            threading.Thread(target=self.assertTurnedAway, args=(tunnel.port,)) for _ in range(20)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        self.assertTurnedAway(tunnel.port)
        self.assertEqual(proxy.told, [b"\1\5alice\5wrong"])

    def test_withoutOneItSaysThatItWantsOne(self) -> None:
        proxy = shared(Microsocks, *ALICE)
        tunnel = self.configured(corp(proxy), self.peer(echo))
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"the proxy {at(proxy)} wants credentials (give a user name")


class ChainTests(SocksCase):
    def chain(self, outer: str, inner: str, target: Program | Peer) -> Ptunnel:
        """@param outer: the keys of the proxy that is reached first."""
        config = f"[proxy edge]\n{outer}\n[proxy corp]\n{inner}\nthrough = edge\n"
        return self.configured(config, target)

    def test_squidThenMicrosocksAndTheOtherWayRound(self) -> None:
        squid, socks = (
            f"url = http://{at(shared(Squid))}",
            f"url = socks5h://{at(shared(Microsocks))}",
        )
        self.assertCarriesOneWay(partial(self.chain, squid, socks))
        self.assertCarriesOneWay(partial(self.chain, socks, squid))

    def test_microsocksThenDanteWithAPassword(self) -> None:
        outer = f"url = socks5://alice:{ALICE[1]}@{at(shared(Microsocks, *ALICE))}"
        inner = f"url = socks5://{at(shared(Dante))}"
        self.assertCarriesOneWay(partial(self.chain, outer, inner))

    def test_withSquidOverTlsBeforeItOrBehindIt(self) -> None:
        pair = authority.server(HOST, "proxy.test")
        secure = f"url = https://{at(shared(SquidWithTls, pair.cert, pair.key))}"
        secure = f"{secure}\nca-file = {authority.authority().cert}"
        socks = f"url = socks5h://{at(shared(Microsocks))}"
        for outer, inner in (secure, socks), (socks, secure):
            self.assertEchoes(self.chain(outer, inner, self.peer(echo)).port)

    def test_eachIsToldItsOwnPasswordOnly(self) -> None:
        http, socks = RecordingProxy(), OpenSocks(*ALICE)
        for proxy in http, socks:
            self.addCleanup(proxy.stop)
        target = self.peer(echo)
        inner = "\n".join([f"url = socks5h://{at(socks)}", *known(ALICE)])
        tunnel = self.chain(f"url = http://{at(http)}", inner, target)
        self.assertEchoes(tunnel.port)
        self.assertEqual(len(socks.told), 1)
        self.assertNotIn(ALICE[1].encode(), b"".join(http.requests))

    def test_tlsAndStarttlsToTheTargetBehindIt(self) -> None:
        pair = authority.server(HOST)
        dovecot = shared(SecureDovecot, pair.cert, pair.key)
        for scheme in SCHEMES:
            proxies = corp(shared(Microsocks), scheme)
            for port, key in (dovecot.imaps, "tls = yes"), (dovecot.port, "starttls = imap"):
                tunnel = self.to(f"{HOST}:{port}", proxies, key, TRUSTED)
                self.assertCarriesMail(tunnel.port)


class RefusalTests(SocksCase):
    def says(self, tunnel: Ptunnel, *parts: str) -> None:
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, *parts)

    def test_aClosedPort(self) -> None:
        target = f"{HOST}:{freePort()}"
        for kind in Microsocks, Dante:
            proxy = shared(kind)
            what = f"the proxy {at(proxy)} cannot reach {target}: SOCKS reply 5, connection refused"
            self.says(self.to(target, corp(proxy)), what)

    def test_aNameThatDoesNotResolve(self) -> None:
        for kind in Microsocks, Dante:
            proxy = shared(kind)
            what = f"the proxy {at(proxy)} cannot reach no.invalid:1234: SOCKS reply "
            self.says(self.to("no.invalid:1234", corp(proxy)), what)
        tunnel = self.to("no.invalid:1234", corp(shared(Microsocks), "socks5"))
        self.says(tunnel, "cannot reach no.invalid:1234: the name does not resolve here (socks5://")

    def test_aRule(self) -> None:
        proxy = shared(Dante)
        what = f"the proxy {at(proxy)} refuses {HOST}:22: SOCKS reply 2, not allowed by its rules"
        self.says(self.to(f"{HOST}:22", corp(proxy)), what)

    def test_anHttpProxyInItsPlace(self) -> None:
        proxy = shared(Squid)
        tunnel = self.to(f"{HOST}:1", corp(proxy), "connect-timeout = 3s")
        self.says(tunnel, f"the proxy {at(proxy)} ", "http://")

    def test_aTlsServerInItsPlace(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = authority.server(HOST)
        context.load_cert_chain(pair.cert, pair.key)

        def handshake(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True)

        server = self.peer(handshake)
        tunnel = self.to(f"{HOST}:1", corp(server), "connect-timeout = 2s")
        self.says(tunnel, "did not answer the SOCKS5 greeting within 2 s (is that port a SOCKS")

    def test_nothingListensThere(self) -> None:
        port = freePort()
        tunnel = self.to(f"{HOST}:1", f"[proxy corp]\nurl = socks5h://{HOST}:{port}\n")
        self.says(tunnel, f"cannot reach the proxy {HOST}:{port}: connection refused")


class CheckTests(SocksCase):
    def check(self, *words: str) -> tuple[str, int]:
        done = run(*Ptunnel.COMMAND, "check", *words)
        return done.stdout.decode() + done.stderr.decode(), done.returncode

    def test_eachHopIsShown(self) -> None:
        def greet(connection: socket.socket) -> None:
            connection.sendall(b"220 hello\r\n")
            connection.recv(1)

        target = at(self.peer(greet))
        config = self.write(
            f"[proxy edge]\nurl = {at(shared(Squid))}\n"
            f"{corp(shared(Microsocks, *ALICE), 'socks5', *known(ALICE))}\nthrough = edge\n"
            f"[tunnel t]\nlisten = 0\nvia = corp\ntarget = {target}\n"
        )
        text, code = self.check("-c", config)
        self.assertEqual(code, 0, text)
        self.assertRegex(text, rf"socks +{target} +granted, user and password")
        self.assertRegex(text, r"banner +\S+ +220 hello")
        text, code = self.check("-c", config, "--json")
        (way,) = json.loads(text)["tunnels"][0]["ways"]
        steps = {step["step"]: step for step in way["steps"]}
        self.assertEqual(steps["socks"]["reply"], 0)
        self.assertEqual(steps["socks"]["scheme"], "user and password")

    def test_aRefusalHasItsCause(self) -> None:
        target = f"{HOST}:{freePort()}"
        text, code = self.check("-p", f"socks5h://{at(shared(Microsocks))}", f"0:{target}")
        self.assertEqual(code, 1)
        self.assertRegex(text, rf"socks +{target} +reply 5")
        self.assertIn("SOCKS reply 5, connection refused", text)
