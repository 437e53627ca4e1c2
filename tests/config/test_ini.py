"""`ptunnel.config.ini`: the config file."""

from __future__ import annotations

import os
import tempfile
import threading

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config import EndpointListen, PasswordEnv, TcpListen
from ptunnel.config.ini import ConfigFile, readConfigFile
from ptunnel.errors import ConfigError

CANARY = "c4n4ry"
PROXY = "[proxy corp]\nurl = proxy.example:3128\n"
TUNNEL = "[tunnel imap]\nlisten = 9993\ntarget = imap.gmail.com:993\n"

SAMPLE = """\
; a comment
# another one
[ptunnel]
log-level = info            ; debug info warning error
log-format = text           ; text json
drain-timeout = 10s
idle-timeout = 0            ; for all tunnels

[proxy corp]
url = http://proxy.example.com:8080
username = alice
password-env = CORP_PASSWORD     ; or another
auth = auto                 ; auto basic none
header = X-Team: mail
    X-Site: berlin

[proxy backup]
url = http://bob:pa%3Bss@[2001:db8::1]/

[tunnel imap]
listen = 9993               ; port
target = imap.gmail.com:993
via = corp, backup, direct  ; in order
connect-timeout = 30s
half-close-timeout = 500ms
keepalive = 2m
max-connections = 0
allow = 127.0.0.0/8, ::1

[tunnel two words]
listen = systemd:domain=INET:index=0
target = [::1]:22
"""


class IniTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = self.mktemp()
        os.makedirs(self.folder)
        self.path = os.path.join(self.folder, "tunnels.ini")

    def write(self, name: str, data: bytes, mode: int = 0o600) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        return path

    def read(
        self, text: str, environ: dict[str, str] | None = None, mode: int = 0o600
    ) -> ConfigFile:
        return readConfigFile(self.write("tunnels.ini", text.encode(), mode), environ or {})

    def assertWrong(self, text: str, message: str, environ: dict[str, str] | None = None) -> None:
        """The error is exactly this line, behind the name of the file."""
        error = self.assertRaises(ConfigError, self.read, text, environ)
        self.assertEqual(str(error), f"{self.path}: {message}")
        self.assertNotIn(CANARY, str(error))


class HandOverTests(SynchronousTestCase):
    def load(self, value: str) -> object:
        with open("handover.ini", "w") as file:
            file.write(f"[ptunnel]\nhand-over = {value}\n")
        return readConfigFile("handover.ini", {}).service["handOver"]

    def test_itIsThePathOfAUnixSocketAndNothingElse(self) -> None:
        self.assertEqual(self.load("unix:/run/x"), "/run/x")
        for value in "/run/x", "127.0.0.1:80", "unix:x", "unix:/x:mode=0666", "unix:/a/../b":
            error = self.assertRaises(ConfigError, self.load, value)
            self.assertIn("[ptunnel] hand-over: ", str(error))


class SampleTests(IniTestCase):
    def test_everyKeyHasItsValue(self) -> None:
        file = self.read(SAMPLE, {"CORP_PASSWORD": "x"})
        self.assertEqual(
            file.service,
            {"logLevel": "info", "logFormat": "text", "drainTimeout": 10, "idleTimeout": None},
        )
        corp, backup = file.proxies["corp"], file.proxies["backup"]
        self.assertEqual((corp.name, corp.host, corp.port), ("corp", "proxy.example.com", 8080))
        self.assertEqual((corp.username, corp.password), ("alice", PasswordEnv("CORP_PASSWORD")))
        self.assertEqual((corp.auth, corp.tls, corp.through), ("auto", None, None))
        self.assertEqual(corp.headers, (("X-Team", "mail"), ("X-Site", "berlin")))
        self.assertEqual((backup.name, backup.host, backup.port), ("backup", "2001:db8::1", 1080))
        self.assertEqual((backup.username, backup.password), ("bob", Secret("pa;ss")))
        imap, two = file.ports
        self.assertEqual((imap.name, imap.listen), ("imap", TcpListen("127.0.0.1", 9993)))
        self.assertEqual(imap.target, ("imap.gmail.com", 993))
        self.assertEqual(imap.values["via"], ("corp", "backup", "direct"))
        self.assertEqual(imap.values["connectTimeout"], 30)
        self.assertEqual(imap.values["halfCloseTimeout"], 0.5)
        self.assertEqual(imap.values["keepAlive"], 120.0)
        self.assertIsNone(imap.values["maxConnections"])
        self.assertEqual(list(map(str, imap.values["allow"])), ["127.0.0.0/8", "::1/128"])
        self.assertEqual(two.name, "two words")
        self.assertEqual(two.listen, EndpointListen("systemd:domain=INET:index=0"))
        self.assertEqual(file.warnings, ())

    def test_aByteOrderMarkAndWindowsLinesAreNoMatter(self) -> None:
        data = b"\xef\xbb\xbf" + (PROXY + TUNNEL).replace("\n", "\r\n").encode()
        file = readConfigFile(self.write("tunnels.ini", data), {})
        self.assertEqual(file.ports[0].target, ("imap.gmail.com", 993))

    def test_percentSignsAreNotInterpolated(self) -> None:
        text = PROXY + "username = %(x)s\npassword = %d%%\n"
        corp = self.read(text).proxies["corp"]
        self.assertEqual((corp.username, corp.password), ("%(x)s", Secret("%d%%")))


class AnyFileTests(IniTestCase):
    lines = st.lists(
        st.sampled_from([*SAMPLE.splitlines(), "[DEFAULT]", "[]", "=", "  x", "\ufeff", "[tunnel"])
        | st.text(max_size=20)
    ).map("\n".join)

    @given(lines.map(str.encode) | st.binary())
    def test_anyFileIsReadOrOneLineOfConfigError(self, data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            try:
                readConfigFile(file.name, {})
            except ConfigError as e:
                self.assertTrue(str(e).isprintable(), repr(str(e)))
                self.assertTrue(str(e).startswith(f"{file.name}: "))

    @given(st.lists(st.sampled_from(["", " ", "\n", "=", ":", ";", "[", "]", "x", "\n  ", "\0"])))
    def test_noErrorShowsAPassword(self, noise: list[str]) -> None:
        for before in (
            "password = ",
            "listen = 1\n  password = ",
            "password ",
            "password:",
            "url = http://a:",
        ):
            text = f"[proxy corp]\n{before}{CANARY}{''.join(noise)}"
            text += "@proxy:1" if "url" in before else ""
            with tempfile.NamedTemporaryFile() as file:
                file.write(text.encode())
                file.flush()
                try:
                    repr(readConfigFile(file.name, {}))
                except ConfigError as e:
                    self.assertNotIn(CANARY, str(e))


class FileTests(IniTestCase):
    def assertUnreadable(self, reason: str) -> None:
        error = self.assertRaises(ConfigError, readConfigFile, self.path, {})
        self.assertEqual(str(error), f"{self.path}: {reason}")

    def test_aMissingFile(self) -> None:
        self.assertUnreadable("No such file or directory")

    def test_aDirectory(self) -> None:
        os.mkdir(self.path)
        self.assertUnreadable("Is a directory")

    def test_aFileThatMayNotBeRead(self) -> None:
        self.write("tunnels.ini", b"", 0)
        if os.access(self.path, os.R_OK):
            self.skipTest("root reads everything")
        self.assertUnreadable("Permission denied")

    def test_aBinaryFile(self) -> None:
        self.write("tunnels.ini", b"[ptunnel]\n\0")
        self.assertUnreadable("a binary file; it must be text in UTF-8")

    def test_anotherEncoding(self) -> None:
        self.write("tunnels.ini", b"[tunnel caf\xe9]")
        self.assertUnreadable("not UTF-8")

    def test_whatPowerShellWrites(self) -> None:
        self.write("tunnels.ini", (PROXY + TUNNEL).encode("utf-16"))
        self.assertUnreadable("UTF-16; it must be text in UTF-8")

    def test_aFileWithoutEnd(self) -> None:
        self.write("tunnels.ini", b";" * (1024 * 1024 + 1))
        self.assertUnreadable("larger than 1048576 bytes")

    def test_aPipeThatNobodyWritesTo(self) -> None:
        os.mkfifo(self.path)
        self.assertUnreadable("nothing came through the pipe")

    def test_aPipeIsReadToItsEnd(self) -> None:
        for text in (TUNNEL + PROXY).encode(), 2000 * b"; a comment of a pipe's capacity\n" + b"x":
            reading, writing = os.pipe()
            self.addCleanup(os.close, reading)
            writer = threading.Thread(target=self.fill, args=(writing, text))
            writer.start()
            try:
                file = readConfigFile(f"/dev/fd/{reading}", {})
            except ConfigError as e:
                self.assertIn("line 2001: not in a section", str(e))
            else:
                self.assertEqual((list(file.proxies), file.warnings), (["corp"], ()))
            writer.join()

    def fill(self, writing: int, text: bytes) -> None:
        with open(writing, "wb") as pipe:
            pipe.write(text)

    def test_aDeviceIsNoConfigFileButDevNullIsAnEmptyOne(self) -> None:
        error = self.assertRaises(ConfigError, readConfigFile, "/dev/zero", {})
        self.assertEqual(str(error), "/dev/zero: not a regular file")
        self.assertEqual(readConfigFile("/dev/null", {}).ports, ())

    def test_aNameThatNoFileCanHave(self) -> None:
        error = self.assertRaises(ConfigError, readConfigFile, "a\0b", {})
        self.assertEqual(str(error), "a\\x00b: not a file name")


class SyntaxTests(IniTestCase):
    def test_aLineBeforeAnySection(self) -> None:
        self.assertWrong(
            f"\npassword = {CANARY}",
            "line 2: not in a section; "
            "begin with [ptunnel], [proxy NAME], [tunnel NAME] or [door NAME]",
        )

    def test_aLineThatIsNeitherASectionNorAKey(self) -> None:
        self.assertWrong(
            f"[proxy corp]\npassword {CANARY}\n", "line 2: neither [section] nor key = value"
        )
        self.assertWrong("[ptunnel]\n[proxy corp] x\n", "line 2: neither [section] nor key = value")

    def test_aSectionTwice(self) -> None:
        self.assertWrong(TUNNEL + TUNNEL, "[tunnel imap]: given twice, again in line 4")
        self.assertWrong(PROXY + "[proxy  corp]\n", "[proxy corp]: given twice")

    def test_aKeyTwice(self) -> None:
        self.assertWrong(
            TUNNEL + "Target = x:1\n", "[tunnel imap] target: given twice, again in line 4"
        )

    def test_anIndentedLineBehindAValue(self) -> None:
        self.assertWrong(
            f"[proxy corp]\nurl = p:1\n  password = {CANARY}\n",
            "[proxy corp] url: an indented line behind it is read as part of its value",
        )

    def test_aKeyWithoutAValue(self) -> None:
        self.assertWrong(
            "[tunnel imap]\nlisten = ; 9993\n",
            "[tunnel imap] listen: the value is missing; write one, or leave the key out",
        )


class NameTests(IniTestCase):
    def test_anUnknownSection(self) -> None:
        self.assertWrong("[tunel imap]\n", "[tunel imap]: unknown section; did you mean tunnel?")
        self.assertWrong(
            "[DEFAULT]\n", "[DEFAULT]: unknown section; known are ptunnel, proxy, tunnel, door, pac"
        )
        self.assertWrong("[ptunnel x]\n", "[ptunnel x]: unknown section; did you mean ptunnel?")

    def test_anUnknownKey(self) -> None:
        self.assertWrong(
            "[tunnel imap]\nlisen = 9993\n",
            "[tunnel imap] lisen: unknown key; did you mean listen?",
        )
        self.assertWrong(
            f"[proxy corp]\nxyz = {CANARY}\n",
            "[proxy corp] xyz: unknown key; known are "
            "url, username, password, password-file, password-env, password-command, "
            "password-keyring, auth, through, ca-file, client-cert, client-key, server-name, "
            "verify, header",
        )

    def test_aTunnelsOwnKeysAreNoDefaults(self) -> None:
        error = self.assertRaises(ConfigError, self.read, "[ptunnel]\ntarget = x:1\n")
        self.assertIn("[ptunnel] target: unknown key", str(error))

    def test_aSectionWithoutAName(self) -> None:
        self.assertWrong("[tunnel]\n", "[tunnel]: a name is missing; write [tunnel NAME]")
        self.assertWrong("[ proxy ]\n", "[proxy]: a name is missing; write [proxy NAME]")

    def test_aProxyThatViaCouldNotName(self) -> None:
        self.assertWrong(
            "[proxy direct]\n",
            "[proxy direct]: direct means a connection without a proxy; take another name",
        )
        self.assertWrong(
            "[proxy a,b]\n",
            "[proxy a,b]: a comma separates names in via; take a name without one",
        )

    def test_aViaThatNamesNoProxy(self) -> None:
        self.assertWrong(
            PROXY + TUNNEL + "via = crop\n",
            '[tunnel imap] via: "crop": there is no [proxy] of that name; did you mean corp?',
        )
        self.assertWrong(
            "[ptunnel]\nvia = x\n" + PROXY,
            '[ptunnel] via: "x": there is no [proxy] of that name; known are corp, direct',
        )

    def test_aViaMayNameAProxyThatComesLater(self) -> None:
        file = self.read(TUNNEL + "via = corp, direct\n" + PROXY)
        self.assertEqual(file.ports[0].values["via"], ("corp", "direct"))

    def test_aMissingKey(self) -> None:
        self.assertWrong("[tunnel a]\ntarget = x:1\n", "[tunnel a]: the key listen is missing")
        self.assertWrong("[tunnel a]\nlisten = 1\n", "[tunnel a]: the key target is missing")
        self.assertWrong("[proxy a]\n", "[proxy a]: the key url is missing")


class ValueTests(IniTestCase):
    def test_aMistakeInAValueNamesFileSectionKeyAndText(self) -> None:
        self.assertWrong(
            "[tunnel imap]\ntarget = imap.gmail.com\n",
            '[tunnel imap] target: "imap.gmail.com": a port is missing; '
            "write host:port, for example imap.gmail.com:993",
        )
        self.assertWrong(
            "[ptunnel]\nlog-level = loud\n",
            '[ptunnel] log-level: "loud": must be one of debug, info, notice, warning, error',
        )
        self.assertWrong(
            "[ptunnel]\nidle-timeout = 1d\n",
            '[ptunnel] idle-timeout: "1d": not a duration; '
            "write 30, 30s, 5m, 1h, 500ms, or 0 for none",
        )

    def test_aMistakeInAProxysURLHidesItsPassword(self) -> None:
        self.assertWrong(
            f"[proxy corp]\nurl = socks4://alice:{CANARY}@proxy:443\n",
            '[proxy corp] url: "socks4://alice:***@proxy:443": SOCKS4 is not spoken with proxies; '
            "write socks5h://host:port if it speaks SOCKS5",
        )

    def test_aMistakeInAHeaderHidesItsValue(self) -> None:
        self.assertWrong(
            PROXY + f"header = Proxy-Authorization: Basic {CANARY}\n",
            '[proxy corp] header: "Proxy-Authorization": not allowed: '
            "give username and password-file instead",
        )

    def test_otherAuthIsUnknown(self) -> None:
        self.assertWrong(
            PROXY + "auth = kerberos\n",
            '[proxy corp] auth: "kerberos": must be one of '
            "auto, basic, digest, ntlm, negotiate, none",
        )
