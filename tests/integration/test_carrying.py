"""Protocols and bulk through real proxies."""

from __future__ import annotations

import hashlib
import http.client
import imaplib
import os
import random
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor

from tests.integration.case import IntegrationTestCase, at, echo
from tests.integration.programs import (
    HOST,
    PATIENCE,
    Apache,
    Dovecot,
    Nginx,
    Program,
    Ptunnel,
    Squid,
    Sshd,
    Tinyproxy,
    shared,
)

SESSIONS = 12
TRANSFER = 6_000_000
LARGEST_CHUNK = 300_000
FILE = 64 * 1024 * 1024


class Carrying:
    """What goes through every proxy."""

    proxy: type[Program]

    def test_aPageArrivesWhole(self) -> None:
        tunnel = self.tunnel(shared(self.proxy), shared(Nginx))
        connection = http.client.HTTPConnection(HOST, tunnel.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        for _ in range(2):  # the second time over the same connection
            connection.request("GET", "/page")
            self.assertEqual(connection.getresponse().read().decode(), Nginx.PAGE)

    def test_simultaneousTransfersComeBackUnchanged(self) -> None:
        tunnel = self.tunnel(shared(self.proxy), self.peer(echo))
        clients = [self.dial(tunnel.port) for _ in range(SESSIONS)]
        with ThreadPoolExecutor(2 * SESSIONS) as pool:
            sent = pool.map(_send, clients, range(SESSIONS))
            received = pool.map(_receive, clients)
            self.assertEqual(list(received), list(sent))

    def test_mailIsStoredAndFetchedFromAServerThatSpeaksFirst(self) -> None:
        tunnel = self.tunnel(shared(self.proxy), shared(Dovecot))
        message = b"Subject: %a\r\n\r\n" % self.proxy.__name__ + b"A line of mail.\r\n" * 50_000
        with imaplib.IMAP4(HOST, tunnel.port, PATIENCE) as imap:
            imap.login("alice", Dovecot.PASSWORD)
            imap.append("INBOX", "", "", message)
            _, (last,) = imap.select()
            _, ((_, fetched), _) = imap.fetch(last.decode(), "(RFC822)")
        self.assertEqual(fetched, message)


class SquidTests(Carrying, IntegrationTestCase):
    proxy = Squid

    def test_scpCopiesThereAndBackThroughATunnel(self) -> None:
        tunnel = self.tunnel(shared(Squid), shared(Sshd))
        self.assertCopies("-P", str(tunnel.port))

    def test_scpCopiesThereAndBackThroughAProxyCommand(self) -> None:
        connect = shlex.join([*Ptunnel.COMMAND, "connect", "-p", at(shared(Squid))])
        self.assertCopies("-P", str(shared(Sshd).port), f"-oProxyCommand={connect} %h:%p")

    def assertCopies(self, *options: str) -> None:
        sshd = shared(Sshd)
        there = sshd.folder / "there"
        here, back = self.mktemp(), self.mktemp()
        contents = os.urandom(FILE)
        with open(here, "wb") as file:
            file.write(contents)
        sshd.scp(*options, here, f"{HOST}:{there}")
        sshd.scp(*options, f"{HOST}:{there}", back)
        with open(back, "rb") as file:
            self.assertTrue(file.read() == contents)  # assertEqual would print it


class TinyproxyTests(Carrying, IntegrationTestCase):
    proxy = Tinyproxy


class ApacheTests(Carrying, IntegrationTestCase):
    proxy = Apache


def _send(client: socket.socket, seed: int) -> str:
    """Send TRANSFER bytes in chunks of 1 to LARGEST_CHUNK bytes; return their digest."""
    chance, digest, left = random.Random(seed), hashlib.sha256(), TRANSFER
    while left:
        chunk = chance.randbytes(min(left, round(LARGEST_CHUNK ** chance.random())))
        client.sendall(chunk)
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def _receive(client: socket.socket) -> str:
    digest, left = hashlib.sha256(), TRANSFER
    while left and (data := client.recv(min(left, 65536))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()
