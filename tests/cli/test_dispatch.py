"""`ptunnel.cli`: commands, signals and exit codes; and the program itself, as a process."""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError, ReactorNotRunning
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import __version__
from ptunnel.cli import dispatch, terminal
from ptunnel.cli.commands import stdio
from ptunnel.cli.grouped import COMMANDS
from ptunnel.config import environment
from ptunnel.config.listens import autoAddresses
from ptunnel.errors import ListenError, Unreachable
from ptunnel.log import Lines
from ptunnel.ports.tunnel import TunnelService
from ptunnel.relay.outcome import Ended
from tests.support.loopback import MemoryTCP, captureLog, freePort, lines, takenPort, useReactor

TUNNEL = "9993:192.0.2.9:993"
NAMES = ("run", "connect", "check", "hosts", "status", "top", "sessions", "reload", "demo")


class FakeReactor(MemoryReactorClock):
    """Runs a script where a reactor would wait; calls from threads come afterwards, as they do.

    @ivar stops: how often it was told to stop.
    """

    def __init__(self, script: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.script = script
        self.stops = 0
        self.ran = False
        self._calls: list[Any] = []

    def callFromThread(self, call: Any, *args: Any) -> None:
        self._calls.append((call, args))

    def turn(self) -> None:
        calls, self._calls = self._calls, []
        for call, args in calls:
            call(*args)

    def stop(self) -> None:
        if self.stops:
            raise ReactorNotRunning
        self.stops += 1

    def run(self, installSignalHandlers: Any = True) -> None:
        self.running = self.ran = True
        for number in signal.SIGINT, signal.SIGTERM:
            signal.signal(number, lambda *_: self.callFromThread(self.stop))
        for call, args, kwargs in self.whenRunningHooks:
            call(*args, **kwargs)
        self.script()
        self.turn()

    def shutDown(self) -> Any:
        """Fire the triggers before the shutdown; gives what the service waits for."""
        [(call, args, kwargs)] = self.triggers["before"]["shutdown"]
        return call(*args, **kwargs)


class CommandCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(os, "environ", {})
        self.patch(environment, "SYSTEM_CONFIG", "/nowhere/tunnels.ini")
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.reactor = FakeReactor()
        useReactor(self, self.reactor)
        self.events = captureLog(self)
        self.patch(terminal, "askPassword", lambda prompt: "")
        self.begun: list[tuple[Any, str]] = []

        def beginLogging(observer: Lines, level: str) -> None:
            self.begun.append((observer._stream, level))

        self.patch(dispatch, "beginLogging", beginLogging)
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.patch(signal, "setitimer", lambda which, seconds: None)

    def signalled(self, *numbers: int) -> None:
        for number in numbers:
            self.handlers[number](number, None)


class DispatchTests(CommandCase):
    def called(self, *words: str) -> tuple[str, list[str]]:
        calls: list[tuple[str, list[str]]] = []

        def replace(name: str) -> None:
            def command(words: Sequence[str]) -> int:
                calls.append((name, list(words)))
                return 7

            self.patch(dispatch, name, command)

        for name in NAMES:
            replace(name)
        self.assertEqual(dispatch.main(words), 7)
        [call] = calls
        return call

    def test_aFirstWordThatIsACommandIsThatCommand(self) -> None:
        for name in NAMES:
            self.assertEqual(self.called(name, "-v", "x"), (name, ["-v", "x"]))

    def test_anyOtherFirstWordMeansRun(self) -> None:
        self.assertEqual(self.called(TUNNEL, "connect"), ("run", [TUNNEL, "connect"]))
        self.assertEqual(self.called("-v", TUNNEL), ("run", ["-v", TUNNEL]))
        self.assertEqual(self.called(), ("run", []))

    def test_withoutArgumentsItReadsThoseOfTheProgram(self) -> None:
        self.patch(sys, "argv", ["ptunnel", "-V"])
        self.assertRaises(SystemExit, dispatch.main)
        self.assertEqual(self.out.getvalue(), f"ptunnel {__version__}\n")

    def test_aMistakeIsOneLineAndExitCode2AndNothingIsStarted(self) -> None:
        for words in (
            [],
            ["run"],
            ["-p", "p:1"],
            [TUNNEL],
            ["-p", "p:1", "nonsense"],
            ["--frobnicate"],
            ["connect"],
            ["connect", "-p", "p:1"],
            ["connect", "-p", "p:1", "a:1", "b:2"],
            ["connect", "-p", "p:1", "nonsense"],
            ["connect", "a:1"],
            ["connect", "-p", "p:1", "-l", "::1", "a:1"],
            ["hosts"],
            ["hosts", "-c", "/nowhere/tunnels.ini"],
            ["hosts", "-p", "127.0.0.1:9993", TUNNEL],
            ["chekc"],
            ["conect", "-p", "p:1", "a:1"],
            ["HELP"],
            ["help", "chekc"],
            ["help", "nonsense"],
            ["connect", "-p", "p:1", "https://a:1"],
            ["connect", "-p", "p:1", "a", "1", "b"],
            ["check", "-p", "p:1", "-H", "nonsense", TUNNEL],
            ["check", "--deadline", "x", "-p", "p:1", TUNNEL],
            ["demo", "--frobnicate"],
            ["-p", "p:1", "-U", "alice", TUNNEL],
        ):
            end = self.assertRaises(SystemExit, dispatch.main, words)
            self.assertEqual(end.code, 2, words)
            text = self.err.getvalue()
            self.assertTrue(text.startswith("ptunnel: ") and text.count("\n") == 1, text)
            self.err.truncate(0)
            self.err.seek(0)
        self.assertEqual((self.out.getvalue(), self.begun), ("", []))
        self.assertEqual((self.reactor.tcpServers, self.reactor.ran), ([], False))

    def test_helpOfEachCommandNamesIt(self) -> None:
        for words, start in (
            (["-h"], "Usage: ptunnel [options] [TUNNEL ...]"),
            (["run", "-h"], "Usage: ptunnel [options] [TUNNEL ...]"),
            (["connect", "-h"], "Usage: ptunnel connect [options] HOST:PORT"),
            (["check", "-h"], "Usage: ptunnel check [options] [TUNNEL ...]"),
            (["hosts", "-h"], "Usage: ptunnel hosts [options] [TUNNEL ...]"),
            (["demo", "-h"], "Usage: ptunnel demo"),
            (["status", "-h"], "Usage: ptunnel status [options]"),
            (["top", "-h"], "Usage: ptunnel top [options]"),
            (["help", "sessions"], "Usage: ptunnel sessions [options]"),
            (["reload", "-h"], "Usage: ptunnel reload [options]"),
            (["help"], "Usage: ptunnel [options] [TUNNEL ...]"),
            (["help", "run"], "Usage: ptunnel [options] [TUNNEL ...]"),
            (["help", "help"], "Usage: ptunnel [options] [TUNNEL ...]"),
            (["help", "connect"], "Usage: ptunnel connect [options] HOST:PORT"),
            (["help", "check"], "Usage: ptunnel check [options] [TUNNEL ...]"),
            (["help", "demo"], "Usage: ptunnel demo"),
            (["version"], f"ptunnel {__version__}\n"),
        ):
            self.out.truncate(0)
            self.out.seek(0)
            end = self.assertRaises(SystemExit, dispatch.main, words)
            self.assertEqual(end.code, 0)
            self.assertTrue(self.out.getvalue().startswith(start), self.out.getvalue())

    def test_aWordThatIsNearlyACommandIsMetWithIt(self) -> None:
        for words, command in (
            (["chekc", "--json"], "check"),
            (["conect"], "connect"),
            (["host"], "hosts"),
            (["hlep"], "help"),
            (["help", "dmeo"], "demo"),
            (["Version"], "version"),
            (["stauts"], "status"),
            (["session"], "sessions"),
            (["relaod"], "reload"),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertRaises(SystemExit, dispatch.main, words)
            self.assertIn(f"did you mean {command}?", self.err.getvalue())

    def test_helpNamesTheOtherCommands(self) -> None:
        self.assertRaises(SystemExit, dispatch.main, ["-h"])
        words = " ".join(self.out.getvalue().split())
        for name, what in COMMANDS.items():
            self.assertIn(f"ptunnel {name} {what}", words)


class HostsTests(CommandCase):
    def test_itPrintsTheLinesAndStartsNothing(self) -> None:
        code = dispatch.main(["hosts", "-p", "p:1", "127.0.0.9:993:imap.example:993"])
        self.assertEqual(code, 0)
        self.assertEqual(self.out.getvalue(), "127.0.0.9  imap.example\n")
        self.assertEqual((self.err.getvalue(), self.begun), ("", []))
        self.assertEqual((self.reactor.tcpServers, self.reactor.ran), ([], False))

    def test_itAsksForNoPasswordThatItDoesNotNeed(self) -> None:
        def ask(prompt: str) -> str:
            raise AssertionError("asked")

        self.patch(terminal, "askPassword", ask)
        self.assertEqual(dispatch.main(["hosts", "-p", "p:1", "-U", "alice", TUNNEL]), 0)

    def test_whereALineCannotLeadACommentStands(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[tunnel a]\nlisten = unix:/x\ntarget = a.example:1\n")
            file.write("[tunnel b]\nlisten = auto\ntarget = b.example:1\n")
        # A warning, such as the one of -P, would be a line that no hosts file can have.
        words = ["hosts", "-p", "p:1", "-U", "alice", "-P", "x", "-c", path]
        self.assertEqual(dispatch.main(words), 0)
        comment, line = self.out.getvalue().splitlines()
        self.assertTrue(comment.startswith("# a: it listens on unix:/x, "), comment)
        self.assertRegex(line, r"^127\.\d+\.\d+\.\d+  b\.example$")
        self.assertEqual(self.err.getvalue(), "")

    def test_aReaderThatHasGoneIsNoTraceback(self) -> None:
        class Gone(io.StringIO):
            def flush(self) -> None:
                raise BrokenPipeError

            def fileno(self) -> int:
                return descriptor

        descriptor = os.open(os.devnull, os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        self.patch(sys, "stdout", Gone())
        self.assertEqual(dispatch.main(["hosts", "-p", "p:1", TUNNEL]), 1)


class RunTests(CommandCase):
    def run_(self, *options: str, script: Callable[[], None] = lambda: None) -> int:
        self.reactor.script = script
        return dispatch.main(["-p", "192.0.2.8:3128", *options, TUNNEL])

    def client(self) -> Any:
        return MemoryTCP(self.reactor.tcpServers[0][1].buildProtocol(None))

    def test_itListensAndSaysSoOnStandardOutputAndRuns(self) -> None:
        listening: list[int] = []
        code = self.run_(script=lambda: listening.append(len(self.reactor.tcpServers)))
        self.assertEqual((code, listening), (0, [1]))
        self.assertEqual(self.begun, [(self.out, "notice")])
        [line] = lines(self.events)
        self.assertTrue(line.startswith("info: 192.0.2.9:993: listening on "), line)

    def test_aPortThatCannotBeBoundIsOneErrorLineAndExitCode1(self) -> None:
        def notBound(tunnel: Any) -> Any:
            return fail(ListenError("[tunnel x] cannot listen on 127.0.0.1:9993: taken"))

        self.patch(TunnelService, "listen", notBound)
        self.assertEqual(self.run_(), 1)
        self.assertEqual(
            lines(self.events), ["error: [tunnel x] cannot listen on 127.0.0.1:9993: taken"]
        )
        self.assertFalse(self.reactor.ran)

    def test_anEndpointStringThatIsNoneIsAMistake(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[tunnel a]\nlisten = nonsense:1:2\ntarget = a.example:1\n")
        end = self.assertRaises(SystemExit, self.run_, "-c", path)
        self.assertEqual(end.code, 2)
        start = f'ptunnel: {path}: [tunnel a] listen: "nonsense:1:2": '
        self.assertTrue(self.err.getvalue().startswith(start), self.err.getvalue())
        self.assertEqual(self.reactor.tcpServers, [])

    def test_signalsAreHandledBeforeTheFirstLineIsWritten(self) -> None:
        # Whoever waits for that line may send one at once.
        handled: list[set[int]] = []

        def announce(tunnel: object) -> None:
            handled.append(set(self.handlers))

        self.patch(TunnelService, "announce", announce)
        self.run_()
        self.assertLessEqual({signal.SIGINT, signal.SIGTERM, signal.SIGHUP}, handled[0])

    def test_theFirstSignalStopsTheReactorWhichWaitsForTheSessions(self) -> None:
        for number in signal.SIGTERM, signal.SIGINT:
            self.setUp()
            self.run_(script=lambda number=number: self.signalled(number))  # type: ignore[misc]
            self.assertEqual(self.reactor.stops, 1)
            client = self.client()
            done = self.reactor.shutDown()
            self.assertNoResult(done)
            client.lose()
            self.successResultOf(done)

    def test_theSecondSignalAbortsTheSessions(self) -> None:
        self.run_(script=lambda: self.signalled(signal.SIGTERM))
        client = self.client()
        done = self.reactor.shutDown()
        self.signalled(signal.SIGINT)
        self.reactor.turn()
        self.assertTrue(client.lost)
        self.successResultOf(done)
        self.assertEqual(self.reactor.stops, 1)

    def test_twoSignalsAtOnceStopTheReactorOnce(self) -> None:
        self.run_(script=lambda: self.signalled(signal.SIGTERM, signal.SIGINT))
        self.assertEqual(self.reactor.stops, 1)


class ConnectTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.result: Deferred[Ended] = succeed(Ended(1, 2, "end", 0))
        self.endpoints: list[Any] = []

        def relay(endpoint: Any, reactor: Any, **how: Any) -> Deferred[Ended]:
            self.endpoints.append(endpoint)
            self.how = how
            return self.result

        self.patch(stdio, "relay", relay)

    def connect(self, *options: str) -> int:
        return dispatch.main(["connect", "-p", "192.0.2.8:3128", *options, "192.0.2.9:22"])

    def test_itRelaysThroughTheProxyAndExitsWith0AtTheEnd(self) -> None:
        self.assertEqual(self.connect(), 0)
        self.assertEqual(self.reactor.stops, 1)
        self.endpoints[0].connect(None)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.8", 3128))
        self.assertEqual(lines(self.events), [])

    def test_theTargetMayBeTwoWordsAsGitAndSshGiveIt(self) -> None:
        code = dispatch.main(["connect", "-p", "192.0.2.8:3128", "2001:db8::5", "22"])
        self.assertEqual(code, 0)
        self.endpoints[0].connect(None)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.8", 3128))

    def test_itLogsToStandardErrorBecauseOutputIsTheTargets(self) -> None:
        self.connect()
        self.assertEqual(self.begun, [(self.err, "notice")])

    def test_aFailureIsOneErrorLineAndExitCode1(self) -> None:
        for error, line in (
            (Unreachable("no way", hint="is it up?"), "error: no way (is it up?)"),
            (ConnectionRefusedError(osError=111), "error: connection refused"),
        ):
            self.setUp()
            self.result = fail(error)
            self.assertEqual(self.connect(), 1)
            self.assertEqual(self.reactor.stops, 1)
            self.assertEqual(lines(self.events), [line])

    def test_aSessionThatIsCutIsExitCode1(self) -> None:
        for ended, logged in (
            (Ended(1, 2, "reset", 1), ["error: reset by the target"]),
            (Ended(1, 2, "reset", 0), []),  # whoever read the output has gone, as head does
            (Ended(1, 2, "half-close", 0), ["error: not finished: half-close"]),
        ):
            self.setUp()
            self.result = succeed(ended)
            self.assertEqual((self.connect(), lines(self.events)), (1, logged))

    def test_anEndThatIsAnsweredByAnEndAloneIsSaid(self) -> None:
        for ended, options, says in (
            (Ended(9, 0, "end", 0), (), True),
            (Ended(0, 0, "end", 0), (), True),
            (Ended(9, 0, "end", 0), ("--hold-end",), False),
            (Ended(9, 1, "end", 0), (), False),
            (Ended(9, 0, "end", 1), (), False),
        ):
            self.setUp()
            self.result = succeed(ended)
            self.assertEqual(self.connect(*options), 0)
            self.assertEqual(
                [line for line in lines(self.events) if "--hold-end" in line] != [], says
            )
            self.assertEqual(self.how["holdEnd"], bool(options))

    def test_butNotWhereNobodyAwaitsAnAnswerAnyMore(self) -> None:
        def relay(endpoint: Any, reactor: Any, *, left: Any, **how: Any) -> Deferred[Ended]:
            left()
            return succeed(Ended(9, 0, "end", 0))

        self.patch(stdio, "relay", relay)
        self.assertEqual((self.connect(), lines(self.events)), (0, []))

    def test_aSignalAbortsAndIsItsOwnExitCodeWithoutBlame(self) -> None:
        for number, code in (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129):
            self.setUp()
            self.result = Deferred()
            self.reactor.script = lambda number=number: self.signalled(number)  # type: ignore[misc]
            self.assertEqual(self.connect(), code)
            self.assertTrue(self.result.called)
            self.assertEqual((lines(self.events), self.reactor.stops), ([], 1))

    def test_aSignalBeforeItBeginsToConnectIsTheSame(self) -> None:
        hooks = self.reactor.whenRunningHooks
        run = self.reactor.run

        def signalled() -> None:
            hooks.insert(1, (lambda: self.signalled(signal.SIGTERM), (), {}))
            run()

        self.patch(self.reactor, "run", signalled)
        self.assertEqual(self.connect(), 143)
        self.assertEqual((self.endpoints, lines(self.events)), ([], []))

    def test_aBugIsOneErrorLineToo(self) -> None:
        self.result = fail(ZeroDivisionError("division by zero"))
        self.assertEqual(self.connect(), 1)
        self.assertEqual(
            lines(self.events), ["error: a bug: ZeroDivisionError('division by zero')"]
        )

    def test_warningsAreLogged(self) -> None:
        self.connect("-U", "alice", "-P", "se-cret")
        [line] = lines(self.events)
        self.assertTrue(line.startswith("warn: -P "), line)


class ProcessTests(SynchronousTestCase):
    """The program itself. Each process ends by itself or is killed after a while."""

    ptunnel = "-m", "ptunnel"
    twistd = "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="

    def start(self, *words: str) -> subprocess.Popen[str]:
        environ = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=environ,
        )

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.unread = ""

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def lineFrom(self, process: subprocess.Popen[str], word: str) -> str:
        """The next line of its output with a word in it."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                line, newline, rest = self.unread.partition("\n")
                if newline:
                    self.unread = rest
                    if word in line:
                        return line
                    continue
                self.assertTrue(selector.select(60), f"no line with {word!r}")
                data = os.read(process.stdout.fileno(), 65536)
                self.assertTrue(data, f"the output ended without {word!r}")
                self.unread += data.decode()

    def port(self, process: subprocess.Popen[str]) -> int:
        line = self.lineFrom(process, "listening on 127.0.0.1:")
        return int(line.partition("127.0.0.1:")[2].partition(",")[0])

    def test_connectImportsNothingThatFewNeed(self) -> None:
        """ssh starts it anew for each connection."""
        few = [
            *("ptunnel.check", "ptunnel.demo", "ptunnel.service.service"),
            *("ptunnel.session", "ptunnel.starttls"),
            *("ptunnel.auth.challenges", "ptunnel.auth.choice"),
            *("ptunnel.auth.digest", "ptunnel.auth.spnego", "ptunnel.login.authentication"),
            *("ptunnel.connect.body", "ptunnel.connect.refusals", "ptunnel.connect.trace"),
            "ptunnel.route.passwords",
            *("ptunnel.tls.endpoint", "ptunnel.tls.peer", "ptunnel.tls.verify"),
            *("difflib", "getpass", "h11", "pyexpat", "spnego", "twisted.internet.endpoints"),
        ]
        program = (
            "import sys; from ptunnel.cli import main; "
            f"code = main(['connect', '-q', '-p', '127.0.0.1:{freePort()}', 'target.example:25']); "
            f"print(code, [name for name in {few} if name in sys.modules])"
        )
        self.assertEqual(self.ended(self.start("-c", program)), (0, "1 []\n", ""))

    def test_itListensUntilASignalAndExitsWith0(self) -> None:
        process = self.start(*self.ptunnel, "-p", "127.0.0.1:1", "0:a.example:1")
        with socket.create_connection(("127.0.0.1", self.port(process)), timeout=60) as client:
            self.assertEqual(client.recv(1), b"")  # there is no proxy: an end and no reset
        self.assertIn("warning", self.lineFrom(process, "gets no tunnel"))
        process.send_signal(signal.SIGTERM)
        code, _, err = self.ended(process)
        self.assertEqual((code, err), (0, ""))

    def test_whereHostsLeadsANameATunnelListens(self) -> None:
        if sys.platform != "linux":
            self.skipTest("the address must be given to the loopback interface first")
        address = autoAddresses(["a.example"])["a.example"]
        with socket.socket() as free:
            free.bind((address, 0))
            port = free.getsockname()[1]
        with open(os.path.join(self.directory, "tunnels.ini"), "w") as file:
            file.write(f"[tunnel a]\nlisten = auto\ntarget = a.example:{port}\n")
        words = "-c", "tunnels.ini", "-p"
        code, out, err = self.ended(self.start(*self.ptunnel, "hosts", *words, "p.example:1"))
        self.assertEqual((code, out, err), (0, f"{address}  a.example\n", ""))
        process = self.start(*self.ptunnel, *words, "127.0.0.1:1")
        self.lineFrom(process, f"listening on {address}:{port}")
        with socket.create_connection((address, port), timeout=60) as client:
            self.assertEqual(client.recv(1), b"")  # there is no proxy: an end and no reset
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.ended(process)[0], 0)

    def test_aSecondSignalEndsASessionThatDoesNotEnd(self) -> None:
        with socket.socket() as proxy:
            proxy.bind(("127.0.0.1", 0))
            proxy.listen()
            there = f"127.0.0.1:{proxy.getsockname()[1]}"
            with open(os.path.join(self.directory, "tunnels.ini"), "w") as file:
                file.write("[ptunnel]\ndrain-timeout = 0\n")
            process = self.start(*self.ptunnel, "-c", "tunnels.ini", "-p", there, "0:a.example:1")
            with socket.create_connection(("127.0.0.1", self.port(process)), timeout=60):
                accepted, _ = proxy.accept()
                with accepted:
                    process.send_signal(signal.SIGTERM)
                    self.lineFrom(process, "stopping: waiting for 1 session")
                    process.send_signal(signal.SIGTERM)
                    code, _, err = self.ended(process)
        self.assertEqual((code, err), (0, ""))

    def test_aPortThatIsTakenIsOneLineAndExitCode1(self) -> None:
        port = takenPort(self)
        code, out, err = self.ended(
            self.start(*self.ptunnel, "-p", "127.0.0.1:1", f"{port}:a.example:1")
        )
        self.assertEqual((code, err), (1, ""))
        self.assertEqual(out.count("\n"), 1)
        self.assertTrue(
            out.endswith(
                f"error   [tunnel a.example:1] cannot listen on 127.0.0.1:{port}: "
                "address already in use\n"
            ),
            out,
        )

    def test_withQuietNotEvenThat(self) -> None:
        tunnel = f"{takenPort(self)}:a.example:1"
        process = self.start(*self.ptunnel, "-q", "-p", "127.0.0.1:1", tunnel)
        self.assertEqual(self.ended(process), (1, "", ""))

    def test_underTwistdATakenPortIsExitCode1WithoutATraceback(self) -> None:
        port = takenPort(self)
        for options, count in ((), 1), (("-q",), 0):
            code, out, err = self.ended(
                self.start(
                    *self.twistd,
                    "ptunnel",
                    *options,
                    "-p",
                    "127.0.0.1:1",
                    f"{port}:a.example:1",
                )
            )
            self.assertEqual(code, 1)
            self.assertNotIn("Traceback", out + err)
            line = f"[tunnel a.example:1] cannot listen on 127.0.0.1:{port}: address already in use"
            self.assertEqual((out + err).count(line), count, out + err)
            self.assertEqual((out + err).count("ptunnel:"), count, out + err)

    def test_underTwistdItListensUntilASignal(self) -> None:
        process = self.start(*self.twistd, "ptunnel", "-p", "127.0.0.1:1", "0:a.example:1")
        with socket.create_connection(("127.0.0.1", self.port(process)), timeout=60) as client:
            self.assertEqual(client.recv(1), b"")  # so it runs, and handles signals
        process.send_signal(signal.SIGTERM)
        self.lineFrom(process, "Server Shut Down")
        code, _, err = self.ended(process)
        # twistd ends as by the signal that ended it.
        self.assertEqual((code, err), (-signal.SIGTERM, ""))
