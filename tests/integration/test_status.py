"""The status address of a running ptunnel: one process, workers, under twistd."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import skipIf

from ptunnel.status.site import MOST_SERVED
from ptunnel.status.streams import MOST_STREAMS
from tests.integration.case import (
    HOST,
    IntegrationTestCase,
    RecordingProxy,
    at,
    echo,
    readToEnd,
    splicedConfig,
)
from tests.integration.programs import NO_PROXY_SETTINGS, PATIENCE, Ptunnel, eventually
from tests.integration.test_surroundings import twistd
from tests.support.loopback import freePort, takenPort

CANARY = "c4n4ry"
TOKEN = "t0k3n-" + CANARY
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STREAMS = 2000


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class StatusCase(IntegrationTestCase):
    """@ivar program: a ptunnel with a tunnel to an echo server and a status address."""

    workers = 1
    command: tuple[str, ...] = Ptunnel.COMMAND
    code = 0
    status = f"{HOST}:0"
    keys = ""

    def setUp(self) -> None:
        self.target = self.peer(echo)
        self.token = self.write(TOKEN + "\n")
        self.path = self.write(self.config())
        self.program = self.ptunnel("-v", "--config", self.path, command=self.command)
        self.port = self.program.port
        self.find()

    def config(self, status: str | None = None) -> str:
        return (
            f"[ptunnel]\nworkers = {self.workers}\nstatus = {status or self.status}\n"
            f"status-token-file = {self.token}\n{self.keys}\n[tunnel mail/in]\nlisten = {HOST}:0\n"
            f"target = {at(self.target)}\nvia = direct\n"
        )

    def find(self) -> int:
        """Find the status address in the log, the last one. @return: its port."""
        *_, found = re.findall(r"status on http://\S+:(\d+)/", self.program.output())
        self.statusPort = int(found)
        return self.statusPort

    def says(self, words: str) -> None:
        """The log may come a moment later than the answer."""
        eventually(lambda: words in self.program.output(), f"it says: {words}")

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.statusPort, PATIENCE)

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """@return: the code and the body."""
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def document(self, path: str = "/api/v1/") -> Any:
        code, body = self.ask(path)
        self.assertEqual(code, 200, body)
        return json.loads(body)

    def session(self) -> socket.socket:
        """A client that is carried."""
        client = self.dial(self.port)
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")
        return client


class StatusTests(StatusCase):
    def test_whatFlowsIsShown(self) -> None:
        client = self.session()
        eventually(lambda: self.document()["sessions"] == 1, "the session is counted")
        eventually(lambda: self.document()["bytes_received"] == 4, "its bytes are counted")
        document = self.document()
        [tunnel] = document["tunnels"]
        self.assertEqual((tunnel["name"], tunnel["connected_total"]), ("mail/in", 1))
        self.assertEqual(document["state"], "running")
        self.assertEqual(len(document["workers"]), self.workers if self.workers > 1 else 0)
        [session] = self.document("/api/v1/sessions")["sessions"]
        self.assertEqual(session["client"], "{}:{}".format(*client.getsockname()))
        self.assertEqual(self.ask("/healthz"), (200, "ok\n"))
        self.assertEqual(self.ask("/readyz"), (200, "ready\n"))
        self.assertIn("<!doctype html>", self.ask("/")[1].lower())

    def test_eventsComeByThemselves(self) -> None:
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", "/api/v1/stream")
            stream = connection.getresponse()
            names: list[str] = []
            while len(names) < 4:
                line = stream.readline().decode()
                if line.startswith("event: "):
                    names.append(line.split()[1])
        self.assertEqual(names, ["status", "sessions"] * 2)

    def test_whoEndsItsHalfBehindARequestGetsAllOfTheAnswer(self) -> None:
        for path in "/healthz", "/api/v1/", "/api/v1/sessions":
            with socket.create_connection((HOST, self.statusPort), PATIENCE) as client:
                client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                client.shutdown(socket.SHUT_WR)
                head, _, body = readToEnd(client).partition(b"\r\n\r\n")
            self.assertIn(b"Content-Length: %d" % len(body), head)

    def test_whoHasTheTokenSteers(self) -> None:
        client = self.session()
        eventually(lambda: self.document("/api/v1/sessions")["total"] == 1, "the session is listed")
        [session] = self.document("/api/v1/sessions")["sessions"]
        one = f"/api/v1/sessions/{session['number']}"
        self.assertEqual(self.ask(one, "DELETE")[0], 401)
        self.assertEqual(self.ask(one, "DELETE", {"Authorization": "Bearer x"})[0], 401)
        client.sendall(b"still")
        self.assertEqual(client.recv(100), b"still")
        self.assertEqual(self.ask(one, "DELETE", BEARER)[0], 204)
        with contextlib.suppress(ConnectionError):
            self.assertEqual(client.recv(100), b"")
        self.assertEqual(self.ask(one, "DELETE", BEARER)[0], 404)
        self.assertEqual(self.ask("/api/v1/tunnels/mail%2Fin/drain", "POST", BEARER)[0], 204)
        eventually(self.turnsAway, "new clients are turned away")
        self.assertEqual(self.ask("/api/v1/tunnels/mail%2Fin/undrain", "POST", BEARER)[0], 204)
        eventually(lambda: not self.turnsAway(), "new clients are served again")
        self.says("had a wrong token")

    def turnsAway(self) -> bool:
        with self.dial(self.port) as client, contextlib.suppress(ConnectionError):
            client.sendall(b"ping")
            return client.recv(100) == b""
        return True

    def test_aReloadMovesItAndTheTunnelsDoNotNotice(self) -> None:
        client, first = self.session(), self.statusPort
        with socket.create_connection((HOST, first), PATIENCE) as idle:
            for status, code in (f"{HOST}:{takenPort(self)}", 409), (f"{HOST}:{freePort()}", 200):
                Path(self.path).write_text(splicedConfig(self.config(status)))
                answered, body = self.ask("/api/v1/reload", "POST", BEARER)
                self.assertEqual(answered, code, body)
            idle.settimeout(PATIENCE)
            self.assertEqual(idle.recv(100), b"")
        self.says("address already in use")
        eventually(lambda: self.find() != first, "it says where it is now")
        client.sendall(b"still")
        self.assertEqual(client.recv(100), b"still")
        self.assertEqual(self.ask("/healthz"), (200, "ok\n"))

    def test_itStaysWhileAStopWaitsAndNoClientOfItDelaysTheEnd(self) -> None:
        client = self.session()
        stuck = socket.create_connection((HOST, self.statusPort), PATIENCE)
        self.addCleanup(stuck.close)
        stuck.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with socket.create_connection((HOST, self.statusPort), PATIENCE) as silent:
            os.kill(self.program.process.pid, signal.SIGTERM)
            eventually(lambda: self.ask("/readyz") == (503, "stopping\n"), "it says that it stops")
            self.assertEqual(self.ask("/healthz"), (200, "ok\n"))
            client.sendall(b"last")
            self.assertEqual(client.recv(100), b"last")
            client.close()
            self.assertEqual(self.program.process.wait(PATIENCE), self.code)
            self.assertIsNotNone(silent)

    def test_noSecretIsShown(self) -> None:
        """Nor is the token in the log, whatever is asked."""
        self.ask("/api/v1/reload", "POST", BEARER)
        self.ask(f"/{CANARY}", headers={"Authorization": f"Bearer {CANARY}", "Cookie": CANARY})
        self.ask("/api/v1/reload", "POST", {"Authorization": f"Bearer {CANARY}"})
        for path in "/", "/api/v1/", "/api/v1/sessions", "/metrics":
            self.assertNotIn(CANARY, self.ask(path, headers=BEARER)[1])
        self.assertNotIn(CANARY, self.program.output())


class WorkersStatusTests(StatusTests):
    workers = 2


class TwistdStatusTests(StatusTests):
    code = -signal.SIGTERM

    @property
    def command(self) -> tuple[str, ...]:  # type: ignore[override]
        return twistd()


class UnixStatusTests(StatusCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.status = f"unix:{self.folder}/s:mode=0660"
        super().setUp()

    def find(self) -> int:
        self.assertIn(f"status on unix:{self.folder}/s\n", self.program.output())
        return 0

    def connection(self) -> http.client.HTTPConnection:
        return UnixConnection(f"{self.folder}/s")

    def test_whoMayConnectSteersWithoutAToken(self) -> None:
        self.assertEqual(os.stat(f"{self.folder}/s").st_mode & 0o777, 0o660)
        self.assertIs(self.document()["may_steer"], True)
        self.assertEqual(self.ask("/api/v1/reload", "POST")[0], 403)
        self.assertEqual(self.ask("/api/v1/reload", "POST", {"X-Ptunnel": "1"})[0], 200)
        self.says("a reload begins, as a local client asked")
        self.assertEqual(self.program.end(), 0)
        self.assertEqual(os.listdir(self.folder), [])


class SecretTests(IntegrationTestCase):
    def test_noPasswordOfAProxyIsShownWhateverItAnswers(self) -> None:
        """It repeats what it was told, in its refusal."""
        proxy = RecordingProxy("Basic of somebody else")
        password = self.write(CANARY)
        config = self.write(
            f"[ptunnel]\nstatus = 0\n[proxy corp]\nurl = http://{at(proxy)}\nauth = basic\n"
            f"username = alice\n"
            f"password-file = {password}\nheader = X-Key: {CANARY}\n"
            f"[tunnel t]\nlisten = {HOST}:0\ntarget = t.example:1\nvia = corp\n"
        )
        program = self.ptunnel("--config", config)
        with self.dial(program.port) as client:
            self.assertEqual(client.recv(100), b"")
        self.assertIn(CANARY, b"".join(proxy.requests).decode())
        *_, port = re.findall(r"status on http://\S+:(\d+)/", program.output())
        for path in "/api/v1/", "/metrics", "/api/v1/sessions":
            connection = http.client.HTTPConnection(HOST, int(port), PATIENCE)
            with contextlib.closing(connection):
                connection.request("GET", path)
                body = connection.getresponse().read().decode()
            self.assertNotIn(CANARY, body)
            self.assertNotIn("YWxpY2U6", body)  # alice:
            if path == "/api/v1/":
                self.assertEqual(json.loads(body)["failures_total"], 1, body)


class StartTests(IntegrationTestCase):
    def start(self, *words: str) -> tuple[int, str, str]:
        command = [*Ptunnel.COMMAND, "-d", *words, f"{HOST}:0:t.example:1"]
        done = subprocess.run(
            command,
            env=NO_PROXY_SETTINGS,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout, done.stderr

    def test_anAddressThatIsTakenEndsTheStartInOneLine(self) -> None:
        port = takenPort(self)
        code, out, err = self.start("--status", str(port))
        [line] = out.splitlines()
        what = f"[ptunnel] status: cannot listen on {HOST}:{port}: address already in use"
        self.assertEqual((code, err), (1, ""))
        self.assertTrue(line.endswith(what), line)

    def test_soDoesAPathThatIsNoSocket(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        Path(folder, "s").write_text("x")
        code, out, _ = self.start("--status", f"unix:{folder}/s")
        [line] = out.splitlines()
        self.assertEqual(code, 1)
        self.assertIn("a file is there, and no socket; it stays as it is", line)

    def test_aTokenFileThatOthersCanReadIsAMistake(self) -> None:
        token = self.write("token")
        os.chmod(token, 0o644)
        config = self.write(f"[ptunnel]\nstatus = 0\nstatus-token-file = {token}\n")
        for more in (), ("--check-config",):
            code, out, err = self.start("-c", config, *more)
            what = f'{config}: [ptunnel] status-token-file: "{token}": it can be read by others'
            self.assertEqual((code, out), (2, ""))
            self.assertTrue(err.startswith(f"ptunnel: {what}"), err)
            self.assertEqual(err.count("\n"), 1)
        self.assertEqual(self.start("-c", config, "--status", "off", "-t")[0], 0)


@skipIf(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 3 * STREAMS,
    "there may not be that many open files",
)
class FloodTests(StatusCase):
    """Whatever comes to the status address, the tunnel goes on, and health is answered."""

    keys = "idle-timeout = 0"

    def setUp(self) -> None:
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.client = self.session()

    def goOn(self) -> None:
        self.client.sendall(b"more")
        self.assertEqual(self.client.recv(100), b"more")
        self.session().close()
        self.assertEqual(self.ask("/healthz"), (200, "ok\n"))

    def flood(self, count: int, data: bytes) -> list[socket.socket]:
        """Open so many connections, and send this on each."""
        clients = []
        for _ in range(count):
            client = socket.create_connection((HOST, self.statusPort), PATIENCE)
            clients.append(client)
            self.addCleanup(client.close)
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
        return clients

    def firstLines(self, clients: list[socket.socket]) -> Counter[bytes]:
        """What each is answered, in its first line; "" for those that were closed."""
        found: Counter[bytes] = Counter()
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(PATIENCE)
                self.assertTrue(ready, "some are not answered")
                for key, _ in ready:
                    selector.unregister(key.fileobj)
                    data = b""
                    with contextlib.suppress(ConnectionError):
                        data = key.fileobj.recv(100)  # type: ignore[union-attr]
                    found[data.partition(b"\r\n")[0]] += 1
        return found

    def test_twoThousandStreams(self) -> None:
        clients = self.flood(STREAMS, b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.goOn()
        found = self.firstLines(clients)
        self.assertEqual(found[b"HTTP/1.1 200 OK"], MOST_STREAMS)
        self.assertEqual(found[b"HTTP/1.1 503 Service Unavailable"], STREAMS - MOST_STREAMS)
        self.goOn()
        for client in clients:
            client.close()
        eventually(self.streams, "there is room for a stream again")

    def streams(self) -> bool:
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", "/api/v1/stream")
            return connection.getresponse().status == 200

    def test_manyThatSendNoWholeRequest(self) -> None:
        clients = self.flood(MOST_SERVED + 100, b"GET / HTTP/1.1\r\n")
        self.goOn()
        late = self.firstLines(clients[:100])  # they have lost their places
        self.assertEqual(late, {b"HTTP/1.1 503 Service Unavailable": 100})
        self.goOn()

    def test_whatIsTooLargeIsAnsweredAlthoughMoreOfItComes(self) -> None:
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        for data, line in (
            (head + b"a: %s\r\n" % (b"a" * 1000) * 3000, b"HTTP/1.1 431 "),
            (head + b"a" * 3_000_000, b"HTTP/1.1 431 "),
            (head + b"Content-Length: 3000000\r\n\r\n" + b"a" * 3_000_000, b"HTTP/1.1 413 "),
            (b"\x16\x03\x01 garbage\r\n" * 100_000, b"HTTP/1.1 400 "),
        ):
            client = socket.create_connection((HOST, self.statusPort), PATIENCE)
            self.addCleanup(client.close)
            sending = threading.Thread(target=_sendAll, args=(client, data), daemon=True)
            sending.start()
            self.assertTrue(client.recv(100).startswith(line))
            sending.join(PATIENCE)
            self.goOn()


def _sendAll(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)
