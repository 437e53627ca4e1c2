"""`ptunnel.route.passwords`: credentials, read when they are needed."""

from __future__ import annotations

import os
import signal
import sys
from base64 import b64encode
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.auth import Credentials, Secret
from ptunnel.config import (
    MAX_FILE,
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    readPassword,
)
from ptunnel.errors import CredentialsUnavailable
from ptunnel.route import passwords
from ptunnel.route.passwords import COMMAND_DEADLINE, PasswordReader

CANARY = "c4n4ry"
WHERE = "the proxy corp"
PID = 4711


class Process:
    """What a process looks like from here."""

    def __init__(self, protocol: Any, arguments: list[str], options: dict[str, Any]) -> None:
        self.protocol, self.arguments, self.options = protocol, arguments, options
        self.pid: int | None = PID
        self.calls: list[str] = []
        protocol.makeConnection(self)

    def closeStdin(self) -> None:
        self.calls.append("closeStdin")

    def loseConnection(self) -> None:
        self.calls.append("loseConnection")

    def signalProcess(self, name: str) -> None:
        if self.pid is None:
            raise ProcessExitedAlready
        self.calls.append(name)

    def exit(self, code: int = 0, signal: int | None = None) -> Failure:
        """The process itself is gone, and perhaps not what holds its output."""
        self.pid = None
        isDone = not code and not signal
        reason = Failure(ProcessDone(0) if isDone else ProcessTerminated(code, signal, 0))
        self.protocol.processExited(reason)
        return reason

    def end(
        self, output: bytes = b"", errors: bytes = b"", code: int = 0, signal: int | None = None
    ) -> None:
        self.protocol.outReceived(output)
        self.protocol.errReceived(errors)
        self.protocol.processEnded(self.exit(code, signal))


class Pool:
    """One thread, which has its turn when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def callInThreadWithCallback(
        self, onResult: Any, function: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.calls.append((onResult, function, args, kwargs))

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for onResult, function, args, kwargs in calls:
            try:
                result = function(*args, **kwargs)
            except Exception:
                onResult(False, Failure())
            else:
                onResult(True, result)


class Reactor(MemoryReactorClock):
    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.pool = Pool()
        self.cannotFork: OSError | None = None

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], **options: Any) -> None:
        if self.cannotFork:
            raise self.cannotFork
        self.processes.append(Process(protocol, args, options))

    def getThreadPool(self) -> Pool:
        return self.pool

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)


class ReaderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()

    def reader(self, source: PasswordSource, username: str = "alice") -> PasswordReader:
        return PasswordReader(self.reactor, source, username, WHERE)

    def assertRead(self, reading: Deferred[Credentials], password: str) -> None:
        self.assertEqual(self.successResultOf(reading), Credentials("alice", password))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def assertMissing(self, reading: Deferred[Credentials], reason: str) -> None:
        """The failure is this line, behind what it is about."""
        error = self.failureResultOf(reading, CredentialsUnavailable).value
        self.assertEqual(str(error), f"no password for {WHERE}: {reason}")
        self.assertTrue(str(error).isprintable())
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class SecretTests(ReaderCase):
    def test_itIsThereAtOnce(self) -> None:
        reader = self.reader(Secret("x"))
        self.assertRead(reader.read(), "x")
        self.assertRead(reader.read(), "x")

    def test_anEmptyOneIsOneToo(self) -> None:
        # http://alice@proxy has it.
        self.assertRead(self.reader(Secret("")).read(), "")

    def test_whatCannotBeSentIsUnavailable(self) -> None:
        self.assertMissing(
            self.reader(Secret(f"{CANARY}\n")).read(),
            "a password must not hold control characters (RFC 7617)",
        )
        self.assertMissing(
            self.reader(Secret(CANARY), "a:b").read(),
            "a user name must not hold a colon (RFC 7617)",
        )

    def test_itNeverChanges(self) -> None:
        reader = self.reader(Secret("x"))
        self.assertFalse(reader.changed())
        self.successResultOf(reader.read())
        self.assertFalse(reader.changed())


class EnvTests(ReaderCase):
    def setUp(self) -> None:
        super().setUp()
        self.environ = {"PW": "one"}
        self.patch(os, "environ", self.environ)

    def test_itIsReadEachTime(self) -> None:
        reader = self.reader(PasswordEnv("PW"))
        self.assertRead(reader.read(), "one")
        self.environ["PW"] = "two"
        self.assertFalse(reader.changed())
        self.assertRead(reader.read(), "two")

    def test_anUnsetOrEmptyOneIsUnavailable(self) -> None:
        reason = 'password-env "PW": the variable is unset or empty'
        self.environ["PW"] = ""
        self.assertMissing(self.reader(PasswordEnv("PW")).read(), reason)
        del self.environ["PW"]
        self.assertMissing(self.reader(PasswordEnv("PW")).read(), reason)

    def test_whatIsNotUTF8IsUnavailable(self) -> None:
        self.environ["PW"] = f"{CANARY}\udce9"
        self.assertMissing(
            self.reader(PasswordEnv("PW")).read(),
            'password-env "PW": a password must be text that UTF-8 can carry',
        )


class FileTests(ReaderCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()

    def write(self, data: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(data)

    def read(self) -> Deferred[Credentials]:
        return self.reader(PasswordFile(self.path)).read()

    def test_itIsTheLineInIt(self) -> None:
        for data in b"x y", b"x y\n", b"x y\r\n", b"\xef\xbb\xbfx y\n", b"x y\n\n \r\n\n":
            self.write(data)
            self.assertRead(self.read(), "x y")

    def test_whatIsWrongWithAFileIsSaid(self) -> None:
        where = f'password-file "{self.path}": '
        self.assertMissing(self.read(), f"{where}No such file or directory")
        for data, reason in (
            (b"", "the file is empty"),
            (b"\n", "the file is empty"),
            (f"{CANARY}\nx\n".encode(), "more than one line; it must be the password alone"),
            (b"\nx\n", "the first line is empty"),
            (f"{CANARY}\0".encode(), "a binary file; it must be text in UTF-8"),
            (f"{CANARY}\t".encode(), "a password must not hold control characters (RFC 7617)"),
            (CANARY.encode() + b"\xe9", "not UTF-8"),
        ):
            self.write(data)
            self.assertMissing(self.read(), where + reason)
        os.remove(self.path)
        os.mkfifo(self.path)
        self.assertMissing(self.read(), f"{where}not a regular file")

    def test_aFileThatMayNotBeRead(self) -> None:
        self.write(b"x")
        os.chmod(self.path, 0)
        if os.access(self.path, os.R_OK):
            self.skipTest("root reads everything")
        self.assertMissing(self.read(), f'password-file "{self.path}": Permission denied')

    def test_aStrangeNameIsShownInOneLine(self) -> None:
        reading = self.reader(PasswordFile("/nowhere/a\nb\u202e")).read()
        self.assertMissing(
            reading, 'password-file "/nowhere/a\\nb\\u202e": No such file or directory'
        )

    def test_itHasChangedWhereAnotherFileIsThere(self) -> None:
        self.write(b"one")
        reader = self.reader(PasswordFile(self.path))
        self.successResultOf(reader.read())
        self.assertFalse(reader.changed())
        os.utime(self.path, ns=(0, os.stat(self.path).st_mtime_ns + 1))
        self.assertTrue(reader.changed())
        self.successResultOf(reader.read())
        self.assertFalse(reader.changed())

    def test_aFileThatReplacesItWithTheSameTimeAndSizeIsAnother(self) -> None:
        self.write(b"one")
        reader = self.reader(PasswordFile(self.path))
        self.successResultOf(reader.read())
        old, status = self.path, os.stat(self.path)
        self.path = self.mktemp()
        self.write(b"two")
        os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.rename(self.path, old)
        self.assertTrue(reader.changed())
        self.assertRead(reader.read(), "two")

    def test_aFileThatWasMissingHasChangedWhenItIsThere(self) -> None:
        reader = self.reader(PasswordFile(self.path))
        self.failureResultOf(reader.read())
        self.assertFalse(reader.changed())
        self.write(b"one")
        self.assertTrue(reader.changed())
        self.successResultOf(reader.read())
        os.remove(self.path)
        self.assertTrue(reader.changed())

    def test_aFileThatWasWrongHasChangedWhenItIsAnother(self) -> None:
        self.write(b"")
        reader = self.reader(PasswordFile(self.path))
        self.failureResultOf(reader.read())
        self.assertFalse(reader.changed())
        self.write(b"one")
        self.assertTrue(reader.changed())

    def test_oneThatIsReplacedWhileItIsReadHasChanged(self) -> None:
        self.write(b"one")

        def andReplace(path: str) -> Any:
            found = readPassword(path)
            self.write(b"three")
            return found

        self.patch(passwords, "readPassword", andReplace)
        reader = self.reader(PasswordFile(self.path))
        self.assertRead(reader.read(), "one")
        self.assertTrue(reader.changed())


class CommandTests(ReaderCase):
    def setUp(self) -> None:
        super().setUp()
        self.killed: list[tuple[int, int]] = []
        self.patch(os, "killpg", lambda *what: self.killed.append(what))

    def run_(self, command: str = "x") -> tuple[Deferred[Credentials], Process]:
        reading = self.reader(PasswordCommand(command)).read()
        self.assertNoResult(reading)
        return reading, self.reactor.processes[-1]

    def test_itIsTheLineThatItPrints(self) -> None:
        for output in b"x y", b"x y\n", b"x y\r\n", b"x y\n\n":
            reading, process = self.run_()
            process.end(output, b"a word of warning\n")
            self.assertRead(reading, "x y")
            self.assertEqual(process.calls, ["closeStdin"])

    def test_itIsGivenToTheShellAsItIs(self) -> None:
        command = "pass 'my proxy' | head -1"
        reading, process = self.run_(command)
        self.assertEqual(process.arguments[-1], command)
        self.assertIsNone(process.options["env"])
        process.end(b"x")
        self.assertRead(reading, "x")

    def test_theOutputMayComeInPieces(self) -> None:
        reading, process = self.run_()
        for byte in "é\n".encode():
            process.protocol.outReceived(bytes([byte]))
        process.end()
        self.assertRead(reading, "é")

    def test_itIsRunEachTimeAndNeverKnownToHaveChanged(self) -> None:
        reader = self.reader(PasswordCommand("x"))
        for number in range(2):
            reading = reader.read()
            self.reactor.processes[number].end(b"%d" % number)
            self.assertRead(reading, str(number))
            self.assertFalse(reader.changed())

    def test_whatIsWrongWithItIsSaid(self) -> None:
        for end, reason in (
            ({"code": 3}, "exit code 3"),
            ({"code": 1, "output": CANARY.encode()}, "exit code 1"),
            (
                {"code": 2, "errors": b"gpg: a\ngpg: no secret key\n\n"},
                "exit code 2: gpg: no secret key",
            ),
            ({"signal": 15, "errors": b"bye"}, "died of signal 15: bye"),
            ({}, "printed nothing"),
            ({"output": b"\n", "errors": b"locked"}, "printed nothing: locked"),
            (
                {"output": f"{CANARY}\na\n".encode(), "errors": b"a"},
                "more than one line; it must be the password alone",
            ),
            (
                {"output": CANARY.encode() + b"\xe9"},
                "a password must be text that UTF-8 can carry",
            ),
            (
                {"output": f"{CANARY}\0".encode()},
                "a password must not hold control characters (RFC 7617)",
            ),
        ):
            reading, process = self.run_(f"echo {CANARY}")
            process.end(**end)
            self.assertMissing(reading, f"password-command: {reason}")

    def test_whatItComplainsOfIsShortAndWithoutControlCharacters(self) -> None:
        reading, process = self.run_()
        process.end(errors=b"\x1b[31mred\xff " + 9000 * b"a" + 500 * b"b", code=1)
        self.assertMissing(reading, f"password-command: exit code 1: {200 * 'a'}")
        reading, process = self.run_()
        process.end(errors=b"\x1b[31mred\xff\r\n", code=1)
        self.assertMissing(reading, "password-command: exit code 1: [31mred\ufffd")

    @given(st.binary(), st.binary(), st.integers(0, 3))
    def test_anyOutputIsAPasswordOrOneLine(self, output: bytes, errors: bytes, code: int) -> None:
        reading, process = self.run_()
        process.end(output, errors, code)
        results: list[Any] = []
        reading.addBoth(results.append)
        [result] = results
        if isinstance(result, Failure):
            self.assertTrue(str(result.value).isprintable())
            result.trap(CredentialsUnavailable)
        else:
            self.assertEqual(result.password.reveal().encode(), output.rstrip(b"\r\n"))

    def test_norInAnySpelling(self) -> None:
        for spelled in f"https://a:{quote(CANARY)}%40", b64encode(CANARY.encode()).decode():
            reading, process = self.run_()
            process.end(f"{CANARY}\n".encode(), f"curl {spelled}".encode(), code=1)
            error = self.failureResultOf(reading, CredentialsUnavailable).value
            self.assertNotIn(CANARY, unquote(str(error)))
            self.assertIn("***", str(error))

    def test_norWhereALongLineIsCutWithinIt(self) -> None:
        for rest in range(1, len(CANARY)):
            reading, process = self.run_()
            errors = b"x" + CANARY.encode() + b"z" * (4096 - rest)
            process.end(f"{CANARY}\n".encode(), errors, code=1)
            error = self.failureResultOf(reading, CredentialsUnavailable).value
            self.assertNotIn(CANARY[-1:] + "z", str(error))

    def test_aComplaintDoesNotShowWhatItPrinted(self) -> None:
        reading, process = self.run_()
        process.end(f"{CANARY}\n".encode(), f"+ echo {CANARY}\n".encode(), code=1)
        self.assertMissing(reading, "password-command: exit code 1: + echo ***")

    def test_oneThatTakesTooLongIsKilledWithAllThatItStarted(self) -> None:
        reading, process = self.run_()
        process.protocol.outReceived(CANARY.encode())
        self.reactor.advance(COMMAND_DEADLINE - 0.001)
        self.assertNoResult(reading)
        self.reactor.advance(0.001)
        self.assertMissing(reading, "password-command: did not end within 10 s")
        self.assertEqual(self.killed, [(PID, signal.SIGKILL)])
        self.assertEqual(process.calls, ["closeStdin", "KILL", "loseConnection"])
        process.end(signal=9)

    def test_oneThatIsNotYetTheLeaderOfItsGroupIsKilledToo(self) -> None:
        def noSuchGroup(pid: int, number: int) -> None:
            raise ProcessLookupError

        self.patch(os, "killpg", noSuchGroup)
        reading, process = self.run_()
        self.reactor.advance(COMMAND_DEADLINE)
        self.assertMissing(reading, "password-command: did not end within 10 s")
        self.assertEqual(process.calls, ["closeStdin", "KILL", "loseConnection"])

    def test_whatHasNoProcessAnyMoreIsNotKilled(self) -> None:
        # Its number may be another's by now; but something that it started holds its output.
        reading, process = self.run_()
        process.exit()
        self.reactor.advance(COMMAND_DEADLINE)
        self.assertMissing(reading, "password-command: did not end within 10 s")
        self.assertEqual(self.killed, [])
        self.assertEqual(process.calls, ["closeStdin", "loseConnection"])

    def test_oneThatPrintsWithoutEndIsKilled(self) -> None:
        reading, process = self.run_()
        for _ in range(MAX_FILE // 1024):
            process.protocol.outReceived(1024 * b"a")
        self.assertNoResult(reading)
        process.protocol.outReceived(b"a")
        self.assertMissing(reading, f"password-command: prints more than {MAX_FILE} bytes")
        process.protocol.outReceived(b"a")
        process.end(signal=9)
        self.assertEqual(self.killed, [(PID, signal.SIGKILL)])

    def test_cancellingKillsIt(self) -> None:
        reading, process = self.run_()
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual(self.killed, [(PID, signal.SIGKILL)])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        process.end(CANARY.encode(), signal=9)

    def test_oneThatCannotBeStarted(self) -> None:
        self.reactor.cannotFork = OSError(11, "Resource temporarily unavailable")
        self.assertMissing(
            self.reader(PasswordCommand("x")).read(),
            "password-command: cannot be started: Resource temporarily unavailable",
        )


class KeyringTests(ReaderCase):
    def setUp(self) -> None:
        super().setUp()
        errors = "KeyringLocked", "NoKeyringError"
        self.errors: Any = SimpleNamespace(**{e: type(e, (Exception,), {}) for e in errors})
        known = {("corp proxy", "alice"): "x"}
        self.keyring: Any = SimpleNamespace(get_password=lambda *key: known.get(key))
        self.patch(sys, "modules", {**sys.modules})
        modules: dict[str, Any] = {"keyring": self.keyring, "keyring.errors": self.errors}
        sys.modules.update(modules)

    def read(self) -> Deferred[Credentials]:
        reading = self.reader(PasswordKeyring("corp proxy")).read()
        self.assertNoResult(reading)
        self.reactor.pool.run()
        return reading

    def test_itIsAskedInAThread(self) -> None:
        self.assertRead(self.read(), "x")

    def test_itIsNeverKnownToHaveChanged(self) -> None:
        reader = self.reader(PasswordKeyring("corp proxy"))
        reader.read()
        self.assertFalse(reader.changed())

    def test_aUserThatItDoesNotKnow(self) -> None:
        for found in None, "":
            self.keyring.get_password = lambda *_, found=found: found
            self.assertMissing(
                self.read(), 'password-keyring "corp proxy": it has no password for "alice"'
            )

    def test_whatIsWrongWithItIsSaid(self) -> None:
        for error, reason in (
            (self.errors.KeyringLocked(CANARY), "the keyring is locked"),
            (self.errors.NoKeyringError(CANARY), "this machine has no keyring"),
            (RuntimeError(CANARY), "the keyring failed: RuntimeError"),
        ):

            def getPassword(*_: str, error: Exception = error) -> str:
                raise error

            self.keyring.get_password = getPassword
            self.assertMissing(self.read(), f'password-keyring "corp proxy": {reason}')

    def test_withoutThePackageItSaysHowToGetIt(self) -> None:
        sys.modules["keyring"] = None  # type: ignore[assignment]
        self.assertMissing(
            self.read(),
            'password-keyring "corp proxy": keyring is not installed '
            "(pip install 'ptunnel[keyring]')",
        )

    def test_howeverManyWaitOneThreadDoes(self) -> None:
        reader = self.reader(PasswordKeyring("corp proxy"))
        first, second, third = reader.read(), reader.read(), reader.read()
        self.assertEqual(len(self.reactor.pool.calls), 1)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        fourth = reader.read()
        self.assertEqual(len(self.reactor.pool.calls), 1)
        self.reactor.pool.run()
        for reading in second, third, fourth:
            self.assertRead(reading, "x")
        reading = reader.read()
        self.reactor.pool.run()
        self.assertRead(reading, "x")

    def test_aFailureIsThatOfAllWhoWait(self) -> None:
        self.keyring.get_password = lambda *_: None
        reader = self.reader(PasswordKeyring("corp proxy"))
        readings = reader.read(), reader.read()
        self.reactor.pool.run()
        for reading in readings:
            self.assertMissing(
                reading, 'password-keyring "corp proxy": it has no password for "alice"'
            )


class ShellTests(TestCase):
    """What only a real shell shows."""

    def reader(self, command: str) -> PasswordReader:
        from twisted.internet import reactor

        return PasswordReader(reactor, PasswordCommand(command), "alice", WHERE)

    def assertPrints(self, command: str, password: str) -> Deferred[None]:
        def check(credentials: Credentials) -> None:
            self.assertEqual(credentials, Credentials("alice", password))

        return self.reader(command).read().addCallback(check)

    def test_itIsAShellCommand(self) -> Deferred[None]:
        return self.assertPrints("printf '%s\\n' \"a b\" | tr a c", "c b")

    def test_standardInputIsAtItsEnd(self) -> Deferred[None]:
        return self.assertPrints("cat; echo x", "x")

    def test_theEnvironmentIsOurs(self) -> Deferred[None]:
        os.environ["PTUNNEL_TEST"] = "x"
        self.addCleanup(os.environ.pop, "PTUNNEL_TEST")
        return self.assertPrints('echo "$PTUNNEL_TEST"', "x")

    def test_whatWritesToAClosedPipeDiesOfIt(self) -> Deferred[None]:
        command = "exec 3>&1; (yes; echo $? >&3) | head -1 >/dev/null"
        return self.assertPrints(command, str(128 + signal.SIGPIPE))

    @inlineCallbacks
    def test_aCommandThatIsNotThere(self) -> Generator[Deferred[Any], Any, None]:
        reading = self.reader("nonexistent-command").read()
        error = yield self.assertFailure(reading, CredentialsUnavailable)
        self.assertIn("password-command: exit code 127: ", str(error))

    @inlineCallbacks
    def test_whatItStartedDiesWithIt(self) -> Generator[Deferred[Any], Any, None]:
        # Each of them holds the pipe; its end is the end of them all.
        pipe = os.path.abspath(self.mktemp())
        os.mkfifo(pipe)
        reading = self.reader(f"exec 3>'{pipe}'; sleep 1000 & echo up >&3; sleep 1000").read()
        self.addCleanup(reading.cancel)
        file = yield deferToThread(open, pipe, "rb")
        self.addCleanup(file.close)
        line = yield deferToThread(file.readline)
        self.assertEqual(line, b"up\n")
        reading.cancel()
        rest = yield deferToThread(file.read)
        self.assertEqual(rest, b"")
        yield self.assertFailure(reading, CancelledError)


class RenewingTests(ReaderCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()
        self.write("one")
        self.file = self.reader(PasswordFile(os.path.abspath(self.path)))

    def write(self, text: str) -> None:
        """Write it as a program that keeps the time of the file."""
        with open(self.path, "w", opener=lambda *how: os.open(*how, mode=0o600)) as file:
            file.write(text)
        os.utime(self.path, ns=(1, 1))

    def test_aFileOfTheSameTextIsNoChange(self) -> None:
        self.assertRead(self.file.read(), "one")
        self.file.renew()
        self.assertFalse(self.file.changed())

    def test_anotherTextIsAChangeThoughTheFileLooksTheSame(self) -> None:
        self.assertRead(self.file.read(), "one")
        self.write("two")
        self.assertFalse(self.file.changed())
        self.file.renew()
        self.assertTrue(self.file.changed())
        self.assertRead(self.file.read(), "two")
        self.assertFalse(self.file.changed())

    def test_aFileThatIsMissingIsAChange(self) -> None:
        self.assertRead(self.file.read(), "one")
        os.unlink(self.path)
        self.file.renew()
        self.assertTrue(self.file.changed())

    def test_commandsAndKeyringsAreAskedAgain(self) -> None:
        reader = self.reader(PasswordCommand("echo x"))
        reader.renew()
        self.assertFalse(reader.changed())  # it has not been asked yet
        reader._last = Credentials("alice", "x")
        reader.renew()
        self.assertTrue(reader.changed())

    def test_whatStandsInTheConfigIsNoChange(self) -> None:
        reader = self.reader(Secret("x"))
        self.assertRead(reader.read(), "x")
        reader.renew()
        self.assertFalse(reader.changed())
