"""Endpoint strings with sockets of systemd's or of the file system's: `service.inherited`."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import reasonOf
from ptunnel.ports.inherited import Listening


class AdoptingReactor(MemoryReactorClock):
    """@ivar adopted: descriptors and families."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[int] = []

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        self.adopted.append(addressFamily)


class InheritedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = AdoptingReactor()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/s"

    def listen(self, string: str) -> Any:
        endpoint: Any = serverFromString(Listening(self.reactor, string), string)
        port: Any = self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))
        self.addCleanup(port.connectionLost, Failure(ConnectionDone()))
        return port

    def adopt(self, skt: Any, family: int) -> Any:
        """What `systemd:` does with a descriptor that was passed."""
        listening = Listening(self.reactor, "systemd:domain=INET:index=0")
        endpoint = AdoptedStreamServerEndpoint(listening, os.dup(skt.fileno()), family)
        return endpoint.listen(Factory.forProtocol(Protocol))

    def refusal(self, skt: Any, family: int = socket.AF_INET) -> str:
        error: Any = self.failureResultOf(self.adopt(skt, family), CannotListenError).value
        return reasonOf(error.socketError)


class UnixStringTests(InheritedCase):
    def test_aWrappedUnixSocketIsPrivateUnlessTheStringSaysOtherwise(self) -> None:
        for more, mode in ("", 0o600), (":mode=666", 0o666), (":mode=640", 0o640):
            path = f"{self.path}{mode}"
            self.listen(f"haproxy:unix:{path}{more}")
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), mode)

    def test_allElseIsTheReactors(self) -> None:
        string = "haproxy:tcp:1234"
        serverFromString(Listening(self.reactor, string), string).listen(Factory())
        self.assertEqual(self.reactor.tcpServers[0][0], 1234)


class FamilyTests(InheritedCase):
    def test_theFamilyIsTheSocketsAndNotTheOneThatIsWritten(self) -> None:
        for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
            for written in socket.AF_INET, socket.AF_INET6, socket.AF_UNIX:
                with socket.socket(family) as skt:
                    skt.bind((address, 0))
                    skt.listen(1)
                    self.adopt(skt, written)
                    self.assertEqual(self.reactor.adopted.pop(), family)

    def test_aUnixSocketKeepsItsModeAndItsFile(self) -> None:
        with socket.socket(socket.AF_UNIX) as skt:
            skt.bind(self.path)
            os.chmod(self.path, 0o640)
            skt.listen(1)
            for written in socket.AF_UNIX, socket.AF_INET:
                port = self.successResultOf(self.adopt(skt, written))
                self.assertEqual(port.getHost().name, self.path.encode())
                port.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_aSocketThatCannotBeListenedOnIsRefused(self) -> None:
        with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            self.assertIn("does not listen; write Accept=no", self.refusal(idle))
            self.assertIn("not a stream socket; write ListenStream=", self.refusal(datagrams))
        with open("/dev/null") as file:
            self.assertIn("is not a socket", self.refusal(file))
        left, right = socket.socketpair()
        with left, right:
            self.assertIn("does not listen", self.refusal(left))
        self.assertEqual(self.reactor.adopted, [])


class NoSocketTests(SynchronousTestCase):
    """What is wrong with what systemd passed, as a process of its own finds it."""

    PROGRAM = (
        "import os, sys\n"
        "if sys.argv[1] == 'ours':\n"
        "    os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "    os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], 'x'])\n"
        "exec(sys.argv[2])"
    )
    ASK = (
        "from twisted.internet import endpoints\nfrom ptunnel.ports.inherited import noSocket\n"
        "print(noSocket())"
    )

    def ask(self, whose: str, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", self.PROGRAM, whose, self.ASK],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def test_withoutNamesItSaysWhatGivesThem(self) -> None:
        said = self.ask("ours", LISTEN_FDS="1")
        for word in "FileDescriptorName=", "LISTEN_FDNAMES", "--fdname":
            self.assertIn(word, said)

    def test_withNamesItSaysWhichThereAre(self) -> None:
        said = self.ask("ours", LISTEN_FDS="2", LISTEN_FDNAMES="imap:smtp")
        self.assertEqual(said, "systemd has passed no such socket; it has passed imap, smtp\n")

    def test_socketsOfAnotherProcessAreSaid(self) -> None:
        said = self.ask("others", LISTEN_FDS="1", LISTEN_PID="1", LISTEN_FDNAMES="x")
        self.assertTrue(said.startswith("the sockets are for process 1 (LISTEN_PID)"), said)

    def test_withoutAnySocketItSaysWhatPassesThem(self) -> None:
        self.assertIn("start it by its .socket unit", self.ask("others"))
