"""Requests for http:// URLs through a door: curl and others, real proxies, nginx as the origin."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from tests.integration.case import IntegrationTestCase, Peer, at, headOf, run
from tests.integration.kerberos import (
    SERVICE_HOST,
    KeyDistributionCentre,
    SquidWithNegotiate,
    gssapiRequired,
)
from tests.integration.programs import (
    HOST,
    PATIENCE,
    Nginx,
    Program,
    Ptunnel,
    Squid,
    SquidWithDigest,
    SquidWithNtlm,
    SquidWithPassword,
    SquidWithTls,
    Tinyproxy,
    eventually,
    required,
    shared,
)
from tests.support import authority

USER = "alice"
PASSWORD = "p@ss:w/rd 100%41"
WRONG = "another-password"
BULK = 100 * 1024 * 1024
# More than is kept for a second sending, and asks for no Expect in curl.
LONG = 300 * 1024


def answered(connection: socket.socket) -> None:
    """An origin that answers each request with the digest of its body."""
    with connection.makefile("rb") as stream:
        while head := headIn(stream):
            fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:] if line)
            if b"100-continue" in fields.get(b"expect", b""):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            digest, left = hashlib.sha256(), int(fields.get(b"content-length", b"0"))
            if b"chunked" in fields.get(b"transfer-encoding", b""):
                while size := int(stream.readline().split(b";")[0], 16):
                    digest.update(stream.read(size))
                    stream.readline()
                stream.readline()
            while left:
                data = stream.read(min(left, 1 << 20))
                digest.update(data)
                left -= len(data)
            said = digest.hexdigest().encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)


def headIn(stream: object) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line: bytes = stream.readline()
        if not line:
            return b""
        head += line
    return head


class DoorCase(IntegrationTestCase):
    """A door through one proxy, or without one."""

    def door(self, proxies: str = "", via: str = "corp", **settings: object) -> Ptunnel:
        keys = f"listen = {HOST}:0\nvia = {via}\ntargets = 127.0.0.0/8:*\nprotocol = http\n"
        config = self.write(f"{proxies}\n[door test]\n{keys}")
        return self.ptunnel("--config", config, **settings)

    def curl(self, door: Ptunnel, *words: str, stdin: bytes = b"") -> bytes:
        """What curl, which is to succeed, writes."""
        quiet = ("-sS", "--fail", "--noproxy", "", "--max-time", str(PATIENCE))
        done = run(required("curl"), *quiet, "-x", f"http://{at(door)}", *words, stdin=stdin)
        self.assertEqual((done.returncode, done.stderr), (0, b""), door.output())
        return done.stdout

    def body(self, size: int) -> tuple[str, str]:
        """A file of this size: its path, and its digest."""
        path = Path(self.mktemp()).absolute()
        data = os.urandom(1 << 16) * (size // (1 << 16)) + b"x" * (size % (1 << 16))
        path.write_bytes(data)
        return str(path), hashlib.sha256(data).hexdigest()

    def page(self) -> str:
        return f"http://{at(shared(Nginx))}/page"


def corp(proxy: Program, passwordFile: str = "", *more: str, host: str = HOST) -> str:
    lines = ["[proxy corp]", f"url = http://{host}:{proxy.port}", *more]
    if passwordFile:
        lines += [f"username = {USER}", f"password-file = {passwordFile}"]
    return "\n".join(lines)


class Known:
    """What every proxy does for those whom it knows."""

    # What the proxy is asked with by a first client, and by each later one, for each request.
    first: list[str]
    later: list[str]

    @property
    def withBody(self) -> list[str]:
        """What it is asked with by a first client whose request has a long body."""
        return self.first

    @abstractmethod
    def proxy(self) -> Squid:
        """The proxy that knows us."""

    @abstractmethod
    def through(self) -> Ptunnel:
        """ptunnel with a door through it."""

    def schemes(self, url: str) -> list[str]:
        return [seen.scheme for seen in self.proxy().seen(url)]

    def url(self, origin: Program | Peer) -> str:
        return f"http://{at(origin)}/page"

    def test_aPageByKeepAlive(self) -> None:
        door, url = self.through(), self.url(shared(Nginx))
        got = self.curl(door, url, url, url)  # one connection
        self.assertEqual(got.decode(), 3 * Nginx.PAGE)

    def test_theClientSeesNoChallengeAndTheProxyOnlyWhatItNeeds(self) -> None:
        door, url = self.through(), self.url(self.peer(answered))
        for _ in range(2):
            self.curl(door, url)
        self.assertEqual(self.schemes(url), self.first + self.later)

    def test_bodiesShortAndLong(self) -> None:
        origin = self.peer(answered)
        door = self.through()
        for size in 10, LONG, 3 * LONG:
            path, digest = self.body(size)
            for more in ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"], []:
                url = self.url(origin)
                got = self.curl(door, *more, "--data-binary", f"@{path}", url, url)
                self.assertEqual(got.decode(), 2 * digest, (size, more))

    def test_aLongBodyComesFirst(self) -> None:
        origin = self.peer(answered)
        path, digest = self.body(LONG)
        url = self.url(origin)
        door = self.through()
        got = self.curl(door, "-H", "Expect:", "--data-binary", f"@{path}", url)
        self.assertEqual(got.decode(), digest)
        self.assertEqual(self.schemes(url), self.withBody)


class Unknown:
    """What every proxy does for those whom it does not know."""

    @abstractmethod
    def stranger(self) -> tuple[Squid, Ptunnel]:
        """A proxy, and a door through it with what it rejects."""

    def test_wrongCredentialsAreSentOnceInAll(self) -> None:
        proxy, door = self.stranger()
        origin = self.peer(answered)
        url = f"http://{at(origin)}/wrong"
        clients = [self.dial(door.port) for _ in range(50)]
        for client in clients:
            client.sendall(f"GET {url} HTTP/1.1\r\nHost: {at(origin)}\r\n\r\n".encode())
        for client in clients:
            with client.makefile("rb") as stream:
                self.assertTrue(stream.readline().startswith(b"HTTP/1.1 502 "))
        schemes = [seen.scheme for seen in proxy.seen(url)]
        self.assertEqual([scheme for scheme in schemes if scheme != "-"], self.later)
        for line in door.lines():
            self.assertIn("rejects the credentials", line)


class WithPassword(Known, Unknown):
    kind: type[SquidWithPassword]

    def proxy(self) -> SquidWithPassword:
        return shared(self.kind, USER, PASSWORD)

    def through(self) -> Ptunnel:
        return self.door(corp(self.proxy(), self.write(PASSWORD)))

    def stranger(self) -> tuple[Squid, Ptunnel]:
        return self.proxy(), self.door(corp(self.proxy(), self.write(WRONG)))


class BasicTests(WithPassword, DoorCase):
    kind = SquidWithPassword
    first = ["-", "Basic"]
    later = ["Basic"]


class DigestTests(WithPassword, DoorCase):
    kind = SquidWithDigest
    first = ["-", "Digest"]
    later = ["Digest"]

    def test_aNonceThatIsUsedUpIsReplaced(self) -> None:
        door, url = self.through(), self.url(shared(Nginx))
        count = 4 * SquidWithDigest.NONCE_COUNT
        self.assertEqual(self.curl(door, *count * [url]).decode(), count * Nginx.PAGE)


class NtlmTests(WithPassword, DoorCase):
    kind = SquidWithNtlm
    first = ["-", "NTLM 1", "NTLM 3"]
    later = ["NTLM 1", "NTLM 3"]

    def test_aConnectionIsKnownOnce(self) -> None:
        door, url = self.through(), self.url(self.peer(answered))
        self.curl(door, url, url, url)
        self.assertEqual(self.schemes(url), [*self.first, "-", "-"])


class NegotiateTests(Known, Unknown, DoorCase):
    first = ["-", "Negotiate"]
    later = ["Negotiate"]
    # A ticket may be the first of several messages, so it comes without the body.
    withBody = ["-", "Negotiate", "-"]

    def setUp(self) -> None:
        gssapiRequired()
        self.centre = shared(KeyDistributionCentre)

    def proxy(self) -> Squid:
        return shared(SquidWithNegotiate)

    def through(self) -> Ptunnel:
        return self.ticketed(self.proxy(), self.centre.withTicket())

    def stranger(self) -> tuple[Squid, Ptunnel]:
        proxy = shared(SquidWithNegotiate, "another centre")
        return proxy, self.ticketed(proxy, self.centre.withTicket())

    def ticketed(self, proxy: Program, environment: Mapping[str, str]) -> Ptunnel:
        return self.door(corp(proxy, host=SERVICE_HOST), environment=environment)


class OpenTests(DoorCase):
    """Proxies that ask nobody, and no proxy."""

    def test_everyKindOfWay(self) -> None:
        for proxies, via in (
            (corp(shared(Squid)), "corp"),
            (corp(shared(Tinyproxy)), "corp"),
            ("", "direct"),
        ):
            door = self.door(proxies, via)
            got = self.curl(door, self.page(), self.page())
            self.assertEqual(got.decode(), 2 * Nginx.PAGE, via)

    def test_whatTheProxySaysItselfGoesThrough(self) -> None:
        door = self.door(corp(shared(Squid, "http_access deny all")))
        done = run(required("curl"), "-sS", "-i", "-x", f"http://{at(door)}", self.page())
        self.assertIn(b"HTTP/1.1 403 Forbidden\r\n", done.stdout)
        self.assertIn(b"ERR_ACCESS_DENIED", done.stdout)

    def test_anOriginThatIsNotThere(self) -> None:
        door = self.door("", "direct")
        gone = self.peer(answered)
        gone.stop()
        done = run(required("curl"), "-sS", "-i", "-x", f"http://{at(door)}", f"http://{at(gone)}/")
        self.assertIn(b"HTTP/1.1 502 ", done.stdout)
        self.assertIn(b"The target refuses the connection.", done.stdout)
        eventually(door.lines, "a line in the log")
        self.assertIn("gets no answer: cannot reach", door.lines()[0])

    def test_aProxyWithTls(self) -> None:
        pair = authority.server(HOST)
        proxy = shared(SquidWithTls, pair.cert, pair.key, "")
        lines = "[proxy corp]", f"url = https://{at(proxy)}"
        door = self.door("\n".join([*lines, f"ca-file = {authority.authority().cert}"]))
        origin = self.peer(answered)
        path, digest = self.body(LONG)
        got = self.curl(door, "--data-binary", f"@{path}", f"http://{at(origin)}/")
        self.assertEqual(got.decode(), digest)
        self.assertEqual(self.curl(door, self.page(), self.page()).decode(), 2 * Nginx.PAGE)

    def test_aBodyThatNobodyWantsIsNotWaitedFor(self) -> None:
        path, _ = self.body(10 * LONG)  # nginx takes 1 MiB
        # Not through squid, which resets the connection behind its answer, now and then before that
        # is read.
        door = self.door("", "direct")
        words = "-sS", "-i", "-H", "Expect:", "--data-binary", f"@{path}"
        done = run(required("curl"), *words, "-x", f"http://{at(door)}", self.page())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"HTTP/1.1 413 ", done.stdout)

    def test_aClientThatEndsItsHalfGetsItsAnswer(self) -> None:
        door, nginx = self.door("", "direct"), shared(Nginx)
        with self.dial(door.port) as client:
            client.sendall(f"GET {self.page()} HTTP/1.0\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as stream:
                self.assertTrue(stream.read().endswith(Nginx.PAGE.encode()), nginx.output())

    def test_anIdleClientIsNotWaitedForAtTheEnd(self) -> None:
        door = self.door("", "direct")
        with self.dial(door.port) as client:
            host = at(shared(Nginx))
            client.sendall(f"HEAD {self.page()} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 200 "))
            door.process.terminate()
            self.assertEqual(client.recv(100), b"")
            client.close()
            self.assertEqual(door.process.wait(PATIENCE), 0)

    def test_aCutIsACut(self) -> None:
        def cutting(connection: socket.socket) -> None:
            headOf(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

        door, origin = self.door("", "direct"), self.peer(cutting)
        done = run(required("curl"), "-sS", "-x", f"http://{at(door)}", f"http://{at(origin)}/")
        self.assertIn(done.returncode, (18, 56))  # a partial file, or a reset
        self.assertEqual(done.stdout, b"half")

    def test_aptGetsWhatItAsksFor(self) -> None:
        folder, nginx = Path(self.mktemp()).absolute(), shared(Nginx)
        for name in "lists/partial", "cache/archives/partial", "etc":
            (folder / name).mkdir(parents=True)
        (folder / "etc" / "sources.list").touch()
        door = self.door(corp(shared(Squid)))
        options = {
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "Dir::Etc": folder / "etc",
            "Acquire::http::Proxy": f"http://{at(door)}",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        target = folder / "got"
        helper = "/usr/lib/apt/apt-helper"
        done = run(
            required("apt-helper", "/usr/lib/apt"),
            *words,
            "download-file",
            f"http://{at(nginx)}/page",
            str(target),
        )
        self.assertEqual(done.returncode, 0, (helper, done.stdout, done.stderr))
        self.assertEqual(target.read_text(), Nginx.PAGE)


class BulkTests(DoorCase):
    """100 MiB each way, with memory that does not grow with them."""

    def test_upAndDown(self) -> None:
        size = BULK
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        for _ in range(size >> 20):
            digest.update(block)

        def sending(connection: socket.socket) -> None:
            headOf(connection)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
            connection.sendall(head)
            for _ in range(size >> 20):
                connection.sendall(block)

        path = Path(self.mktemp()).absolute()
        with path.open("wb") as file:
            for _ in range(size >> 20):
                file.write(block)
        proxy = shared(SquidWithPassword, USER, PASSWORD)
        for door in (
            self.door("", "direct"),
            self.door(corp(proxy, self.write(PASSWORD))),
        ):
            self.curl(door, self.page())  # all that is imported late is there
            before = peak(door)
            got = self.curl(door, "-T", str(path), f"http://{at(self.peer(answered))}/")
            self.assertEqual(got.decode(), digest.hexdigest())
            got = self.curl(door, f"http://{at(self.peer(sending))}/")
            self.assertEqual(hashlib.sha256(got).hexdigest(), digest.hexdigest())
            self.assertLess(peak(door) - before, 2 * 1024)

    def test_aClientThatDoesNotReadCostsABoundedPart(self) -> None:
        block = bytes(1 << 20)

        def sending(connection: socket.socket) -> None:
            headOf(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(block)

        origin = self.peer(sending)
        door = self.door("", "direct")
        self.curl(door, self.page())
        before = peak(door)
        count = 8
        clients = [self.dial(door.port) for _ in range(count)]
        for client in clients:
            client.sendall(f"GET http://{at(origin)}/ HTTP/1.0\r\n\r\n".encode())
        eventually(lambda: origin.connections == count, "all are connected")
        # The origin gives up when nobody takes more of it.
        for client in clients:
            self.assertTrue(client.recv(1))
        self.assertLess((peak(door) - before) / count, 512)


def peak(program: Program) -> int:
    """The most memory that it has had, in KiB."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


class WebSocketTests(DoorCase):
    """A WebSocket by Upgrade, as clients do it that know no CONNECT."""

    def test_messagesGoBothWays(self) -> None:
        origin = self.peer(echoing)
        rules = f"{Squid.OPEN}\nhttp_upgrade_request_protocols websocket allow all"
        for door in self.door("", "direct"), self.door(corp(shared(Squid, rules))):
            with self.dial(door.port) as client:
                self.assertEchoesMessages(client, at(origin))

    def assertEchoesMessages(self, client: socket.socket, origin: str) -> None:
        connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        asks = connection.send(Request(host=origin, target="/"))
        client.sendall(asks.replace(b"GET / ", f"GET http://{origin}/ ".encode(), 1))
        sent = [bytes(range(256)) * 1000, b"short"]
        got: list[bytes] = []
        while len(got) <= len(sent):  # the last one is begun, and never comes
            connection.receive_data(client.recv(65536) or None)
            for event in connection.events():
                if isinstance(event, AcceptConnection):
                    for message in sent:
                        client.sendall(connection.send(BytesMessage(message)))
                    got.append(b"")
                elif isinstance(event, BytesMessage):
                    got[-1] += bytes(event.data)
                    if event.message_finished:
                        got.append(b"")
                else:
                    self.fail(event)
        self.assertEqual(got[: len(sent)], sent)


def echoing(server: socket.socket) -> None:
    """A WebSocket server that sends each message back."""
    connection = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    while data := server.recv(65536):
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, Request):
                server.sendall(connection.send(AcceptConnection()))
            elif isinstance(event, (BytesMessage, TextMessage)):
                again = type(event)(event.data, message_finished=event.message_finished)
                server.sendall(connection.send(again))
            elif isinstance(event, CloseConnection):
                return
