"""Clients of HTTP at a door: those that people have, through the proxies that companies have."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

import websocket

from tests.door.http.corpus import REFUSED, connect
from tests.integration.browser import chromiumWith
from tests.integration.case import at, echo, headOf, readToEnd, run
from tests.integration.doors import DoorCase
from tests.integration.programs import (
    HOST,
    NO_PROXY_SETTINGS,
    PATIENCE,
    Nginx,
    Program,
    Ptunnel,
    Squid,
    Sshd,
    Tinyproxy,
    eventually,
    required,
    shared,
)
from tests.integration.sites import THING, SecureSite, files
from tests.support import authority

CA = authority.authority().cert
LOGIN = "alice", "a-word-for-the-door"


class HttpDoorCase(DoorCase):
    """Starts doors, and asks through them."""

    def door(self, proxy: Program, *keys: str) -> Ptunnel:
        """Return ptunnel with a door through a proxy. @param keys: further lines of its section."""
        return self.behind(f"url = http://{at(proxy)}", *keys)

    def doors(self) -> list[Ptunnel]:
        """Return one through each proxy."""
        return [self.door(shared(Squid)), self.door(shared(Tinyproxy)), *self.knownDoors()]

    def folder(self) -> str:
        path = os.path.abspath(self.mktemp())
        os.mkdir(path)
        return path

    def succeed(self, *command: str, env: dict[str, str] | None = None) -> bytes:
        """Return what a program writes, which must succeed."""
        done = subprocess.run(
            [required(command[0]), *command[1:]],
            env={**NO_PROXY_SETTINGS, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def exchange(self, door: Ptunnel, data: bytes) -> bytes:
        """Return all that comes for what is sent."""
        with self.dial(door.port) as client:
            with contextlib.suppress(ConnectionError):  # it may have refused half of it already
                client.sendall(data)
            return readToEnd(client)


class ClientTests(HttpDoorCase):
    def test_curl(self) -> None:
        plain, secure = shared(Nginx), shared(SecureSite)
        for door in self.doors():
            for words in ("-x", f"http://{at(door)}"), ("--proxy1.0", at(door)):
                page = self.succeed("curl", "-sSfp", *words, f"http://{at(plain)}/page")
                self.assertEqual(page.decode(), Nginx.PAGE)
                page = self.succeed("curl", "-sSf", "--cacert", CA, *words, secure.url("page"))
                self.assertEqual(page.decode(), Nginx.PAGE)

    def test_curlBehindItsEnvironment(self) -> None:
        site = shared(SecureSite)
        for door in self.doors():
            environment = {"https_proxy": f"http://{at(door)}", "CURL_CA_BUNDLE": CA}
            page = self.succeed("curl", "-sSf", site.url("page"), env=environment)
            self.assertEqual(page.decode(), Nginx.PAGE)

    def test_git(self) -> None:
        site = shared(SecureSite)
        for door in self.doors():
            folder = os.path.join(self.folder(), "clone")
            environment = {"https_proxy": f"http://{at(door)}", "GIT_SSL_CAINFO": CA}
            self.succeed("git", "clone", "-q", site.url("repo.git"), folder, env=environment)
            self.assertEqual(Path(folder, "kept").read_text(), Nginx.PAGE)

    def test_pip(self) -> None:
        site = shared(SecureSite)
        for door in self.doors():
            folder = self.folder()
            words = ["--isolated", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]
            words += ["--proxy", f"http://{at(door)}", "--cert", CA, "-i", site.url("simple/")]
            command = [sys.executable, "-m", "pip", "download", "-q", *words, "-d", folder, THING]
            self.succeed(*command, env={"REQUESTS_CA_BUNDLE": CA})
            self.assertEqual(files(folder), {f"{THING.replace('-', '_')}-1.0-py3-none-any.whl"})

    def test_npm(self) -> None:
        site = shared(SecureSite)
        for door in self.doors():
            folder = self.folder()
            words = [f"--registry={site.registry()}", f"--cafile={CA}", "--fetch-retries=0"]
            words += [f"--https-proxy=http://{at(door)}", f"--pack-destination={folder}"]
            words += [
                f"--cache={self.folder()}",
                "--userconfig=/dev/null",
                "--update-notifier=false",
            ]
            self.succeed("npm", "pack", "--loglevel=http", *words, THING, env={"HOME": folder})
            self.assertEqual(files(folder), {f"{THING}-1.0.0.tgz"})

    def test_ssh(self) -> None:
        sshd = shared(Sshd)
        source = self.write("carried\n" * 50_000)
        for door in self.doors():
            for program in (
                f"{required('nc')} -X connect -x {at(door)} %h %p",
                f"{required('ncat')} --proxy-type http --proxy {at(door)} %h %p",
            ):
                copy = os.path.join(self.folder(), "copy")
                words = f"-oProxyCommand={program}", "-P", str(sshd.port)
                sshd.scp(*words, source, f"{HOST}:{copy}")
                self.assertEqual(Path(copy).read_text(), Path(source).read_text())

    def test_aWebSocket(self) -> None:
        server = self.peer(webSocketEcho)
        for door in self.doors():
            client = websocket.create_connection(
                f"ws://{at(server)}/",
                timeout=PATIENCE,
                http_proxy_host=HOST,
                http_proxy_port=door.port,
                http_no_proxy=["none.example"],
            )
            client.send("ping")
            self.assertEqual(client.recv(), "ping")
            client.close()


class BrowserTests(HttpDoorCase):
    def test_aPageAndAWebSocket(self) -> None:
        for door in self.door(shared(Squid)), *self.knownDoors():
            self.assertBrowses(door)

    def assertBrowses(self, door: Ptunnel) -> None:
        site, server = shared(SecureSite), self.peer(webSocketEcho)
        browser = chromiumWith(
            f"--proxy-server=http://{at(door)}",
            "--proxy-bypass-list=<-loopback>",  # loopback too
            "--ignore-certificate-errors",
        )
        self.addCleanup(browser.quit)
        browser.get(site.url("page.html"))
        self.assertIn("The page.", browser.page_source)
        script = """
            const done = arguments[1], socket = new WebSocket(arguments[0]);
            socket.onopen = () => socket.send("ping");
            socket.onmessage = (message) => done(message.data);
            socket.onerror = () => done("an error");
        """
        self.assertEqual(browser.execute_async_script(script, f"ws://{at(server)}/"), "ping")


class CarryingTests(HttpDoorCase):
    def test_bulkPassesBothWays(self) -> None:
        door, size = self.door(shared(Squid)), 32 << 20
        target = self.peer(echo)
        with self.dial(door.port) as client:
            client.sendall(connect(start=f"CONNECT {at(target)} HTTP/1.1"))
            self.assertEqual(headOf(client), b"HTTP/1.1 200 Connection established\r\n\r\n")
            data = random.Random(1).randbytes(1 << 20)
            sender = threading.Thread(
                target=lambda: [client.sendall(data) for _ in range(size >> 20)], daemon=True
            )
            sender.start()
            digest, left = hashlib.sha256(), size
            while left and (came := client.recv(min(left, 1 << 20))):
                digest.update(came)
                left -= len(came)
            sender.join(PATIENCE)
        self.assertEqual(digest.digest(), hashlib.sha256(data * (size >> 20)).digest())

    def test_whatIsSentWithTheRequestIsTheTunnels(self) -> None:
        target = self.peer(echo)
        for door in self.doors():
            with self.dial(door.port) as client:
                client.sendall(connect(start=f"CONNECT {at(target)} HTTP/1.0") + b"early")
                with client.makefile("rb") as stream:
                    self.assertIn(b" 200 ", stream.readline())
                    self.assertEqual(stream.readline(), b"\r\n")
                    self.assertEqual(stream.read(5), b"early")


class LoginTests(HttpDoorCase):
    def keys(self) -> tuple[str, str]:
        return f"username = {LOGIN[0]}", f"password-file = {self.write(LOGIN[1])}"

    def test_itIsAskedForAndTaken(self) -> None:
        site = shared(SecureSite)
        door = self.door(shared(Squid), *self.keys())
        user = ":".join(LOGIN)
        for words in (), ("--proxy-anyauth",):
            page = self.succeed(
                "curl", "-sSf", "-x", f"http://{at(door)}", "-U", user, *words,
                "--cacert", CA, site.url("page"),
            )  # fmt: skip
            self.assertEqual(page.decode(), Nginx.PAGE)
        environment = {"https_proxy": f"http://{user}@{at(door)}", "GIT_SSL_CAINFO": CA}
        self.succeed("git", "ls-remote", "-q", site.url("repo.git"), env=environment)

    def test_itGoesNoFurther(self) -> None:
        squid = shared(Squid, "http_access allow all # seen")
        door = self.door(squid, *self.keys())
        target = self.peer(echo)
        words = base64.b64encode(":".join(LOGIN).encode()).decode()
        request = connect(
            f"Proxy-Authorization: Basic {words}", start=f"CONNECT {at(target)} HTTP/1.1"
        )
        with self.dial(door.port) as client:
            client.sendall(request)
            self.assertIn(b" 200 ", headOf(client))
        (seen,) = eventually(lambda: squid.seen(at(target)), "squid logs the tunnel")
        self.assertEqual(seen.authorization, "-")

    def test_aWrongOneIsToldAndLogged(self) -> None:
        door = self.door(shared(Squid), *self.keys())
        done = run(
            *("curl", "-sS", "-x", f"http://{at(door)}", "-U", "alice:c4n4ry"),
            f"https://{HOST}:1/",
        )
        self.assertIn(b"407", done.stderr)
        self.assertOneLine(door, "a wrong user name or password")
        self.assertNotIn("c4n4ry", door.output())

    def test_whoGivesNoneIsAsked(self) -> None:
        door = self.door(shared(Squid), *self.keys())
        answer = self.exchange(door, connect())
        self.assertTrue(answer.startswith(b"HTTP/1.1 407 "))
        self.assertIn(b"\r\nProxy-Authenticate: Basic realm=", answer)


class RefusalTests(HttpDoorCase):
    def test_aProxyThatRefusesIsA403(self) -> None:
        door = self.door(shared(Squid, Squid.DEFAULT))
        answer = self.exchange(door, connect(start=f"CONNECT {HOST}:1 HTTP/1.1"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 The next proxy refuses this port\r\n"))
        self.assertIn(b"443 only", answer)
        self.assertNotIn(b"squid.test", answer)

    def test_aTargetThatIsNotThereIsA502(self) -> None:
        for door in self.doors():
            answer = self.exchange(door, connect(start=f"CONNECT {HOST}:1 HTTP/1.1"))
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)

    def test_aProxyThatIsNotThereIsA502(self) -> None:
        with socket.create_server((HOST, 0)) as gone:
            port = gone.getsockname()[1]
        config = f"[proxy corp]\nurl = http://{HOST}:{port}\n[door test]\nlisten = {HOST}:0\n"
        door = self.ptunnel("--config", self.write(config))
        answer = self.exchange(door, connect())
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 The next proxy cannot be reached\r\n"))

    def test_aTargetThatTheDoorForbidsIsA403(self) -> None:
        door = self.door(shared(Squid))
        answer = self.exchange(door, connect(start=f"CONNECT {HOST}:{door.port} HTTP/1.1"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)

    def test_theWholeCorpusIsAnsweredAndDisturbsNobody(self) -> None:
        door = self.door(shared(Squid), "protocol = http")
        target = self.peer(echo)
        with self.dial(door.port) as other:
            other.sendall(connect(start=f"CONNECT {at(target)} HTTP/1.1"))
            headOf(other)
            answers = {name: self.exchange(door, data) for name, (data, _) in REFUSED.items()}
            other.sendall(b"still")
            self.assertEqual(other.recv(100), b"still")
        self.assertEqual(
            {name: int(answer[9:12] or 0) for name, answer in answers.items()},
            {name: status for name, (_, status) in REFUSED.items()},
        )
        eventually(lambda: len(door.lines()) >= len(REFUSED), "a line for each")
        self.assertEqual(door.end(), 0)
        self.assertEqual(len(door.lines()), len(REFUSED))

    def test_whoOpensItInABrowserIsTold(self) -> None:
        door = self.door(shared(Squid))
        done = run("curl", "-sS", f"http://{at(door)}/")
        self.assertIn(b"You have reached a proxy", done.stdout)


def webSocketEcho(connection: socket.socket) -> None:
    """Shake hands (RFC 6455 section 4.2.2), and send the first message back."""
    head = headOf(connection).decode()
    key = next(line for line in head.splitlines() if line.lower().startswith("sec-websocket-key:"))
    text = key.partition(":")[2].strip() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )
    with connection.makefile("rb") as stream:
        _, size = stream.read(2)
        mask, data = stream.read(4), stream.read(size & 127)
        plain = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        connection.sendall(bytes([0x81, len(plain)]) + plain)
        stream.read()
