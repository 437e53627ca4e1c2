"""Clients of SOCKS at a door: those that people have, through squids that want to know us."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import threading
from functools import partial

from tests.integration.case import Peer, at, echo, run
from tests.integration.doors import PASSWORD, TARGETS, USER, DoorCase
from tests.integration.programs import (
    HOST,
    PATIENCE,
    Nginx,
    Postgres,
    Program,
    Ptunnel,
    Squid,
    SquidWithDigest,
    Sshd,
    required,
    shared,
)
from tests.integration.socksservers import Dante
from tests.support import authority

WRONG = "another-word"
CLIENTS = 60
MEBIBYTE = 1 << 20


class SocksDoorCase(DoorCase):
    def doors(self) -> list[Ptunnel]:
        """One behind each kind of proxy."""
        return [*self.knownDoors(), self.behind(f"url = socks5h://{at(shared(Dante))}")]


class ClientTests(SocksDoorCase):
    """Each program, through each proxy."""

    def test_curlGetsAPageBySocks5AndSocks4(self) -> None:
        page = f"http://{at(shared(Nginx))}/page"
        for door in self.doors():
            for scheme in "socks5h", "socks5", "socks4a", "socks4":
                proxy = f"{scheme}://{HOST}:{door.port}"
                done = run(required("curl"), "-sS", "--proxy", proxy, page)
                self.assertEqual(done.stdout.decode(), Nginx.PAGE, (scheme, done.stderr))

    def test_scpCopiesThroughNetcat(self) -> None:
        sshd = shared(Sshd)
        contents = os.urandom(4 * MEBIBYTE)
        here = os.path.abspath(self.mktemp())
        with open(here, "wb") as file:
            file.write(contents)
        for door in self.doors():
            address = f"{HOST}:{door.port}"
            for command in (
                [required("nc.openbsd"), "-X", "5", "-x", address],
                [required("ncat"), "--proxy-type", "socks5", "--proxy", address],
            ):
                there, back = sshd.folder / f"there{door.port}", os.path.abspath(self.mktemp())
                options = f"-oProxyCommand={shlex.join(command)} %h %p", "-P", str(sshd.port)
                sshd.scp(*options, here, f"{HOST}:{there}")
                sshd.scp(*options, f"{HOST}:{there}", back)
                with open(back, "rb") as file:
                    self.assertTrue(file.read() == contents)  # assertEqual would print both

    def test_psqlComesThroughProxychains(self) -> None:
        pair = authority.server(HOST)
        postgres = shared(Postgres, pair.cert, pair.key)
        words = f"host={HOST} port={postgres.port} dbname=postgres user={Postgres.USER}"
        words += f" password={Postgres.PASSWORD} connect_timeout={PATIENCE:g}"
        for door in self.doors():
            chain = self.write(f"strict_chain\n[ProxyList]\nsocks5 {HOST} {door.port}\n")
            psql = [required("psql"), "-XAtc", "select 6*7", words]
            done = run(required("proxychains4"), "-q", "-f", chain, *psql)
            self.assertEqual(done.stdout, b"42\n", done.stderr)

    def test_gitClones(self) -> None:
        made = os.path.abspath(self.mktemp())
        git = required("git")
        me = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
        self.assertEqual(run(git, "init", "-q", made).returncode, 0)
        commit = [git, "-C", made, *me, "commit", "-q", "--allow-empty", "-m", "the only one"]
        self.assertEqual(run(*commit).returncode, 0)
        self.assertEqual(run(git, "-C", made, "update-server-info").returncode, 0)
        site = self.peer(partial(_serveFiles, os.path.join(made, ".git")))
        for door in self.doors():
            clone = os.path.abspath(self.mktemp())
            proxy = f"http.proxy=socks5h://{HOST}:{door.port}"
            done = run(git, "-c", proxy, "clone", "-q", f"http://{at(site)}/", clone)
            self.assertEqual(done.returncode, 0, done.stderr)
            log = run(git, "-C", clone, "log", "--format=%s")
            self.assertEqual(log.stdout, b"the only one\n")


class DoorTests(SocksDoorCase):
    def test_mailAndBulkPass(self) -> None:
        def carry(target: Program | Peer) -> _Forwarded:
            forwarded = _Forwarded(self.known(SquidWithDigest), target.port)
            self.addCleanup(forwarded.stop)
            return forwarded

        self.assertCarries(carry)  # type: ignore[arg-type]

    def test_aWrongPasswordForTheProxyIsSentOnce(self) -> None:
        target = self.peer(echo)
        door = self.known(SquidWithDigest, WRONG)
        answers = [self.ask(door.port, target.port) for _ in range(CLIENTS)]
        self.assertEqual({answer[:2] for answer in answers}, {b"\5\1"})
        self.assertEqual(door.end(), 0)
        schemes = [seen.scheme for seen in shared(SquidWithDigest, USER, PASSWORD).seen(at(target))]
        self.assertEqual([scheme for scheme in schemes if scheme != "-"], ["Digest"])
        self.assertEqual(target.connections, 0)

    def test_whatTheDoorWantsToKnowIsAskedForAndJudged(self) -> None:
        login = f"username = {USER}\npassword-file = {self.write(PASSWORD)}"
        door = self.behind(f"url = http://{at(shared(Squid))}", login)
        page = f"http://{at(shared(Nginx))}/page"
        for user, code in ((f"{USER}:{PASSWORD}@", 0), (f"{USER}:{WRONG}@", 97), ("", 97)):
            proxy = f"socks5h://{user}{HOST}:{door.port}"
            done = run(required("curl"), "-sS", "--proxy", proxy, page)
            self.assertEqual(done.returncode, code, (user, done.stderr))
        self.assertEqual(door.end(), 0)
        lines = door.lines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertNotIn(WRONG, line)
            self.assertIn("user name and password", line)

    def test_repliesSayWhyThereIsNoTarget(self) -> None:
        squid = shared(Squid, "acl bad port 9\nhttp_access deny bad\nhttp_access allow all")
        door = self.behind(f"url = http://{at(squid)}")
        with socket.socket() as unused:
            unused.bind((HOST, 0))
            closed = unused.getsockname()[1]
            for port, code in ((9, 2), (closed, 4)):
                self.assertEqual(self.ask(door.port, port)[:2], bytes([5, code]), port)
        direct = self.ptunnel(
            "--config", self.write(f"[door d]\nlisten = {HOST}:0\nvia = direct\n{TARGETS}")
        )
        self.assertEqual(self.ask(direct.port, closed)[:2], b"\5\5")
        self.assertEqual(self.ask(direct.port, direct.port)[:2], b"\5\2")  # itself

    def test_aDoorOfTheCommandLineReachesNothingOfThisMachine(self) -> None:
        target = self.peer(echo)
        door = self.ptunnel("-p", at(shared(Squid)), "-D", "0")
        self.assertEqual(self.ask(door.port, target.port)[:2], b"\5\2")
        self.assertEqual(target.connections, 0)
        self.assertEqual(door.end(), 0)
        self.assertIn("not among the targets of this door", door.lines()[0])

    def ask(self, port: int, target: int) -> bytes:
        """Ask a door for a port of this machine. @return: its reply."""
        with self.dial(port) as client, contextlib.suppress(ConnectionError):
            client.sendall(b"\5\1\0")
            self.assertEqual(client.recv(2), b"\5\0")
            client.sendall(b"\5\1\0\1\x7f\0\0\1" + target.to_bytes(2, "big"))
            return client.recv(10)
        return b""


class _Forwarded:
    """A port whose clients a door carries to one target; they know no SOCKS.

    @ivar port: it.
    """

    def __init__(self, door: Ptunnel, target: int) -> None:
        self._door = door
        self._target = target
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                there = socket.create_connection((HOST, self._door.port), PATIENCE)
                there.sendall(b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + self._target.to_bytes(2, "big"))
                answer = b""
                while len(answer) < 12:
                    answer += there.recv(12 - len(answer))
                for source, sink in (client, there), (there, client):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    def stop(self) -> None:
        self._listening.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(MEBIBYTE):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _serveFiles(folder: str, client: socket.socket) -> None:
    """Answer one request for a file, as a web server does."""
    with client.makefile("rb") as stream:
        path = stream.readline().split()[1].decode().partition("?")[0]
        while stream.readline().strip():
            pass
    file = os.path.join(folder, path.lstrip("/"))
    isThere = os.path.isfile(file)
    body = b""
    if isThere:
        with open(file, "rb") as content:
            body = content.read()
    status = b"200 OK" if isThere else b"404 Not Found"
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body))
    client.sendall(head + body)
