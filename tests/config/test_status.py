"""Where the status server listens, and the token of those who may steer it."""

from __future__ import annotations

import os

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings, TcpListen, TokenFile, UnixListen, readToken
from ptunnel.config.parsers.addresses import parseStatus, parseStatusHosts
from ptunnel.errors import ConfigError
from tests.config.test_config import TUNNEL, WORD, SettingsTestCase
from tests.support.fakes import anyText

PROXY = "[proxy p]\nurl = p:1\n"


class StatusTests(SettingsTestCase):
    def ini(self, *keys: str) -> str:
        return "\n".join(["[ptunnel]", *keys, PROXY, TUNNEL])

    def loadIni(self, *keys: str, **more: str) -> Settings:
        return self.load(file=self.ini(*keys), **more)

    def test_thereIsNoneUnlessItIsWritten(self) -> None:
        for settings in self.loadIni(), self.loadIni("status = off"):
            self.assertIsNone(settings.status)

    def test_itIsAPortAnAddressOrAPath(self) -> None:
        for text, listen in (
            ("8620", TcpListen("127.0.0.1", 8620)),
            ("0", TcpListen("127.0.0.1", 0)),
            ("0.0.0.0:8620", TcpListen("0.0.0.0", 8620)),
            ("localhost:8620", TcpListen("localhost", 8620)),
            ("[::1]:8620", TcpListen("::1", 8620)),
            ("unix:/run/s", UnixListen("/run/s")),
            ("unix:/run/s:mode=0660", UnixListen("/run/s", 0o660)),
        ):
            self.assertEqual(self.loadIni(f"status = {text}").status, listen, text)

    def test_theOptionGoesBeforeTheKey(self) -> None:
        self.assertEqual(self.loadIni("status = 1", status="2").status, TcpListen("127.0.0.1", 2))
        self.assertIsNone(self.loadIni("status = 1", status="off").status)
        settings = self.load(WORD, proxies=("p:1",), status="unix:/run/s")
        self.assertEqual(settings.status, UnixListen("/run/s"))

    def test_whatIsNoAddressIsSaidWithItsPlace(self) -> None:
        form = "port, host:port, [v6]:port, unix:/path or off, for example 127.0.0.1:8620"
        options = {"file": PROXY + TUNNEL}
        self.assertWrong(f'--status: "x": a port is missing; write {form}', status="x", **options)
        self.assertWrong(
            '--status: "70000": the port must be a number from 0 to 65535',
            status="70000",
            **options,
        )
        self.assertWrong(
            'FILE: [ptunnel] status: "unix:s": the path must begin with /, and hold no control '
            "characters",
            file=self.ini("status = unix:s"),
        )

    def test_aTunnelsAddressIsTaken(self) -> None:
        file = self.ini("status = 9993")
        self.assertWrong(
            'FILE: [ptunnel] status: "127.0.0.1:9993" is taken by FILE: [tunnel imap]; give it an '
            "address of its own",
            file=file,
        )
        self.assertWrong(
            '--status: "127.0.0.1:9993" is taken by TUNNEL: "9993:imap.gmail.com:993"; give it an '
            "address of its own",
            WORD,
            proxies=("p:1",),
            status="9993",
        )

    def test_hostsAreNamesWithOrWithoutAPort(self) -> None:
        settings = self.loadIni("status-hosts = Status.example.com, b.example:8620, [::2]")
        self.assertEqual(settings.statusHosts, ("Status.example.com", "b.example", "::2"))
        error = self.assertRaises(ConfigError, self.loadIni, "status-hosts = a,,b")
        self.assertIn("[ptunnel] status-hosts: ", str(error))
        self.assertIn("a host is missing", str(error))

    def test_aTokenFileIsRelativeToTheConfigFile(self) -> None:
        path = self.write("tunnels.ini", self.ini("status-token-file = s.token"))
        settings = self.load(configFile=path)
        assert settings.statusToken is not None
        beside = os.path.join(os.path.dirname(os.path.abspath(path)), "s.token")
        self.assertEqual(settings.statusToken.path, beside)
        self.assertEqual(settings.statusToken.where, f"{path}: [ptunnel] status-token-file")
        self.assertWrong(
            'FILE: [ptunnel] status-token-file: "credential:x": CREDENTIALS_DIRECTORY is not set; '
            "systemd sets it for a unit that has LoadCredential=",
            file=self.ini("status-token-file = credential:x"),
        )

    def test_aTokenThatOthersMayReadOnItsWayIsWarnedOf(self) -> None:
        keys = "status = 0.0.0.0:8620", "status-token-file = t"
        [warning] = self.loadIni(*keys).warnings
        self.assertIn('status: a token goes to "0.0.0.0:8620" without TLS', warning)
        for others in ("status = 8620", keys[1]), ("status = unix:/s", keys[1]), (keys[0],):
            self.assertEqual(self.loadIni(*others).warnings, ())

    @given(anyText)
    def test_anyTextIsAnAddressOrAMistake(self, text: str) -> None:
        for parse in parseStatus, parseStatusHosts:
            try:
                parse(text)
            except ConfigError as e:
                self.assertNotIn("\n", str(e))


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def read(self, data: bytes | None, mode: int = 0o600, **environ: str) -> str:
        if data is not None:
            with open(self.path, "wb") as file:
                file.write(data)
            os.chmod(self.path, mode)
        return readToken(TokenFile(self.path, "[ptunnel] status-token-file"), environ)

    def test_itIsTheOnlyLine(self) -> None:
        for data in b"abc", b"abc\n", b"abc\r\n", b"abc\n\n \n":
            self.assertEqual(self.read(data), "abc", data)

    def test_whatIsNoTokenIsSaidWithItsPlace(self) -> None:
        alone = "it must be the token alone, in one line"
        ascii_ = "a token is of printable ASCII characters, without blanks"
        for data, what in (
            (None, "No such file or directory"),
            (b"", alone),
            (b"\n", alone),
            (b"\nabc\n", alone),
            (b"abc\ndef\n", alone),
            (b"a b\n", ascii_),
            (b"abc \n", ascii_),
            ("grün\n".encode(), ascii_),
            (b"a\0b", "a binary file; it must be text in UTF-8"),
        ):
            error = self.assertRaises(ConfigError, self.read, data)
            expected = f'[ptunnel] status-token-file: "{self.path}": {what}'
            self.assertEqual(str(error), expected)

    def test_nobodyElseMayReadIt(self) -> None:
        for mode in 0o640, 0o604, 0o660, 0o644:
            error = self.assertRaises(ConfigError, self.read, b"abc\n", mode)
            self.assertIn("it can be read by others than its owner; chmod 600 helps", str(error))
        folder = os.path.dirname(self.path)
        self.assertEqual(self.read(b"abc\n", 0o640, CREDENTIALS_DIRECTORY=folder), "abc")
