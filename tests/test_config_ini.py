"""`ptunnel.config.ini`: the config file."""

from __future__ import annotations

import os
import tempfile

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.config import EndpointListen, TcpListen
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


class SampleTests(IniTestCase):
    def test_everyKeyHasItsValue(self) -> None:
        file = self.read(SAMPLE, {"CORP_PASSWORD": "x"})
        self.assertEqual(
            file.service,
            {"logLevel": "info", "logFormat": "text", "drainTimeout": 10, "idleTimeout": None},
        )
        corp, backup = file.proxies["corp"], file.proxies["backup"]
        self.assertEqual((corp.name, corp.host, corp.port), ("corp", "proxy.example.com", 8080))
        self.assertEqual(corp.credentials, Credentials("alice", "x"))
        self.assertEqual(corp.headers, (("X-Team", "mail"), ("X-Site", "berlin")))
        self.assertEqual((backup.name, backup.host, backup.port), ("backup", "2001:db8::1", 1080))
        self.assertEqual(backup.credentials, Credentials("bob", "pa;ss"))
        imap, two = file.tunnels
        self.assertEqual((imap.name, imap.listen), ("imap", TcpListen("127.0.0.1", 9993)))
        self.assertEqual(imap.target, ("imap.gmail.com", 993))
        self.assertEqual(imap.values["via"], ("corp", "backup", "direct"))
        self.assertEqual(imap.values["connectTimeout"], 30)
        self.assertEqual(imap.values["halfCloseTimeout"], 0.5)
        self.assertIsNone(imap.values["maxConnections"])
        self.assertEqual(list(map(str, imap.values["allow"])), ["127.0.0.0/8", "::1/128"])
        self.assertEqual(two.name, "two words")
        self.assertEqual(two.listen, EndpointListen("systemd:domain=INET:index=0"))
        self.assertEqual(file.warnings, ())

    def test_aByteOrderMarkAndWindowsLinesAreNoMatter(self) -> None:
        data = b"\xef\xbb\xbf" + (PROXY + TUNNEL).replace("\n", "\r\n").encode()
        file = readConfigFile(self.write("tunnels.ini", data), {})
        self.assertEqual(file.tunnels[0].target, ("imap.gmail.com", 993))

    def test_percentSignsAreNotInterpolated(self) -> None:
        text = PROXY + "username = %(x)s\npassword = %d%%\n"
        self.assertEqual(self.read(text).proxies["corp"].credentials, Credentials("%(x)s", "%d%%"))


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

    def test_aFileWithoutEnd(self) -> None:
        self.write("tunnels.ini", b";" * (1024 * 1024 + 1))
        self.assertUnreadable("larger than 1048576 bytes")

    def test_aNameThatNoFileCanHave(self) -> None:
        error = self.assertRaises(ConfigError, readConfigFile, "a\0b", {})
        self.assertEqual(str(error), "a\\x00b: not a file name")


class SyntaxTests(IniTestCase):
    def test_aLineBeforeAnySection(self) -> None:
        self.assertWrong(
            f"\npassword = {CANARY}",
            "line 2: not in a section; begin with [ptunnel], [proxy NAME] or [tunnel NAME]",
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
            "[DEFAULT]\n", "[DEFAULT]: unknown section; known are ptunnel, proxy, tunnel"
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
            "url, username, password, password-file, password-env, header, auth",
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
        self.assertEqual(file.tunnels[0].values["via"], ("corp", "direct"))

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
            '[ptunnel] log-level: "loud": must be one of debug, info, warning, error',
        )
        self.assertWrong(
            "[ptunnel]\nidle-timeout = 1d\n",
            '[ptunnel] idle-timeout: "1d": not a duration; '
            "write 30, 30s, 5m, 1h, 500ms, or 0 for none",
        )

    def test_aMistakeInAProxysURLHidesItsPassword(self) -> None:
        self.assertWrong(
            f"[proxy corp]\nurl = https://alice:{CANARY}@proxy:443\n",
            '[proxy corp] url: "https://***@proxy:443": https proxies are not supported yet; '
            "write host:port or http://host:port, for example proxy.example.com:3128",
        )

    def test_aMistakeInAHeaderHidesItsValue(self) -> None:
        self.assertWrong(
            PROXY + f"header = Proxy-Authorization: Basic {CANARY}\n",
            '[proxy corp] header: "Proxy-Authorization": not allowed: '
            "give username and password-file instead",
        )

    def test_otherAuthIsNotSupportedYet(self) -> None:
        self.assertWrong(
            PROXY + "auth = ntlm\n",
            '[proxy corp] auth: "ntlm": not supported yet; write one of auto, basic, none',
        )


class CredentialsTests(IniTestCase):
    def credentials(self, keys: str, environ: dict[str, str] | None = None) -> Credentials | None:
        return self.read(PROXY + keys, environ).proxies["corp"].credentials

    def test_aPasswordFileIsRelativeToTheConfigFile(self) -> None:
        for data in b"s3cret", b"s3cret\n", b"s3cret\r\n", b"\xef\xbb\xbfs3cret\n":
            self.write("pw", data)
            credentials = self.credentials("username = alice\npassword-file = pw\n")
            self.assertEqual(credentials, Credentials("alice", "s3cret"))

    def test_aPasswordFileMayBeAbsolute(self) -> None:
        path = os.path.abspath(self.write("pw", b" x "))
        credentials = self.credentials(f"username = alice\npassword-file = {path}\n")
        self.assertEqual(credentials, Credentials("alice", " x "))

    def test_aPasswordFileThatCannotBeUsed(self) -> None:
        os.mkdir(os.path.join(self.folder, "folder"))
        for name, data, reason in (
            ("missing", None, "No such file or directory"),
            ("folder", None, "Is a directory"),
            ("empty", b"", "the file is empty"),
            ("newline", b"\r\n", "the file is empty"),
            ("binary", b"\x80\0", "a binary file; it must be text in UTF-8"),
            ("latin", CANARY.encode() + b"\xe9", "not UTF-8"),
        ):
            if data is not None:
                self.write(name, data)
            self.assertWrong(
                PROXY + f"username = alice\npassword-file = {name}\n",
                f'[proxy corp] password-file: "{name}": {reason}',
            )

    def test_aPasswordThatBasicCannotCarry(self) -> None:
        self.write("pw", CANARY.encode() + b"\n\n")
        self.assertWrong(
            PROXY + "username = alice\npassword-file = pw\n",
            "[proxy corp] username and password-file: "
            "a password must not hold control characters (RFC 7617)",
        )
        self.assertWrong(
            PROXY + f"username = alice:{CANARY}\npassword = x\n",
            "[proxy corp] username and password: a user name must not hold a colon (RFC 7617)",
        )

    def test_aPasswordFromTheEnvironment(self) -> None:
        keys = "username = alice\npassword-env = PW\n"
        self.assertEqual(self.credentials(keys, {"PW": "x"}), Credentials("alice", "x"))
        message = '[proxy corp] password-env: "PW": the variable is unset or empty'
        self.assertWrong(PROXY + keys, message)
        self.assertWrong(PROXY + keys, message, {"PW": ""})

    def test_authNoneSendsNoCredentials(self) -> None:
        self.assertIsNone(self.credentials("username = alice\npassword = x\nauth = none\n"))
        self.assertEqual(
            self.credentials("username = alice\npassword = x\nauth = basic\n"),
            Credentials("alice", "x"),
        )

    def test_authBasicNeedsCredentials(self) -> None:
        self.assertWrong(
            PROXY + "auth = basic\n",
            "[proxy corp] auth: basic needs a username, and password-file or the like",
        )

    def test_oneOfUserAndPasswordIsNotEnough(self) -> None:
        self.assertWrong(
            PROXY + "username = alice\n",
            "[proxy corp] username: a password is missing; write password-file",
        )
        self.assertWrong(
            PROXY + f"password = {CANARY}\n",
            "[proxy corp] password: the key username is missing",
        )

    def test_twoPasswordsAreTooMany(self) -> None:
        self.assertWrong(
            PROXY + f"username = alice\npassword-file = x\npassword = {CANARY}\n",
            "[proxy corp] password-file: password is given too; leave one of them out",
        )

    def test_aURLWithAUserAndKeysForOneAreTooMany(self) -> None:
        for key in "username", "password", "password-file", "password-env":
            self.assertWrong(
                f"[proxy corp]\nurl = http://alice:{CANARY}@proxy\n{key} = {CANARY}\n",
                f"[proxy corp] {key}: the url has a user already; leave one of them out",
            )


class WarningTests(IniTestCase):
    def test_aPasswordFileThatOthersCanRead(self) -> None:
        self.write("pw", b"x", 0o640)
        text = PROXY + "username = alice\npassword-file = pw\n"
        self.assertEqual(
            self.read(text).warnings,
            (
                f'{self.path}: [proxy corp] password-file: "pw" can be read by others than '
                "its owner; chmod 600 helps",
            ),
        )
        self.write("pw", b"x", 0o400)
        self.assertEqual(self.read(text).warnings, ())

    def test_aPasswordInAConfigFileThatOthersCanRead(self) -> None:
        for text in (
            PROXY + "username = alice\npassword = x\n",
            "[proxy corp]\nurl = http://alice:x@proxy\n",
        ):
            self.assertEqual(
                self.read(text, mode=0o604).warnings,
                (
                    f"{self.path}: [proxy corp]: the password can be read by others than "
                    "the file's owner",
                ),
            )
            self.assertEqual(self.read(text, mode=0o600).warnings, ())

    def test_aConfigFileWithoutPasswordsMayBeOpen(self) -> None:
        self.assertEqual(self.read(PROXY + TUNNEL, mode=0o644).warnings, ())
