"""Unix sockets to listen on: `ptunnel.ports.unixport`."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
from typing import Any

from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import reasonOf
from ptunnel.ports import unixport
from ptunnel.ports.handed import HandedSocket, descriptorsOf, give
from ptunnel.ports.unixport import UnixEndpoint, UnixPort


class UnixCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = f"{self.folder}/s"

    def listen(self, mode: int = 0o600, path: str = "") -> UnixPort:
        endpoint = UnixEndpoint(self.reactor, path or self.path, mode, 5)
        port: Any = self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))
        self.addCleanup(self.stop, port)
        return port  # type: ignore[no-any-return]

    def stop(self, port: UnixPort) -> None:
        """What the reactor does when a port is to stop."""
        if port.connected:
            port.connectionLost(Failure(ConnectionDone()))

    def refusal(self, path: str = "") -> str:
        endpoint = UnixEndpoint(self.reactor, path or self.path, 0o600, 5)
        failing = endpoint.listen(Factory.forProtocol(Protocol))
        error: Any = self.failureResultOf(failing, CannotListenError).value
        return reasonOf(error.socketError)

    def dead(self, kind: int = socket.SOCK_STREAM) -> None:
        """Leave a socket behind as a process does that is killed."""
        with socket.socket(socket.AF_UNIX, kind) as skt:
            skt.bind(self.path)

    def assertServes(self) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)


class HandedTests(UnixCase):
    """A socket that one process leaves to another; here both are this one."""

    def hand(self, port: UnixPort, mode: int = 0o600) -> tuple[UnixPort, HandedSocket]:
        descriptor, lock = descriptorsOf(port)
        handed = HandedSocket(os.dup(descriptor), os.dup(lock))
        endpoint = UnixEndpoint(self.reactor, self.path, mode, 5, handed)
        other: Any = self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))
        self.addCleanup(self.stop, other)
        return other, handed

    def test_fileAndLockGoWithIt(self) -> None:
        old = self.listen()
        new, handed = self.hand(old, 0o660)
        give(old)
        handed.released()
        self.stop(old)
        self.assertServes()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o660)
        self.assertEqual(self.refusal(), "address already in use")
        self.stop(new)
        self.assertEqual(os.listdir(self.folder), [])

    def test_beforeItIsReleasedTheFileIsTheOldOnes(self) -> None:
        old = self.listen()
        new, handed = self.hand(old)
        self.stop(new)
        self.assertServes()
        handed.released()  # it was closed meanwhile
        give(old)
        self.stop(old)
        self.assertEqual(os.listdir(self.folder), [])

    def test_aFileThatIsGoneIsNobodys(self) -> None:
        old = self.listen()
        new, handed = self.hand(old)
        give(old)
        os.unlink(self.path)
        handed.released()
        self.stop(old)
        self.stop(new)
        self.assertIsNone(new.lock)


class ModeTests(UnixCase):
    def test_theModeIsTheOneThatIsAskedForWhateverTheUmask(self) -> None:
        for umask in 0o000, 0o022, 0o077, 0o777:
            for mode in 0o600, 0o660, 0o666, 0o644:
                before = os.umask(umask)
                try:
                    port = self.listen(mode)
                    self.assertEqual(os.umask(umask), umask)
                finally:
                    os.umask(before)
                self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
                self.stop(port)

    def test_itIsNeverWiderForAMoment(self) -> None:
        modes: list[int] = []
        real = os.chmod

        def chmod(path: str, mode: int) -> None:
            modes.append(stat.S_IMODE(os.stat(path).st_mode))
            real(path, mode)

        self.patch(unixport.os, "chmod", chmod)
        for umask in 0o000, 0o077:
            before = os.umask(umask)
            try:
                for mode in 0o600, 0o660:
                    self.stop(self.listen(mode))
            finally:
                os.umask(before)
        self.assertEqual(modes, [0o600])  # narrowed by the umask 077, where 0660 was asked for

    def test_theLockIsPrivateToo(self) -> None:
        before = os.umask(0)
        try:
            self.listen(0o666)
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(os.stat(self.path + ".lock").st_mode), 0o600)


class StaleTests(UnixCase):
    def test_aSocketThatADeadProcessLeftIsReplaced(self) -> None:
        self.dead()
        self.listen()
        self.assertServes()

    def test_soItIsBesideTheLockOfAProcessNumberThatLives(self) -> None:
        self.dead()
        os.symlink(str(os.getpid()), self.path + ".lock")
        self.stop(self.listen())
        self.assertEqual(os.listdir(self.folder), [])

    def test_aLockWhoseHolderIsDeadIsTaken(self) -> None:
        self.dead()
        with open(self.path + ".lock", "w"):
            pass
        self.listen()
        self.assertServes()

    def test_aLockWhoseHolderWasKilledIsTaken(self) -> None:
        program = (
            "import os, sys; from ptunnel.ports.unixport import listenUnix\n"
            "from twisted.internet import reactor; from twisted.internet.protocol import Factory\n"
            "listenUnix(reactor, sys.argv[1], Factory(), 0o600, 5); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", program, self.path], timeout=60, check=False)
        self.assertEqual(sorted(os.listdir(self.folder)), ["s", "s.lock"])
        self.listen()
        self.assertServes()

    def test_aSocketThatIsServedIsLeftAlone(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            other.listen(5)
            self.assertEqual(self.refusal(), "address already in use")
            self.assertServes()

    def test_soIsOneWhoseQueueIsFull(self) -> None:
        with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
            other.bind(self.path)
            other.listen(0)
            client.connect(self.path)
            self.assertEqual(self.refusal(), "address already in use")

    def test_soIsOneOfAnotherType(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(self.path)
            self.assertEqual(self.refusal(), "address already in use")
            self.assertTrue(os.path.exists(self.path))

    def test_whatIsNoSocketIsNeverRemoved(self) -> None:
        with open(self.path, "w") as file:
            file.write("precious")
        self.assertEqual(self.refusal(), "a file is there, and no socket; it stays as it is")
        with open(self.path) as file:
            self.assertEqual(file.read(), "precious")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertIn("a folder is there", self.refusal())
        os.rmdir(self.path)
        os.symlink("elsewhere", self.path)
        self.assertIn("a symbolic link is there", self.refusal())
        self.assertTrue(os.path.islink(self.path))
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertIn("a device or pipe is there", self.refusal())

    def test_aDeadSocketThatCannotBeRemovedIsSaid(self) -> None:
        for number, words in (
            (16, "device or resource busy; mount its folder, not the socket itself"),
            (30, "read-only file system"),
        ):
            self.dead()

            def unlink(path: str, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            self.patch(unixport.os, "unlink", unlink)
            try:
                said = self.refusal()
            finally:
                self.doCleanups()
                self.setUp()
            self.assertEqual(said, f"a dead socket is there, and cannot be removed: {words}")


class StarterTests(UnixCase):
    def test_ofTwoOneWins(self) -> None:
        self.listen()
        self.assertEqual(self.refusal(), "address already in use")
        self.assertServes()

    def test_ofManyAtOnceWithADeadSocketOneWins(self) -> None:
        self.dead()
        program = (
            "import sys; from ptunnel.ports.unixport import listenUnix\n"
            "from twisted.internet import reactor; from twisted.internet.protocol import Factory\n"
            "from twisted.internet.error import CannotListenError\n"
            "sys.stdin.readline()\n"
            "try: listenUnix(reactor, sys.argv[1], Factory(), 0o600, 5)\n"
            "except CannotListenError as e: print(e.socketError, flush=True)\n"
            "else: print('won', flush=True)\n"
            "sys.stdin.readline()"
        )
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", program, self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(6)
        ]
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("\n")
            starter.stdin.flush()
        said = [starter.stdout.readline() for starter in starters if starter.stdout]
        for starter in starters:
            starter.communicate()
        self.assertEqual(said.count("won\n"), 1, said)
        self.assertEqual(sum("Address already in use" in line for line in said), 5, said)

    def test_aLockThatItsHolderRemovesMeanwhileIsNotTaken(self) -> None:
        lock = self.path + ".lock"
        real = fcntl.flock
        removed: list[str] = []

        def flock(descriptor: int, operation: int) -> None:
            if not removed:
                os.unlink(lock)
                removed.append(lock)
            real(descriptor, operation)

        self.patch(unixport.fcntl, "flock", flock)
        port = self.listen()
        self.assertTrue(os.path.exists(lock))
        self.stop(port)
        self.assertEqual(os.listdir(self.folder), [])

    def test_withoutLocksTheSocketIsTriedAllTheSame(self) -> None:
        def flock(descriptor: int, operation: int) -> None:
            raise OSError(37, "No locks available")

        self.patch(unixport.fcntl, "flock", flock)
        self.dead()
        self.listen()
        self.assertEqual(self.refusal(), "address already in use")


class StoppingTests(UnixCase):
    def test_nothingIsLeftInTheFolder(self) -> None:
        self.stop(self.listen())
        self.assertEqual(os.listdir(self.folder), [])

    def test_aSocketThatAnotherHasPutThereStays(self) -> None:
        port = self.listen()
        os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            self.stop(port)
            self.assertTrue(os.path.exists(self.path))

    def test_filesThatHaveGoneAreNoMatter(self) -> None:
        port = self.listen()
        os.unlink(self.path)
        os.unlink(self.path + ".lock")
        self.stop(port)
        self.assertEqual(os.listdir(self.folder), [])

    def test_noDescriptorIsLeft(self) -> None:
        before = os.listdir("/proc/self/fd")
        self.stop(self.listen())
        with open(self.path, "w"):
            self.refusal()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))


class RefusalTests(UnixCase):
    def test_aFolderThatIsMissingIsNamed(self) -> None:
        there = f"{self.folder}/none"
        self.assertEqual(self.refusal(f"{there}/s"), f"no such file or directory: {there}")

    def test_aFolderThatIsAFileIsSaid(self) -> None:
        with open(self.path, "w"):
            pass
        self.assertEqual(self.refusal(f"{self.path}/s"), f"{self.path}/s.lock: not a directory")

    def test_aLockThatIsSomethingElseIsSaidAndStays(self) -> None:
        os.mkfifo(self.path + ".lock")
        self.assertEqual(self.refusal(), f"{self.path}.lock is not a regular file")
        os.unlink(self.path + ".lock")
        os.mkdir(self.path + ".lock")
        self.assertEqual(self.refusal(), f"{self.path}.lock: is a directory")

    def test_aFolderThatMayNotBeWrittenIsSaid(self) -> None:
        real = os.open

        def denied(path: str, *more: Any) -> int:
            if path.endswith(".lock"):
                raise PermissionError(13, "Permission denied")
            return real(path, *more)

        self.patch(unixport.os, "open", denied)
        self.assertEqual(self.refusal(), f"{self.path}.lock: permission denied")

    def test_aRefusalLeavesNoFileBehind(self) -> None:
        def bind(skt: socket.socket, path: str, mode: int) -> None:
            raise OSError(30, "Read-only file system")

        self.patch(unixport, "_bind", bind)
        self.assertEqual(self.refusal(), "read-only file system")
        self.assertEqual(os.listdir(self.folder), [])
