"""`ptunnel.cli.remote.client`: whatever answers, one line comes of it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.remote import client as module
from ptunnel.cli.remote.client import Client, Declined, Unanswered
from ptunnel.config import TcpListen, UnixListen
from tests.support.answering import (
    SESSIONS,
    STATUS,
    Answering,
    Script,
    answer,
    asJSON,
    service,
)
from tests.support.loopback import freePort


class ClientCase(SynchronousTestCase):
    def serving(self, script: Script, path: str = "") -> Answering:
        server = Answering(script, path)
        self.addCleanup(server.close)
        return server

    def client(self, server: Answering, token: str | None = None) -> Client:
        return Client(TcpListen("127.0.0.1", int(server.address.partition(":")[2])), token)

    def fails(self, client: Client, kind: Any = Unanswered) -> str:
        line = str(self.assertRaises(kind, client.status))
        self.assertTrue(line.startswith(f"{client.name}: "), line)
        self.assertNotIn("\n", line)
        self.assertTrue(line.isprintable(), line)
        self.assertLess(len(line), 700)
        return line


class AskingTests(ClientCase):
    def test_theDocumentComesBack(self) -> None:
        server = self.serving(service())
        client = self.client(server)
        self.assertEqual(client.status(), STATUS)
        self.assertEqual(client.get("/api/v1/sessions?limit=2"), SESSIONS)
        self.assertEqual(server.requests, ["GET /api/v1/", "GET /api/v1/sessions?limit=2"])
        self.assertIn(f"\r\nHost: {server.address}\r\n", server.heads[0])
        self.assertNotIn("Authorization", server.heads[0])

    def test_overAUnixSocketToo(self) -> None:
        folder = tempfile.TemporaryDirectory()  # mktemp's may be longer than a socket's path
        self.addCleanup(folder.cleanup)
        server = self.serving(service(), f"{folder.name}/s")
        self.assertEqual(Client(UnixListen(f"{folder.name}/s")).status(), STATUS)
        self.assertIn("\r\nHost: localhost\r\n", server.heads[0])

    def test_neverThroughAProxyOfTheEnvironment(self) -> None:
        environ = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://192.0.2.1:1")
        self.patch(os, "environ", {**os.environ, **environ})
        self.assertEqual(self.client(self.serving(service())).status(), STATUS)

    def test_anAnswerInPiecesAndOneWithoutALengthAreWhole(self) -> None:
        whole = asJSON(STATUS)
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = whole.partition(b"\r\n\r\n")[2]
        for part in body[:7], body[7:]:
            chunked += b"%x\r\n%b\r\n" % (len(part), part)

        def bytewise(client: socket.socket, first: str) -> None:
            for byte in whole:
                client.sendall(bytes([byte]))

        def inChunks(client: socket.socket, first: str) -> None:
            client.sendall(chunked + b"0\r\n\r\n")

        def untilTheEnd(client: socket.socket, first: str) -> None:
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        for script in bytewise, inChunks, untilTheEnd:
            self.assertEqual(self.client(self.serving(script)).status(), STATUS)


class SteeringTests(ClientCase):
    def test_itSendsTheTokenAndAHeaderThatNoFormHas(self) -> None:
        server = self.serving(service(reload={"message": "done"}))
        found = self.client(server, "sekrit").steer("POST", "/api/v1/reload")
        self.assertEqual(found, {"message": "done"})
        self.assertIn("\r\nAuthorization: Bearer sekrit\r\n", server.heads[1])
        self.assertIn("\r\nX-Ptunnel: 1\r\n", server.heads[1])

    def test_anAnswerWithoutABodyIsNone(self) -> None:
        server = self.serving(service(**{"sessions/7": answer(status="204 No Content")}))
        self.assertIsNone(self.client(server).steer("DELETE", "/api/v1/sessions/7"))

    def test_aProgramThatIsNotPtunnelNeverGetsTheToken(self) -> None:
        for script in service(**{"": {"hello": 1}}), service(**{"": answer(b"hello")}):
            server = self.serving(script)
            client = self.client(server, "sekrit")
            self.assertRaises(Unanswered, client.steer, "POST", "/api/v1/reload")
            self.assertNotIn("sekrit", "".join(server.heads))

    def test_aRefusalIsItsLineWithAHintForTokens(self) -> None:
        for code, token, hint in (
            ("401 Unauthorized", None, "--token-file gives it"),
            ("401 Unauthorized", "wrong", "has another one"),
            ("403 Forbidden", None, "set this"),
        ):
            refusal = asJSON({"error": "set this\x1b"}, code)
            server = self.serving(service(reload=refusal))
            client = self.client(server, token)
            error = self.assertRaises(Declined, client.steer, "POST", "/api/v1/reload")
            self.assertTrue(str(error).startswith(f"{client.name}: set this\\x1b"), str(error))
            self.assertIn(hint, str(error))
            self.assertEqual(error.code, int(code[:3]))


class UglyTests(ClientCase):
    def test_nobodyThere(self) -> None:
        for address in (
            TcpListen("127.0.0.1", freePort()),
            UnixListen("/nowhere/socket"),
        ):
            line = self.fails(Client(address))
            self.assertIn("no ptunnel with this status address runs", line)

    def test_aSocketThatOneMayNotConnectTo(self) -> None:
        def connect(self: object, place: object) -> None:
            raise PermissionError(errno.EACCES, "denied")

        self.patch(module._Socket, "connect", connect)
        line = self.fails(Client(UnixListen("/run/x")))
        self.assertIn("permission denied: this user may not connect to that socket", line)
        self.assertIn("permission denied", self.fails(Client(TcpListen("127.0.0.1", 1))))

    def test_aNameThatDoesNotResolve(self) -> None:
        self.assertIn("name", self.fails(Client(TcpListen("nowhere.invalid", 1))))

    def test_whatIsNotPtunnelIsSaidToBeSomethingElse(self) -> None:
        for said in (
            b"",
            b"SSH-2.0-OpenSSH_9\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",  # cut off
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{",
            b"HTTP/1.1 999999 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + 200 * b"A: b\r\n",
            b"HTTP/1.1 200 OK\r\nA: " + 100_000 * b"b" + b"\r\n",
            answer(b"<html>\x1b"),
            answer(b"\xff\xfe"),
            answer(b"[" * 100_000),
            answer(b"1" * 10_000),
            answer(b"[1]"),
            answer(b'{"state": 1}'),
            answer(b"<html>", "404 Not \x1bFound"),
            answer(b'{"error": 1}', "500 Oops"),
            answer(b"[" * 100_000, "500 Oops"),
        ):

            def script(client: socket.socket, first: str, said: bytes = said) -> None:
                client.sendall(said)

            line = self.fails(self.client(self.serving(script)))
            self.assertIn("whoever answers there is not ptunnel", line)

    def test_aResetIsALineToo(self) -> None:
        def script(client: socket.socket, first: str) -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        self.assertIn("reset", self.fails(self.client(self.serving(script))))

    def test_aGiantIsNotReadToItsEnd(self) -> None:
        self.patch(module, "MOST", 100_000)
        for head in b"Content-Length: 99999999999", b"X: y", b"Transfer-Encoding: chunked":

            def script(client: socket.socket, first: str, head: bytes = head) -> None:
                chunked = head.startswith(b"Transfer")
                data = b"10000\r\n" + 65536 * b"[" + b"\r\n" if chunked else 65536 * b"["
                client.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head)
                while True:
                    client.sendall(data)

            self.assertIn("larger than 100000 bytes", self.fails(self.client(self.serving(script))))

    def test_silenceAndADripEndInTime(self) -> None:
        self.patch(module, "PATIENCE", 0.2)
        over = threading.Event()
        self.addCleanup(over.set)

        def silent(client: socket.socket, first: str) -> None:
            over.wait(60)

        def drip(client: socket.socket, first: str) -> None:
            with contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\nA: ")
                while not over.wait(0.02):
                    client.sendall(b"b")

        def interim(client: socket.socket, first: str) -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.02):
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        for script in silent, drip, interim:
            line = self.fails(self.client(self.serving(script)))
            self.assertIn("no answer within 0.2 s", line)
