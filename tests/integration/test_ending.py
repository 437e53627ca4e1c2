"""One direction that ends before the other.

Through Apache: Squid and Tinyproxy end both directions with the first end of file. Squid does so
even with `half_closed_clients on`, which does not hold for CONNECT.
"""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import subprocess

from tests.integration.case import IntegrationTestCase, at, readToEnd, run
from tests.integration.programs import (
    Apache,
    Ptunnel,
    Squid,
    Tinyproxy,
    eventually,
    shared,
)

REQUEST = random.Random(1).randbytes(3_000_000)
ANSWER = random.Random(2).randbytes(3_000_000)


class HalfCloseTests(IntegrationTestCase):
    def test_aClientThatHasEndedGetsTheWholeLateAnswer(self) -> None:
        client = self.dial(self.tunnel(shared(Apache), self.peer(answerAtTheEnd)).port)
        sendAll(client)
        self.assertAnswered(readToEnd(client))

    def test_aTargetThatHasEndedGetsAllThatTheClientStillSends(self) -> None:
        received: list[bytes] = []

        def endFirst(connection: socket.socket) -> None:
            connection.shutdown(socket.SHUT_WR)
            received.append(readToEnd(connection))

        client = self.dial(self.tunnel(shared(Apache), self.peer(endFirst)).port)
        self.assertEqual(readToEnd(client), b"")
        sendAll(client)
        eventually(lambda: received, "the target has read to the end")
        self.assertTrue(received == [REQUEST])  # assertEqual would print both

    def test_connectPassesOnTheEndOfItsInputAndWritesTheWholeLateAnswer(self) -> None:
        target = self.peer(answerAtTheEnd)
        done = run(*Ptunnel.COMMAND, "connect", "-p", at(shared(Apache)), at(target), stdin=REQUEST)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertAnswered(done.stdout)

    def test_connectSaysThatItsSessionWasResetAndDoesNotPassForDone(self) -> None:
        def reset(connection: socket.socket) -> None:
            connection.sendall(b"half of it")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.recv(1)
            connection.close()

        done = run(*Ptunnel.COMMAND, "connect", "-d", at(self.peer(reset)), stdin=b"more")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertIn(b"reset by the target", done.stderr)

    def assertAnswered(self, answer: bytes) -> None:
        self.assertTrue(answer == hashlib.sha256(REQUEST).digest() + ANSWER)


class HoldEndTests(IntegrationTestCase):
    """Behind a proxy that ends both directions at the first end."""

    proxies = Squid, Tinyproxy

    def connect(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return run(*Ptunnel.COMMAND, "connect", *words, stdin=b"question\n")

    def test_connectGetsTheWholeAnswer(self) -> None:
        target = self.peer(answerALine)
        for proxy in self.proxies:
            done = self.connect("--hold-end", "-p", at(shared(proxy)), at(target))
            self.assertEqual((done.returncode, done.stderr), (0, b""), proxy)
            self.assertTrue(done.stdout == ANSWER, proxy)

    def test_aTunnelsClientGetsTheWholeAnswer(self) -> None:
        target = self.peer(answerALine)
        for proxy in self.proxies:
            corp = f"[ptunnel]\nhold-end = yes\n[proxy corp]\nurl = {at(shared(proxy))}\n"
            client = self.dial(self.configured(corp, target).port)
            client.sendall(b"question\n")
            client.shutdown(socket.SHUT_WR)
            self.assertTrue(readToEnd(client) == ANSWER, proxy)

    def test_withoutItALostAnswerIsSaid(self) -> None:
        target = self.peer(answerAtTheEnd)
        for proxy in self.proxies:
            done = self.connect("-p", at(shared(proxy)), at(target))
            self.assertEqual((done.returncode, done.stdout), (0, b""), proxy)
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
            self.assertIn(b"--hold-end", done.stderr)

    def test_noAnswerToNothingIsSaidToo(self) -> None:
        words = "connect", "-p", at(shared(Squid)), at(self.peer(answerAtTheEnd))
        self.assertIn(b"--hold-end", run(*Ptunnel.COMMAND, *words).stderr)

    def test_butNothingOfAnAnswerOrADirectConnection(self) -> None:
        for words in (
            ("-p", at(shared(Apache)), at(self.peer(answerAtTheEnd))),
            ("-d", at(self.peer(takeOnly))),
        ):
            done = self.connect(*words)
            self.assertEqual((done.returncode, done.stderr), (0, b""), words)


def takeOnly(connection: socket.socket) -> None:
    readToEnd(connection)


def answerALine(connection: socket.socket) -> None:
    with connection.makefile("rb") as stream:
        stream.readline()
    connection.sendall(ANSWER)


def answerAtTheEnd(connection: socket.socket) -> None:
    connection.sendall(hashlib.sha256(readToEnd(connection)).digest() + ANSWER)


def sendAll(client: socket.socket) -> None:
    client.sendall(REQUEST)
    client.shutdown(socket.SHUT_WR)
