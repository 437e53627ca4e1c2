"""`ptunnel.tap` and twistd's plugin: the options of `run` and `twistd ptunnel`, and makeService."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet.defer import fail
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import __version__
from ptunnel.auth import Secret
from ptunnel.cli import baseoptions as module
from ptunnel.cli import dispatch, terminal
from ptunnel.config import DIRECT, PasswordEnv, PasswordFile, TcpListen, environment
from ptunnel.errors import ConfigError, ListenError
from ptunnel.net import epoll
from ptunnel.service.service import PtunnelService
from ptunnel.tap import Options, makeService
from ptunnel.tls import TlsSettings
from tests.support.loopback import captureLog, lines, useReactor

TUNNEL = "9993:imap.example.com:993"


class OptionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.environ: dict[str, str] = {}
        self.patch(os, "environ", self.environ)
        self.patch(environment, "SYSTEM_CONFIG", os.path.abspath(self.mktemp()))
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def parse(self, *words: str) -> Options:
        options = Options()
        options.parseOptions(words)
        return options

    def mistake(self, *words: str) -> str:
        """The line of a mistake, without the program's name and the newline."""
        end = self.assertRaises(SystemExit, self.parse, *words)
        self.assertEqual(end.code, 2)
        text = self.err.getvalue()
        self.err.truncate(0)
        self.err.seek(0)
        self.assertEqual((text.count("\n"), text[:9], text[-1]), (1, "ptunnel: ", "\n"))
        self.assertEqual(self.out.getvalue(), "")
        return text[9:-1]


class OptionsTests(OptionsCase):
    def test_optionsMayStandBeforeAndBehindAndBetweenTunnels(self) -> None:
        other = "9994:smtp.example.com:465"
        for words in (
            ("-p", "p:1", "-v", TUNNEL, other),
            (TUNNEL, other, "-v", "-p", "p:1"),
            (TUNNEL, "--proxy=p:1", other, "--verbose"),
            (TUNNEL, "-vpp:1", "--", other),
        ):
            settings = self.parse(*words).settings
            self.assertEqual(
                [(tunnel.listen.port, tunnel.via) for tunnel in settings.tunnels],  # type: ignore[union-attr]
                [(9993, ("p:1",)), (9994, ("p:1",))],
                words,
            )
            self.assertEqual(settings.logLevel, "info")

    def test_proxiesAreTriedInTheOrderInWhichTheyAreGiven(self) -> None:
        settings = self.parse("-p", "b:1", TUNNEL, "--proxy", "a:2", "-p", "c:3").settings
        self.assertEqual(settings.tunnels[0].via, ("b:1", "a:2", "c:3"))

    def test_directIsTheLastWay(self) -> None:
        for flag in "-d", "--direct":
            settings = self.parse("-p", "p:1", flag, TUNNEL).settings
            self.assertEqual(settings.tunnels[0].via, ("p:1", DIRECT))

    def test_anEndIsHeldBackInEveryTunnelUnlessItSaysOtherwise(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[tunnel a]\nlisten = 1001\ntarget = a.example:1\nhold-end = no\n")
            file.write("[tunnel b]\nlisten = 1002\ntarget = b.example:1\n")
        words = "-p", "p:1", "-c", path, TUNNEL
        tunnels = self.parse(*words, "--hold-end").settings.tunnels
        self.assertEqual([tunnel.holdEnd for tunnel in tunnels], [False, True, True])
        tunnels = self.parse(*words).settings.tunnels
        self.assertEqual([tunnel.holdEnd for tunnel in tunnels], [False, False, False])

    def test_withoutAProxyTheEnvironmentDecides(self) -> None:
        self.environ["https_proxy"] = "http://fromthere:8080"
        self.assertEqual(self.parse(TUNNEL).settings.tunnels[0].via, ("fromthere:8080",))

    def test_tunnelsListenOnLoopbackOrWhereTheyOrTheOptionSay(self) -> None:
        def listen(*words: str) -> Any:
            return self.parse("-p", "p:1", *words).settings.tunnels[0].listen

        self.assertEqual(listen(TUNNEL), TcpListen("127.0.0.1", 9993))
        self.assertEqual(listen("-l", "::1", TUNNEL), TcpListen("::1", 9993))
        self.assertEqual(listen("-l", "::1", f"0.0.0.0:{TUNNEL}"), TcpListen("0.0.0.0", 9993))

    def test_howMuchIsLogged(self) -> None:
        for words, level in (
            ((), "notice"),
            (("-q",), "none"),
            (("-v",), "info"),
            (("-vv",), "debug"),
            (("-v", "-v", "-v"), "debug"),
            (("-v", "--quiet"), "none"),
            (("-q", "-v"), "info"),
        ):
            settings = self.parse("-p", "p:1", *words, TUNNEL).settings
            self.assertEqual(settings.logLevel, level, words)

    def test_userAndPasswordAreForTheProxyAndTheLatterComesWithAWarning(self) -> None:
        settings = self.parse("-p", "p:1", "-U", "alice", "-P", "se-cret", TUNNEL).settings
        proxy = settings.proxies["p:1"]
        self.assertEqual((proxy.username, proxy.password), ("alice", Secret("se-cret")))
        [warning] = settings.warnings
        self.assertIn("--password-file", warning)
        self.assertNotIn("se-cret", warning)

    def test_aPasswordMayComeFromAFile(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("se-cret\n")
        os.chmod(path, 0o600)
        words = "-p", "p:1", "-U", "alice", "--password-file", path, TUNNEL
        proxy = self.parse(*words).settings.proxies["p:1"]
        self.assertEqual(
            (proxy.username, proxy.password), ("alice", PasswordFile(os.path.abspath(path)))
        )

    def test_aPasswordMayComeFromAVariableWithoutAWarning(self) -> None:
        self.environ["PROXY_PASSWORD"] = "se-cret"
        words = "-p", "p:1", "-U", "alice", "--password-env", "PROXY_PASSWORD", TUNNEL
        settings = self.parse(*words).settings
        proxy = settings.proxies["p:1"]
        self.assertEqual(proxy.password, PasswordEnv("PROXY_PASSWORD"))
        self.assertEqual((proxy.username, settings.warnings), ("alice", ()))

    def test_theDrainTimeoutAndTheFormatGoBeforeThoseOfTheConfigFile(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[ptunnel]\ndrain-timeout = 5m\nlog-format = json\n")
        words = "-c", path, "-p", "p:1", TUNNEL
        settings = self.parse(*words).settings
        self.assertEqual((settings.drainTimeout, settings.logFormat), (300, "json"))
        settings = self.parse(*words, "--drain-timeout=1h", "--log-format", "text").settings
        self.assertEqual((settings.drainTimeout, settings.logFormat), (3600, "text"))
        self.assertIsNone(self.parse(*words, "--drain-timeout=0").settings.drainTimeout)

    def test_theEnvironmentNamesTheConfigFileThatNoOptionNames(self) -> None:
        paths = [self.mktemp() for _ in range(2)]
        for number, path in enumerate(paths):
            with open(path, "w") as file:
                file.write(f"[tunnel t{number}]\nlisten = 1\ntarget = h:1\nvia = direct\n")

        def names(*words: str) -> list[str]:
            return [tunnel.name for tunnel in self.parse(*words).settings.tunnels]

        self.environ["PTUNNEL_CONFIG"] = paths[0]
        self.assertEqual(names(), ["t0"])
        self.assertEqual(names("-d", TUNNEL), ["t0", "imap.example.com:993"])
        self.assertEqual(names("-c", paths[1]), ["t1"])
        self.environ["PTUNNEL_CONFIG"] = ""
        self.assertEqual(names("-d", TUNNEL), ["imap.example.com:993"])

    def test_aUserWithoutAPasswordIsAskedForItOnTheTerminal(self) -> None:
        prompts: list[str] = []

        def askPassword(prompt: str) -> str:
            prompts.append(prompt)
            return "se-cret"

        self.patch(terminal, "askPassword", askPassword)
        proxy = self.parse("-p", "p:1", "-U", "alice", TUNNEL).settings.proxies["p:1"]
        self.assertEqual(proxy.password, Secret("se-cret"))
        self.assertEqual(prompts, ["Password of alice for the proxy: "])

    def test_headersAreForTheProxyAndHiddenFromTheProcessList(self) -> None:
        hidden: list[str] = []
        self.patch(module, "hideArguments", hidden.extend)
        words = "-p", "p:1", "-H", "X-Team: mail", "--header=X-Key: c4n4ry", TUNNEL
        options = self.parse(*words)
        headers = (("X-Team", "mail"), ("X-Key", "c4n4ry"))
        self.assertEqual(options.settings.proxies["p:1"].headers, headers)
        self.assertEqual(hidden, ["X-Team: mail", "X-Key: c4n4ry"])
        self.assertNotIn("c4n4ry", repr(options) + repr(options.commandLine()))

    def test_noReprOfTheOptionsShowsAPassword(self) -> None:
        options = self.parse(
            "-p", "http://bob:c4n4ry@p:1", "-p", "q:1", "-U", "a", "-Pc4n4ry", TUNNEL
        )
        self.assertEqual(options["password"], Secret("c4n4ry"))
        for shown in repr(options), repr(options.commandLine()), repr(options.settings):
            self.assertNotIn("c4n4ry", shown)

    def test_anHttpsProxy(self) -> None:
        proxy = self.parse("-p", "https://p", TUNNEL).settings.proxies["p:443"]
        self.assertEqual(proxy.tls, TlsSettings(alpn=("http/1.1",)))

    def test_theRustProgramsMultithreadedIsAccepted(self) -> None:
        for flag in "-m", "--multithreaded":
            self.assertEqual(len(self.parse("-p", "p:1", flag, TUNNEL).settings.tunnels), 1)

    def test_aConfigFileAndTunnelsAddUp(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[proxy corp]\nurl = p:1\n[tunnel a]\nlisten = 1001\ntarget = a.example:1\n")
        for flag in "-c", "--config":
            settings = self.parse(flag, path, TUNNEL).settings
            self.assertEqual(
                [tunnel.name for tunnel in settings.tunnels], ["a", "imap.example.com:993"]
            )

    def test_versionAndHelpExitWith0AndWriteToStandardOutput(self) -> None:
        for flag, text in (
            ("-V", f"ptunnel {__version__}\n"),
            ("--version", f"ptunnel {__version__}\n"),
            ("-h", "Usage: ptunnel "),
            ("--help", "Usage: ptunnel "),
        ):
            end = self.assertRaises(SystemExit, self.parse, flag)
            self.assertEqual(end.code, 0)
            self.assertIn(text, self.out.getvalue())
            self.out.truncate(0)
            self.out.seek(0)
        self.assertEqual(self.err.getvalue(), "")

    def test_theHelpNamesEveryOptionOfTheManual(self) -> None:
        self.assertRaises(SystemExit, self.parse, "-h")
        for words in (
            "-c, --config",
            "-p, --proxy",
            "-H, --header",
            "-U, --user",
            "-P, --password",
            "--password-file",
            "-l, --listen",
            "-d, --direct",
            "-m, --multithreaded",
            "-q, --quiet",
            "-v, --verbose",
            "-h, --help",
            "-V, --version",
        ):
            self.assertIn(words, self.out.getvalue())


class MistakeTests(OptionsCase):
    def test_anUnknownOption(self) -> None:
        for word in "--frobnicate", "-z":
            self.assertIn(word.lstrip("-"), self.mistake("-p", "p:1", word, TUNNEL))

    def test_aTypoInALongOption(self) -> None:
        self.assertTrue(self.mistake("--porxy", "p:1").endswith("; did you mean --proxy?"))
        self.assertTrue(self.mistake("--quite").endswith("; did you mean --quiet?"))

    def test_anOptionWithoutItsValue(self) -> None:
        self.assertIn("proxy", self.mistake(TUNNEL, "--proxy"))
        self.assertIn("-p", self.mistake(TUNNEL, "-p"))

    def test_anEmptyValueIsNotTheNextWord(self) -> None:
        # As `-p "$PROXY"` gives it.
        for words in ("-p", ""), ("--proxy", ""), ("--proxy=",):
            line = self.mistake(*words, TUNNEL)
            self.assertTrue(line.startswith('-p: "": '), line)
        self.assertTrue(self.mistake("-p", "p:1", "-l", "", TUNNEL).startswith('-l: "": '))

    def test_aFlagWithAValue(self) -> None:
        self.assertIn("direct", self.mistake("--direct=yes", "-p", "p:1", TUNNEL))

    def test_aWordThatIsNoTunnel(self) -> None:
        line = self.mistake("-p", "p:1", "imap.example.com")
        self.assertTrue(line.startswith('TUNNEL: "imap.example.com": not a tunnel; '), line)

    def test_behindTwoDashesNothingIsAnOption(self) -> None:
        self.assertTrue(self.mistake("-p", "p:1", "--", "-V").startswith('TUNNEL: "-V": '))

    def test_noTunnels(self) -> None:
        self.assertTrue(self.mistake("-p", "p:1").startswith("nothing to do: "))

    def test_noProxy(self) -> None:
        self.assertTrue(self.mistake(TUNNEL).startswith("no proxy: "))

    def test_aSecondConfigFile(self) -> None:
        for words in ("-c", "a", "-c", "b"), ("--config=a", "-cb"), ("-c", "", "--config", "b"):
            line = self.mistake(*words, TUNNEL)
            self.assertEqual(line, "-c: given twice; put all of it into one config file")

    def test_aWordThatIsNearlyACommandOrStandsBehindOptions(self) -> None:
        for word, command in ("chekc", "check"), ("Hosts", "hosts"), ("conect", "connect"):
            line = self.mistake("-p", "p:1", word)
            self.assertEqual(
                line, f'"{word}": neither a command nor a TUNNEL; did you mean {command}?'
            )
        line = self.mistake("-p", "p:1", "check", TUNNEL)
        self.assertEqual(line, '"check": a command must be the first word, before all options')

    def test_aUserWithoutAPasswordWhereThereIsNoTerminal(self) -> None:
        self.patch(terminal, "askPassword", lambda prompt: "")
        line = self.mistake("-p", "p:1", "-U", "alice", TUNNEL)
        self.assertEqual(line, '-U: "alice": a password is missing; use --password-file')

    def test_aVariableWithoutAPasswordOrWithoutAUserOrBesideAnotherSource(self) -> None:
        words = "-p", "p:1", "-U", "alice", TUNNEL, "--password-env"
        line = self.mistake(*words, "NONE")
        self.assertEqual(line, '--password-env: "NONE": the variable is unset or empty')
        line = self.mistake(*words, "se-cret")  # which is the password itself
        self.assertEqual(line, "--password-env: not the name of a variable")
        self.environ["SOME"] = "x"
        line = self.mistake("-p", "p:1", TUNNEL, "--password-env", "SOME")
        self.assertEqual(line, "--password-env: a user name is missing; give it with -U")
        line = self.mistake(*words, "SOME", "--password-file", "x")
        self.assertEqual(line, "--password-file and --password-env: only one of them can be used")

    def test_aUserWithoutAName(self) -> None:
        line = self.mistake("-p", "p:1", "-U", "", TUNNEL)
        self.assertEqual(line, "-U: a user name is missing; give it with -U")

    def test_toTakeOverNeedsAHandOver(self) -> None:
        line = self.mistake("-p", "p:1", TUNNEL, "--take-over")
        self.assertIn("--take-over: there is no hand-over in [ptunnel]", line)

    def test_aDrainTimeoutOrAFormatThatIsNone(self) -> None:
        for option in "--drain-timeout", "--log-format":
            for value in "soon", "":
                line = self.mistake("-p", "p:1", TUNNEL, f"{option}={value}")
                self.assertTrue(line.startswith(f'{option}: "{value}": '), line)

    def test_aConfigFileOfTheEnvironmentIsNamedWithItsVariable(self) -> None:
        self.environ["PTUNNEL_CONFIG"] = "/nonexistent/tunnels.ini"
        line = self.mistake(TUNNEL)
        self.assertTrue(line.startswith("PTUNNEL_CONFIG: /nonexistent/tunnels.ini: "), line)

    def test_aConfigFileThatIsNotThere(self) -> None:
        self.assertIn("/nonexistent/tunnels.ini", self.mistake("-c", "/nonexistent/tunnels.ini"))


class PluginTests(OptionsCase):
    def test_twistdFindsIt(self) -> None:
        [maker] = [m for m in getPlugins(IServiceMaker) if m.tapname == "ptunnel"]
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)

    def test_lookingForPluginsImportsNothingOfIt(self) -> None:
        program = (
            "import sys, twisted.plugins.ptunnel_plugin as p; p.ptunnel.tapname; "
            "print([m for m in sys.modules if m.split('.')[0] in ('ptunnel', 'h11', 'OpenSSL')])"
        )
        found = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(found.stdout, "[]\n")

    def test_itsOptionsAreTwistdsSubcommand(self) -> None:
        server = ServerOptions()
        server.parseOptions(["-n", "ptunnel", TUNNEL, "-p", "p:1"])
        self.assertEqual(server.subCommand, "ptunnel")
        self.assertEqual(server.subOptions.settings.tunnels[0].via, ("p:1",))

    def test_underTwistdNobodyIsAskedForAPasswordUnlessItStaysInTheForeground(self) -> None:
        self.patch(terminal, "askPassword", lambda prompt: "se-cret")
        words = ["ptunnel", TUNNEL, "-p", "p:1", "-U", "alice"]
        server = ServerOptions()
        self.assertRaises(SystemExit, server.parseOptions, words)
        self.assertIn("a password is missing", self.err.getvalue())
        server = ServerOptions()
        server.parseOptions(["-n", *words])
        self.assertEqual(server.subOptions.settings.proxies["p:1"].password, Secret("se-cret"))

    def test_aMistakeUnderTwistdIsOneLineAndExitCode2(self) -> None:
        server = ServerOptions()
        end = self.assertRaises(SystemExit, server.parseOptions, ["-n", "ptunnel", "nonsense"])
        self.assertEqual(end.code, 2)
        text = self.err.getvalue()
        self.assertTrue(text.startswith('ptunnel: TUNNEL: "nonsense": not a tunnel; '), text)
        self.assertEqual(text.count("\n"), 1)


class MakeServiceTests(OptionsCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = MemoryReactorClock()
        useReactor(self, self.reactor)
        self.patch(sys, "excepthook", sys.__excepthook__)

    def test_itIsAServiceThatHasBoundNothingYet(self) -> None:
        service = makeService(self.parse("-p", "p:1", TUNNEL))
        self.assertIsInstance(service, PtunnelService)
        self.assertEqual(self.reactor.tcpServers, [])
        service.startService()
        [(port, _, _, interface)] = self.reactor.tcpServers
        self.assertEqual((interface, port), ("127.0.0.1", 9993))

    def test_itLogsAtTheLevelOfTheOptionsAlthoughTwistdHasTheLog(self) -> None:
        events = captureLog(self)
        makeService(self.parse("-q", "-p", "p:1", TUNNEL)).startService()
        self.assertEqual(events, [])
        makeService(self.parse("-p", "p:1", TUNNEL)).startService()
        self.assertEqual(len(lines(events)), 1)

    def test_anEndpointStringThatIsNoneIsAMistake(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[tunnel a]\nlisten = nonsense:1:2\ntarget = a.example:1\n")
        options = self.parse("-c", path, "-p", "p:1")
        end = self.assertRaises(SystemExit, makeService, options)
        self.assertEqual(end.code, 2)
        self.assertEqual(
            self.err.getvalue(),
            f'ptunnel: {path}: [tunnel a] listen: "nonsense:1:2": '
            "Unknown endpoint type: 'nonsense'\n",
        )
        self.assertEqual(self.reactor.tcpServers, [])

    def failedStart(self, *words: str) -> None:
        """What Python does with the exception that ends twistd."""
        service = makeService(self.parse(*words, TUNNEL))
        error = ListenError("[tunnel a] cannot listen on 127.0.0.1:9993")
        self.patch(service.tunnels[0], "listen", lambda: fail(error))
        self.assertIs(self.assertRaises(ListenError, service.privilegedStartService), error)
        sys.excepthook(ListenError, error, error.__traceback__)

    def test_aPortThatIsTakenIsOneLineAndNoTraceback(self) -> None:
        self.failedStart("-p", "p:1")
        text = self.err.getvalue()
        self.assertTrue(text.startswith("ptunnel: [tunnel a] cannot listen on "), text)
        self.assertEqual(text.count("\n"), 1)

    def test_andWithQuietNotEvenThat(self) -> None:
        self.failedStart("-q", "-p", "p:1")
        self.assertEqual(self.err.getvalue(), "")


class RereadTests(OptionsCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.abspath(self.mktemp())
        self.write("[tunnel a]\nlisten = 1\ntarget = a.example:1\nvia = direct\n")

    def write(self, text: str) -> None:
        with open(self.path, "w") as file:
            file.write(text)

    def test_theFileIsReadAgainWithTheSameCommandLine(self) -> None:
        options = self.parse("-c", os.path.relpath(self.path), "-p", "p:1", TUNNEL)
        self.write("[tunnel b]\nlisten = 2\ntarget = b.example:1\n")
        folder = os.getcwd()
        self.addCleanup(os.chdir, folder)
        os.chdir("/")  # as twistd may
        settings = options.reread()
        self.assertEqual([tunnel.name for tunnel in settings.tunnels], ["b", TUNNEL[5:]])
        self.assertEqual(settings.tunnels[0].via, ("p:1",))

    def test_theFileOfTheEnvironmentIsReadAgainToo(self) -> None:
        self.environ["PTUNNEL_CONFIG"] = os.path.relpath(self.path)
        options = self.parse()
        self.assertEqual(options["config"], self.path)
        self.write("[tunnel b]\nlisten = 2\ntarget = b.example:1\nvia = direct\n")
        self.assertEqual([tunnel.name for tunnel in options.reread().tunnels], ["b"])

    def test_aMistakeIsAnErrorOfOneLineAndNotTheEnd(self) -> None:
        options = self.parse("-c", self.path)
        self.write("[tunnel b]\nlisten = 2\n")
        error = self.assertRaises(ConfigError, options.reread)
        self.assertTrue(str(error).startswith(f"{self.path}: [tunnel b]"), str(error))

    def test_whoeverWasAskedForAPasswordIsNotAskedAgain(self) -> None:
        asked: list[str] = []

        def answer(question: str) -> str:
            asked.append(question)
            return "secret"

        self.patch(terminal, "askPassword", answer)
        options = self.parse("-p", "p:1", "-U", "alice", TUNNEL)
        self.assertEqual(options.reread().proxies["p:1"].password, Secret("secret"))
        self.assertEqual(len(asked), 1)


class DefaultConfigTests(OptionsCase):
    def setUp(self) -> None:
        super().setUp()
        home = os.path.abspath(self.mktemp())
        self.environ["HOME"] = home
        self.own = f"{home}/.config/ptunnel/tunnels.ini"
        self.system = environment.SYSTEM_CONFIG

    def write(self, path: str, name: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(f"[tunnel {name}]\nlisten = 1\ntarget = h.example:1\n")

    def both(self) -> None:
        self.write(self.own, "own")
        self.write(self.system, "system")

    def names(self, *words: str) -> list[str]:
        return [tunnel.name for tunnel in self.parse("-d", *words).settings.tunnels]

    def test_theUsersIsTakenBeforeTheMachines(self) -> None:
        self.write(self.system, "system")
        self.assertEqual(self.names(), ["system"])
        self.write(self.own, "own")
        self.assertEqual(self.names(), ["own"])

    def test_whateverNamesTunnelsOrAFileGoesBeforeBoth(self) -> None:
        self.both()
        self.assertEqual(self.names(TUNNEL), ["imap.example.com:993"])
        other = self.mktemp()
        self.write(f"{other}/x", "other")
        self.assertEqual(self.names("-c", f"{other}/x"), ["other"])
        self.environ["PTUNNEL_CONFIG"] = f"{other}/x"
        self.assertEqual(self.names(), ["other"])
        self.environ["PTUNNEL_CONFIG"] = ""
        line = self.mistake("-d")
        self.assertTrue(line.startswith("nothing to do: "), line)
        self.assertNotIn(self.own, line)

    def test_otherOptionsAreForItsTunnels(self) -> None:
        self.both()
        settings = self.parse("-p", "p:1", "-v").settings
        self.assertEqual((settings.tunnels[0].via, settings.logLevel), (("p:1",), "info"))
        self.assertTrue(self.mistake().startswith("no proxy: "))

    def test_whereThereIsNoneTheErrorSaysWhereItWasLookedFor(self) -> None:
        line = self.mistake("-d")
        self.assertTrue(line.startswith("nothing to do: "), line)
        where = f"; there is no config file at {self.own} nor {self.system}"
        self.assertTrue(line.endswith(where), line)

    def test_oneThatCannotBeReadIsAnErrorAndNotPassedOver(self) -> None:
        self.write(self.system, "system")
        for make, what in (
            (lambda: os.symlink("/nowhere", self.own), "No such file"),
            (lambda: os.mkdir(self.own), "Is a directory"),
        ):
            os.makedirs(os.path.dirname(self.own), exist_ok=True)
            make()
            self.assertTrue(self.mistake("-d").startswith(f"{self.own}: {what}"))
            os.rename(self.own, self.mktemp())
        self.patch(os, "lstat", self.forbidden)
        self.assertTrue(self.mistake("-d").startswith(f"{self.own}: "))

    def forbidden(self, path: str) -> None:
        raise PermissionError(path)

    def test_itIsSaidInANoticeAndTheReloadReadsTheSameFile(self) -> None:
        self.both()
        options = self.parse("-d")
        self.assertEqual(
            options.notices, [f"neither TUNNEL nor --config is given: reading {self.own}"]
        )
        self.assertEqual(options["config"], self.own)
        os.remove(self.own)
        self.assertRaises(ConfigError, options.reread)
        self.write(self.own, "later")
        self.assertEqual([tunnel.name for tunnel in options.reread().tunnels], ["later"])
        for words in ("-d", TUNNEL), ("-d", "-c", self.own):
            self.assertEqual(self.parse(*words).notices, [])

    def test_underTwistdItIsSaidToo(self) -> None:
        self.both()
        events = captureLog(self)
        useReactor(self, MemoryReactorClock())
        makeService(self.parse("-d"))
        self.assertEqual(lines(events)[0][-len(self.own) :], self.own)

    def test_hostsSaysItBesideTheLines(self) -> None:
        self.both()
        self.assertEqual(dispatch.main(["hosts", "-p", "p:1"]), 0)
        self.assertEqual(self.err.getvalue().count(self.own), 1)
        self.assertNotIn(self.own, self.out.getvalue())
        self.err.truncate(0)
        self.assertEqual(dispatch.main(["hosts", "-q", "-p", "p:1"]), 0)
        self.assertEqual(self.err.getvalue().strip("\0"), "")

    def test_connectReadsNone(self) -> None:
        self.both()
        end = self.assertRaises(SystemExit, dispatch.main, ["connect", "h:1"])
        self.assertEqual(end.code, 2)
        self.assertTrue(self.err.getvalue().startswith("ptunnel: no proxy: "))


class CheckConfigTests(OptionsCase):
    def check(self, *words: str) -> int:
        useReactor(self, MemoryReactorClock())
        return dispatch.main([*words])

    def config(self, text: str) -> str:
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write(text)
        return path

    def test_aGoodOneIsSaidInALineAndStartsNothing(self) -> None:
        path = self.config("[tunnel a]\nlisten = 1\ntarget = a.example:1\n")
        for words in (["run", "--check-config"], ["-t"]):
            self.out.truncate(0)
            self.out.seek(0)
            self.assertEqual(self.check(*words, "-p", "p:1", "-c", path, TUNNEL), 0)
            self.assertEqual(self.out.getvalue(), f"{path}: no mistake: 2 tunnels, 1 proxy\n")
        self.assertEqual(self.err.getvalue(), "")

    def test_doorsAreCounted(self) -> None:
        for words, counts in (
            (["-D", "1080"], "1 door, 1 proxy"),
            (["-D", "1080", "-D", "1081", TUNNEL], "1 tunnel, 2 doors, 1 proxy"),
        ):
            self.out.truncate(0)
            self.out.seek(0)
            self.assertEqual(self.check("-t", "-p", "p:1", *words), 0)
            self.assertEqual(self.out.getvalue(), f"no mistake: {counts}\n")

    def test_itsWarningsAreSaidToo(self) -> None:
        self.assertEqual(self.check("-t", "-p", "p:1", "-U", "a", "-P", "b", TUNNEL), 0)
        self.assertIn("ptunnel: warning: -P shows the password", self.err.getvalue())

    def test_aMistakeIsExitCode2AndItsLine(self) -> None:
        self.patch(epoll, "applies", lambda reactor: True)
        bad = "[tunnel a]\nlisten = %s\ntarget = a.example:1\nvia = direct\n"
        for text, what in (
            ("nonsense", "[tunnel a] listen"),
            ("tcp:x", "something that must be a number is none"),
            ("unix:/x\n[ptunnel]\nworkers = 2", "no Unix socket"),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            path = self.config(bad.replace("%s", text.partition("\n")[0]) + text.partition("\n")[2])
            end = self.assertRaises(SystemExit, self.check, "-t", "-c", path)
            self.assertEqual(end.code, 2)
            self.assertIn(what, self.err.getvalue())
            self.assertEqual(self.err.getvalue().count("\n"), 1)

    def test_socketsOfSystemdAreNotLookedFor(self) -> None:
        text = "[tunnel a]\nlisten = systemd:domain=INET:index=0\ntarget = a.example:1\n"
        self.assertEqual(self.check("-t", "-d", "-p", "p:1", "-c", self.config(text)), 0)

    def test_nobodyIsAskedForAPassword(self) -> None:
        self.patch(terminal, "askPassword", self.fail)
        self.assertEqual(self.check("-t", "-p", "p:1", "-U", "alice", TUNNEL), 0)

    def test_underTwistdItIsTheSame(self) -> None:
        useReactor(self, MemoryReactorClock())
        options = self.parse("-t", "-p", "p:1", TUNNEL)
        end = self.assertRaises(SystemExit, makeService, options)
        self.assertEqual(end.code, 0)
        self.assertEqual(self.out.getvalue(), "no mistake: 1 tunnel, 1 proxy\n")
