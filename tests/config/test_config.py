"""`ptunnel.config`: file, command line and environment together."""

from __future__ import annotations

import os
import pickle
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config import (
    CommandLine,
    EndpointListen,
    PasswordFile,
    PasswordSource,
    Proxy,
    Settings,
    TcpListen,
    Tunnel,
    loadConnect,
    loadSettings,
)
from ptunnel.errors import ConfigError

CANARY = "c4n4ry"
WORD = "9993:imap.gmail.com:993"
PROXIES = "[proxy one]\nurl = one:1\n[proxy two]\nurl = two:2\n"
TUNNEL = "[tunnel imap]\nlisten = 9993\ntarget = imap.gmail.com:993\n"


def whose(proxy: Proxy) -> tuple[str | None, PasswordSource | None]:
    return proxy.username, proxy.password


class SettingsTestCase(SynchronousTestCase):
    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        path = os.path.join(self.mktemp(), name)
        os.makedirs(os.path.dirname(path))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def load(
        self,
        *words: str,
        file: str | None = None,
        environ: dict[str, str] | None = None,
        **options: Any,
    ) -> Settings:
        if file is not None:
            options["configFile"] = self.write("tunnels.ini", file)
        return loadSettings(CommandLine(tunnels=words, **options), environ or {})

    def assertWrong(self, message: str, *words: str, **options: Any) -> None:
        """Loading fails with exactly this line, in which FILE stands for the config file."""
        if "file" in options:
            options["configFile"] = self.write("tunnels.ini", options.pop("file"))
            message = message.replace("FILE", options["configFile"])
        error = self.assertRaises(ConfigError, self.load, *words, **options)
        self.assertEqual(str(error), message)
        self.assertNotIn(CANARY, str(error))


class TunnelTests(SettingsTestCase):
    def test_aWordBecomesATunnelWithTheDefaults(self) -> None:
        settings = self.load(WORD, proxies=("proxy:3128",))
        self.assertEqual(
            settings,
            Settings(
                tunnels=(
                    Tunnel(
                        "imap.gmail.com:993",
                        TcpListen("127.0.0.1", 9993),
                        "imap.gmail.com",
                        993,
                        via=("proxy:3128",),
                    ),
                ),
                proxies={"proxy:3128": Proxy("proxy:3128", "proxy", 3128)},
            ),
        )

    def test_wordsListenWhereTheOptionSaysOrTheySay(self) -> None:
        settings = self.load("1:h:1", "[::1]:1:h:2", listen="::", direct=True)
        self.assertEqual([str(tunnel.listen) for tunnel in settings.tunnels], ["[::]:1", "[::1]:1"])

    def test_theListenOptionIsNotForTheFile(self) -> None:
        settings = self.load(file=TUNNEL, listen="::", direct=True)
        self.assertEqual(settings.tunnels[0].listen, TcpListen("127.0.0.1", 9993))

    def test_sameTargetsGetNamesOfTheirOwn(self) -> None:
        settings = self.load("0:h:1", "7:h:1", "0:h:1", "0:h:1", direct=True)
        self.assertEqual(
            [tunnel.name for tunnel in settings.tunnels],
            ["h:1", "h:1 on 127.0.0.1:7", "h:1 on 127.0.0.1:0", "h:1 on 127.0.0.1:0 (2)"],
        )

    def test_aWordsNameIsNotThatOfATunnelInTheFile(self) -> None:
        file = TUNNEL.replace("[tunnel imap]", "[tunnel h:1]")
        settings = self.load("7:h:1", file=file, direct=True)
        self.assertEqual(
            [tunnel.name for tunnel in settings.tunnels], ["h:1", "h:1 on 127.0.0.1:7"]
        )

    def test_theFilesDefaultsAreForAllTunnels(self) -> None:
        file = f"[ptunnel]\nidle-timeout = 5m\nrate-limit = 7\n{TUNNEL}idle-timeout = 1m\n"
        own, word = self.load("7:h:1", file=file, direct=True).tunnels
        self.assertEqual((own.idleTimeout, own.rateLimit), (60, 7))
        self.assertEqual((word.idleTimeout, word.rateLimit), (300, 7))
        self.assertEqual(word.connectTimeout, 30)

    def test_maxConnectionsOfTheServiceIsForAllTunnelsTogether(self) -> None:
        file = f"[ptunnel]\nmax-connections = 7\n{TUNNEL}max-connections = 5\n"
        settings = self.load("7:h:1", file=file, direct=True)
        self.assertEqual(settings.maxConnections, 7)
        self.assertEqual([tunnel.maxConnections for tunnel in settings.tunnels], [5, None])

    def test_connectSendsNoProxyHeader(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("[ptunnel]\nsend-proxy = v1\nvia = direct\n")
        settings = loadConnect(CommandLine(configFile=path), {}, "h:1")
        self.assertIsNone(settings.tunnels[0].sendProxy)

    def test_theServicesOwnKeys(self) -> None:
        file = "[ptunnel]\ndrain-timeout = 0\nlog-format = json\n" + TUNNEL
        settings = self.load(file=file, direct=True)
        self.assertIsNone(settings.drainTimeout)
        self.assertEqual(settings.logFormat, "json")

    def test_noTunnelIsNothingToDo(self) -> None:
        message = (
            "nothing to do: give a TUNNEL, such as 9993:imap.gmail.com:993 (see ptunnel --help), "
            "or a config file that has a [tunnel NAME] or [door NAME]"
        )
        self.assertWrong(message, direct=True)
        self.assertWrong(f"FILE: {message}", file=PROXIES)

    def test_mistakesInWordsNameTheOption(self) -> None:
        self.assertWrong(
            'TUNNEL: "x:h:1": LOCAL_PORT must be a number from 0 to 65535', "x:h:1", direct=True
        )
        self.assertWrong(
            '-l: "h:1": not a host name or address; write an address, for example 127.0.0.1 or ::1',
            WORD,
            listen="h:1",
            direct=True,
        )

    def test_aListenAddressTwiceInTheFile(self) -> None:
        self.assertWrong(
            'FILE: [tunnel b]: "127.0.0.1:9993" is taken by FILE: [tunnel imap]; '
            "give each tunnel an address of its own",
            file=TUNNEL + "[tunnel b]\nlisten = 127.0.0.1:9993\ntarget = x:1\n",
            direct=True,
        )

    def test_aListenAddressTwiceOverFileAndCommandLine(self) -> None:
        self.assertWrong(
            'TUNNEL: "9993:h:1": "127.0.0.1:9993" is taken by FILE: [tunnel imap]; '
            "give each tunnel an address of its own",
            "9993:h:1",
            file=TUNNEL,
            direct=True,
        )

    def test_portZeroMayStandTwice(self) -> None:
        self.assertEqual(len(self.load("0:h:1", "0:h:2", direct=True).tunnels), 2)


class ViaTests(SettingsTestCase):
    def vias(self, *words: str, **options: Any) -> list[tuple[str, ...]]:
        settings = self.load(*words, **options)
        used = {name for tunnel in settings.tunnels for name in tunnel.via} - {"direct"}
        self.assertEqual(set(settings.proxies), used)
        return [tunnel.via for tunnel in settings.tunnels]

    environ = {"https_proxy": "http://env:9", "no_proxy": "local.example 10.0.0.0/8"}

    def test_aTunnelsOwnViaComesFirst(self) -> None:
        file = "[ptunnel]\nvia = one\n" + PROXIES + TUNNEL + "via = two, direct\n"
        settings = {"file": file, "proxies": ("p:3",), "environ": self.environ}
        self.assertEqual(self.vias("1:h:1", **settings), [("two", "direct"), ("p:3",)])

    def test_thenTheProxiesOfTheCommandLineInOrder(self) -> None:
        file = "[ptunnel]\nvia = one\n" + PROXIES + TUNNEL
        settings = {"file": file, "proxies": ("q:3", "p:3"), "environ": self.environ}
        self.assertEqual(self.vias(**settings), [("q:3", "p:3")])

    def test_thenTheFilesDefault(self) -> None:
        file = "[ptunnel]\nvia = two\n" + PROXIES + TUNNEL
        self.assertEqual(self.vias("1:h:1", file=file, environ=self.environ), [("two",)] * 2)

    def test_thenAllOfTheFileInOrder(self) -> None:
        self.assertEqual(self.vias(file=TUNNEL + PROXIES, environ=self.environ), [("one", "two")])

    def test_thenTheEnvironmentWithItsExceptions(self) -> None:
        self.assertEqual(
            self.vias("1:h:1", "2:a.local.example:1", "3:10.1.1.1:1", environ=self.environ),
            [("env:9",), ("direct",), ("direct",)],
        )

    def test_exceptionsAreForTheEnvironmentsProxyOnly(self) -> None:
        self.assertEqual(
            self.vias("1:10.1.1.1:1", proxies=("p:3",), environ=self.environ), [("p:3",)]
        )

    def test_theEnvironmentIsNotReadWhereItIsNotUsed(self) -> None:
        environ = {"https_proxy": "nonsense://"}
        self.assertEqual(self.vias(WORD, proxies=("p:3",), environ=environ), [("p:3",)])
        self.assertEqual(self.vias(file=TUNNEL + "via = direct\n", environ=environ), [("direct",)])

    def test_directIsAppendedToWhatLacksIt(self) -> None:
        file = PROXIES + TUNNEL + "via = two, direct\n"
        self.assertEqual(
            self.vias("1:h:1", file=file, direct=True),
            [("two", "direct"), ("one", "two", "direct")],
        )
        self.assertEqual(
            self.vias("1:h:1", "2:10.1.1.1:1", direct=True, environ=self.environ),
            [("env:9", "direct"), ("direct",)],
        )

    def test_directAloneIsEnough(self) -> None:
        self.assertEqual(self.vias(WORD, direct=True), [("direct",)])

    def test_noProxyAndNoDirectIsAnError(self) -> None:
        message = (
            "no proxy: give one with -p, in a [proxy] section or in https_proxy, "
            "or allow a direct connection with --direct"
        )
        self.assertWrong(message, WORD, environ={"https_proxy": "", "no_proxy": "*"})
        self.assertWrong(message, file=TUNNEL)

    def test_mistakesInProxiesNameTheOptionAndHideThePassword(self) -> None:
        self.assertWrong(
            '-p: "alice:***@proxy": a port is missing; '
            "write host:port, http://host:port or https://host:port, "
            "for example proxy.example.com:3128",
            WORD,
            proxies=(f"alice:{CANARY}@proxy",),
        )
        self.assertWrong(
            'https_proxy: "ftp://alice:***@proxy": not a proxy\'s scheme; '
            "write host:port, http://host:port or https://host:port, "
            "for example proxy.example.com:3128",
            WORD,
            environ={"https_proxy": f"ftp://alice:{CANARY}@proxy"},
        )

    def test_aProxyTwiceIsAnError(self) -> None:
        self.assertWrong('-p: "http://p:1": given twice', WORD, proxies=("p:1", "http://p:1"))
        self.assertWrong(
            '-p: "p:1": a [proxy] of the config file has that name',
            WORD,
            proxies=("p:1",),
            file="[proxy p:1]\nurl = x:1\n",
        )

    def test_proxiesThatNoTunnelUsesAreWarnedOf(self) -> None:
        settings = self.load(file=TUNNEL + "via = direct\n", proxies=("p:1",))
        self.assertEqual(settings.warnings, ("-p is not used: every tunnel has a via of its own",))

    def test_aBalanceWithoutAChoiceIsWarnedOf(self) -> None:
        for via in ("one", "direct", "one, direct"):
            tunnel = f"{TUNNEL}via = {via}\n"
            settings = self.load(file=f"{PROXIES}{tunnel}balance = least\n")
            where = settings.tunnels[0].where
            what = f"nothing to choose from: the tunnel goes via {via}"
            self.assertEqual(settings.warnings, (f"{where} balance: {what}",))
            settings = self.load(file=f"[ptunnel]\nbalance = hash\n{PROXIES}{tunnel}")
            what = "nothing to choose from: no tunnel goes via more than one proxy"
            [warning] = settings.warnings
            self.assertTrue(warning.endswith(f": [ptunnel] balance: {what}"), warning)
            self.assertEqual(self.load(file=f"{PROXIES}{tunnel}balance = first\n").warnings, ())

    def test_aBalanceWithAChoiceIsNot(self) -> None:
        both = f"{TUNNEL}via = one, two\n"
        for text in (
            f"{PROXIES}{both}balance = least\n",
            f"[ptunnel]\nbalance = least\n{PROXIES}{both}",
        ):
            settings = self.load(file=text)
            self.assertEqual((settings.tunnels[0].balance, settings.warnings), ("least", ()))
        own = self.load(file=f"[ptunnel]\nbalance = least\n{PROXIES}{both}balance = first\n")
        self.assertEqual(own.tunnels[0].balance, "first")


class CredentialsTests(SettingsTestCase):
    def test_theyAreForTheProxiesWithoutAUserOfTheirOwn(self) -> None:
        path = self.write("pw", "y\n")
        proxies = self.load(
            WORD,
            proxies=("http://bob:x@p:1", "https://q:1"),
            username="alice",
            passwordFile=path,
        ).proxies
        self.assertEqual(whose(proxies["p:1"]), ("bob", Secret("x")))
        self.assertEqual(whose(proxies["q:1"]), ("alice", PasswordFile(os.path.abspath(path))))

    def test_theyAreForTheEnvironmentsProxy(self) -> None:
        proxies = self.load(
            WORD, environ={"ALL_PROXY": "p"}, username="alice", password=Secret("y")
        ).proxies
        self.assertEqual(whose(proxies["p:1080"]), ("alice", Secret("y")))

    def test_theyAreNotForTheFilesProxies(self) -> None:
        settings = self.load(
            WORD,
            file=PROXIES + TUNNEL.replace("9993", "1") + "via = one\n",
            proxies=("p:1",),
            username="alice",
            password=Secret("y"),
        )
        self.assertEqual(whose(settings.proxies["one"]), (None, None))
        self.assertEqual(whose(settings.proxies["p:1"]), ("alice", Secret("y")))

    def test_withoutAProxyToUseThemForTheyAreAnError(self) -> None:
        for options in (
            {"direct": True},
            {"proxies": ("http://bob:x@p:1",)},
            {"environ": {"https_proxy": "http://bob:x@p:1"}},
            {"file": PROXIES},
        ):
            self.assertWrong(
                "-U: there is no proxy to use it for; "
                "it is for those of -p, or else the environment's, that have no user of their own",
                WORD,
                username="alice",
                password=Secret(CANARY),
                **options,
            )

    def test_oneOfUserAndPasswordIsNotEnough(self) -> None:
        for password in None, Secret(""):
            self.assertWrong(
                '-U: "alice": a password is missing; use --password-file',
                WORD,
                proxies=("p:1",),
                username="alice",
                password=password,
            )
        self.assertWrong(
            "-P: a user name is missing; give it with -U",
            WORD,
            proxies=("p:1",),
            password=Secret(CANARY),
        )
        self.assertWrong(
            "--password-file: a user name is missing; give it with -U",
            WORD,
            proxies=("p:1",),
            passwordFile=self.write("pw", CANARY),
        )

    def test_aUserWithoutAPasswordIsAskedForIt(self) -> None:
        asked: list[str] = []

        def ask(username: str) -> str:
            asked.append(username)
            return CANARY

        commandLine = CommandLine(tunnels=(WORD,), proxies=("p:1",), username="alice")
        settings = loadSettings(commandLine, {}, ask)
        self.assertEqual(whose(settings.proxies["p:1"]), ("alice", Secret(CANARY)))
        settings = loadConnect(commandLine, {}, "a.example", "1", ask=ask)
        self.assertEqual(whose(settings.proxies["p:1"]), ("alice", Secret(CANARY)))
        self.assertEqual(asked, ["alice", "alice"])

    def test_nobodyIsAskedWhereThereIsAPasswordOrAMistake(self) -> None:
        def ask(username: str) -> str:
            raise AssertionError("asked")

        known = CommandLine(
            tunnels=(WORD,), proxies=("p:1",), username="alice", password=Secret("x")
        )
        loadSettings(known, {}, ask)
        for commandLine in (
            CommandLine(tunnels=("nonsense",), proxies=("p:1",), username="alice"),
            CommandLine(tunnels=(WORD,), proxies=("p",), username="alice"),
            CommandLine(tunnels=(WORD,), proxies=("bob:x@p:1",), username="alice"),
            CommandLine(tunnels=(WORD,), proxies=("p:1",), username="alice:x"),
            CommandLine(tunnels=(WORD,), username="alice"),
        ):
            self.assertRaises(ConfigError, loadSettings, commandLine, {}, ask)

    def test_anAnswerThatNoProxyCouldBeSentIsAMistakeThatDoesNotShowIt(self) -> None:
        commandLine = CommandLine(tunnels=(WORD,), proxies=("p:1",), username="alice")
        for answer, what in ("", "a password is missing"), (f"{CANARY}\0", "control characters"):
            error = self.assertRaises(
                ConfigError, loadSettings, commandLine, {}, lambda _, answer=answer: answer
            )
            self.assertIn(what, str(error))
            self.assertNotIn(CANARY, str(error))

    def test_twoPasswordsAreTooMany(self) -> None:
        self.assertWrong(
            "-P and --password-file: only one of them can be used",
            WORD,
            username="alice",
            password=Secret(CANARY),
            passwordFile="x",
        )

    def test_aPasswordFileThatCannotBeUsed(self) -> None:
        self.assertWrong(
            '--password-file: "/nowhere/pw": No such file or directory',
            WORD,
            username="alice",
            passwordFile="/nowhere/pw",
        )
        empty = self.write("pw", "\n")
        self.assertWrong(f'--password-file: "{empty}": the file is empty', WORD, passwordFile=empty)
        self.assertWrong('--password-file: "": not a file name', WORD, passwordFile="")

    def test_aPasswordThatComesThroughAPipeIsReadOnce(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"y\n")
        os.close(writing)
        path = f"/dev/fd/{reading}"
        settings = self.load(WORD, proxies=("p:1",), username="alice", passwordFile=path)
        self.assertEqual(settings.proxies["p:1"].password, Secret("y"))
        self.assertEqual(settings.warnings, ())

    def test_aPasswordThatSystemdHandsOver(self) -> None:
        path = os.path.abspath(self.write("corp", "y", 0o644))
        settings = self.load(
            WORD,
            proxies=("p:1",),
            username="alice",
            passwordFile="credential:corp",
            environ={"CREDENTIALS_DIRECTORY": os.path.dirname(path)},
        )
        self.assertEqual(settings.proxies["p:1"].password, PasswordFile(path))
        self.assertEqual(settings.warnings, ())

    def test_whatBasicCannotCarryIsRefused(self) -> None:
        self.assertWrong(
            "-U and -P: a user name must not hold a colon (RFC 7617)",
            WORD,
            proxies=("p:1",),
            username=f"alice:{CANARY}",
            password=Secret("x"),
        )
        self.assertWrong(
            "-U and -P: a password must be text that UTF-8 can carry",
            WORD,
            proxies=("p:1",),
            username="alice",
            password=Secret(f"{CANARY}\udc80"),
        )

    def test_aPasswordOnTheCommandLineIsWarnedOf(self) -> None:
        settings = self.load(WORD, proxies=("p:1",), username="alice", password=Secret("x"))
        self.assertEqual(
            settings.warnings,
            (
                "-P shows the password to every user of this machine, in the process list; "
                "use --password-file",
            ),
        )

    def test_aPasswordFileThatOthersCanReadIsWarnedOf(self) -> None:
        path = self.write("pw", "x", 0o644)
        settings = self.load(WORD, proxies=("p:1",), username="alice", passwordFile=path)
        self.assertEqual(
            settings.warnings,
            (f'--password-file: "{path}" can be read by others than its owner; chmod 600 helps',),
        )

    def test_allSourcesReachAWorker(self) -> None:
        file = "".join(
            f"[proxy {n}]\nurl = https://p:{n + 1}\nusername = alice\n{line}\n"
            for n, line in enumerate(
                (
                    "password = x",
                    f"password-file = {os.path.abspath(self.write('pw', 'x'))}",
                    "password-env = PW",
                    "password-command = x",
                    "password-keyring = x",
                )
            )
        )
        settings = self.load(file=file + TUNNEL, environ={"PW": "x"})
        self.assertEqual(len(settings.proxies), 5)
        self.assertEqual(pickle.loads(pickle.dumps(settings)), settings)

    def test_noReprShowsAPassword(self) -> None:
        commandLine = CommandLine(
            proxies=(f"http://bob:{CANARY}@p:1", "q:1"),
            username="alice",
            password=Secret(CANARY),
            tunnels=(WORD,),
        )
        self.assertNotIn(CANARY, repr(commandLine))
        self.assertNotIn(CANARY, repr(loadSettings(commandLine, {})))


class ThroughTests(SettingsTestCase):
    file = """\
[proxy far]
url = far:1
through = middle
[proxy middle]
url = middle:1
through = near
[proxy near]
url = https://near:1
[proxy other]
url = other:1
"""

    def test_thoseThatAProxyGoesThroughAreThereToo(self) -> None:
        settings = self.load(file=self.file + TUNNEL + "via = far\n")
        self.assertEqual(list(settings.proxies), ["far", "middle", "near"])
        self.assertEqual(settings.tunnels[0].via, ("far",))
        settings = self.load(file=self.file + TUNNEL + "via = middle, direct\n")
        self.assertEqual(list(settings.proxies), ["middle", "near"])

    def test_allOfThemAreWaysOfTheirOwnUnlessViaSaysOtherwise(self) -> None:
        settings = self.load(file=self.file + TUNNEL)
        self.assertEqual(settings.tunnels[0].via, ("far", "middle", "near", "other"))


class HeaderTests(SettingsTestCase):
    """-H."""

    def test_aSocksProxyHasNoUseForThem(self) -> None:
        line = "X-Team: mail"
        message = "-H: a SOCKS proxy has no use for it; leave it out"
        self.assertWrong(message, WORD, proxies=("socks5h://s",), headers=(line,))
        settings = self.load(WORD, proxies=("socks5h://s", "p:1"), headers=(line,))
        self.assertEqual(settings.proxies["s:1080"].headers, ())
        self.assertEqual(settings.proxies["p:1"].headers, (("X-Team", "mail"),))

    def test_aUserForASocksProxyMustFit(self) -> None:
        for name, word, what in ("x" * 256, "w", "user name"), ("alice", "x" * 256, "password"):
            options: dict[str, Any] = {"username": name, "password": Secret(word)}
            message = f"-U: the {what} is longer than the 255 bytes of SOCKS"
            self.assertWrong(message, WORD, proxies=("socks5h://s",), **options)

    def test_theFieldsAreForTheProxiesOfTheCommandLineInOrder(self) -> None:
        lines = "X-Team: mail", "X-Site:north", "X-Team: all"
        fields = ("X-Team", "mail"), ("X-Site", "north"), ("X-Team", "all")
        settings = self.load(WORD, file=PROXIES, proxies=("p:1", "q:1"), headers=lines)
        for name in "p:1", "q:1":
            self.assertEqual(settings.proxies[name].headers, fields)

    def test_orForTheEnvironments(self) -> None:
        settings = self.load(WORD, environ={"https_proxy": "p:1"}, headers=("A: b",))
        self.assertEqual(settings.proxies["p:1"].headers, (("A", "b"),))

    def test_butNotForThoseOfTheFile(self) -> None:
        message = (
            "-H: there is no proxy to use it for; it is for those of -p, or else the "
            "environment's; a [proxy] of a config file has the key header"
        )
        self.assertWrong(message, WORD, file=PROXIES, headers=("A: b",))
        self.assertWrong(message, WORD, direct=True, headers=("A: b",))

    def test_aMistakeShowsNoValue(self) -> None:
        for line, reason in (
            (CANARY, "not a header; write Name: value"),
            (f" X: {CANARY}", "not a header; write Name: value"),
            (f"X: {CANARY}\nY: z", '"X": the value must be ASCII without control characters'),
            (
                f"Proxy-Authorization: {CANARY}",
                '"Proxy-Authorization": not allowed: give username and password-file instead',
            ),
        ):
            self.assertWrong(f"-H: {reason}", WORD, proxies=("p:1",), headers=(line,))

    def test_noReprShowsOne(self) -> None:
        commandLine = CommandLine(tunnels=(WORD,), proxies=("p:1",), headers=(f"X: {CANARY}",))
        self.assertNotIn(CANARY, repr(commandLine) + repr(loadSettings(commandLine, {})))


class LogLevelTests(SettingsTestCase):
    def test_theOptionsComeBeforeTheFile(self) -> None:
        file = "[ptunnel]\nlog-level = warning\n" + TUNNEL
        for verbosity, level in (
            (-1, "none"),
            (0, "warning"),
            (1, "info"),
            (2, "debug"),
            (3, "debug"),
        ):
            settings = self.load(file=file, verbosity=verbosity, direct=True)
            self.assertEqual(settings.logLevel, level)

    def test_everyLevelButNoneCanBeWritten(self) -> None:
        for level in "debug", "info", "notice", "warning", "error":
            file = f"[ptunnel]\nlog-level = {level}\n" + TUNNEL
            self.assertEqual(self.load(file=file, direct=True).logLevel, level)

    def test_withoutEitherItIsNotice(self) -> None:
        self.assertEqual(self.load(WORD, direct=True).logLevel, "notice")


class ConnectTests(SettingsTestCase):
    def test_itIsATunnelOfStandardInputAndOutput(self) -> None:
        settings = loadConnect(CommandLine(proxies=("p:1",)), {}, "[::1]:22")
        self.assertEqual(
            settings.tunnels,
            (Tunnel("[::1]:22", EndpointListen("stdio:"), "::1", 22, via=("p:1",)),),
        )
        self.assertEqual(settings.proxies, {"p:1": Proxy("p:1", "p", 1)})

    def test_itUsesTheFilesProxiesAndDefaultsButNotItsTunnels(self) -> None:
        file = "[ptunnel]\nconnect-timeout = 5s\n" + PROXIES + TUNNEL
        commandLine = CommandLine(configFile=self.write("tunnels.ini", file))
        (tunnel,) = loadConnect(commandLine, {}, "host:22").tunnels
        self.assertEqual((tunnel.via, tunnel.connectTimeout), (("one", "two"), 5))

    def test_itMindsTheEnvironmentsExceptions(self) -> None:
        environ = {"https_proxy": "p:1", "no_proxy": "host"}
        self.assertEqual(loadConnect(CommandLine(), environ, "host:22").tunnels[0].via, ("direct",))
        self.assertEqual(loadConnect(CommandLine(), environ, "h:22").tunnels[0].via, ("p:1",))

    def test_theTargetMayBeTwoWords(self) -> None:
        for host, port, name in (
            ("host", "22", "host:22"),
            ("2001:db8::5", "22", "[2001:db8::5]:22"),
            ("::1", "22", "[::1]:22"),
        ):
            (tunnel,) = loadConnect(CommandLine(direct=True), {}, host, port).tunnels
            self.assertEqual((tunnel.name, tunnel.targetPort), (name, 22))
        error = self.assertRaises(ConfigError, loadConnect, CommandLine(), {}, "host", "ssh")
        self.assertTrue(str(error).startswith('HOST PORT: "host:ssh": the port must be a'))

    def test_aMistakeInTheTargetIsNamed(self) -> None:
        error = self.assertRaises(ConfigError, loadConnect, CommandLine(), {}, "host")
        self.assertEqual(
            str(error),
            'HOST:PORT: "host": a port is missing; write host:port, for example imap.gmail.com:993',
        )
