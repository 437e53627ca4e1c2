"""What ssh would refuse, and ptunnel warns of: files open to others, and ports open to all."""

from __future__ import annotations

import os
from pathlib import Path

from ptunnel.config import files
from tests.config.test_config import SettingsTestCase
from tests.config.test_proxies import selfSigned

WORD = "9993:imap.gmail.com:993"
LOGIN = "username = alice\npassword-env = WORD\n"
ENVIRON = {"WORD": "x"}
PEM = selfSigned()


class FilePermissionTests(SettingsTestCase):
    keyMode = 0o600
    TUNNEL = "[tunnel t]\nlisten = 9993\ntarget = t:1\n"
    PROXY = "[proxy p]\nurl = https://p:1\n"

    def warnings(self, text: str, mode: int = 0o600) -> tuple[str, ...]:
        """Those about a config file, which they call FILE, and keys in its folder."""
        path = self.write("tunnels.ini", text, mode)
        (Path(path).parent / "key.pem").write_bytes(b"".join(PEM))
        os.chmod(Path(path).parent / "key.pem", self.keyMode)
        found = self.load(configFile=path, environ=ENVIRON).warnings
        return tuple(warning.replace(path, "FILE") for warning in found)

    def test_aConfigFileThatOthersCanChange(self) -> None:
        for mode in 0o620, 0o602, 0o666:
            self.assertEqual(
                self.warnings(self.PROXY + self.TUNNEL, mode),
                ("FILE: others than its owner can change it; chmod go-w helps",),
            )
        self.assertEqual(self.warnings(self.PROXY + self.TUNNEL, 0o644), ())

    def test_aLinkCountsAsTheFileThatItLeadsTo(self) -> None:
        path = self.write("tunnels.ini", self.PROXY + self.TUNNEL, 0o666)
        link = f"{path}.link"
        os.symlink(os.path.abspath(path), link)
        [warning] = self.load(configFile=link).warnings
        self.assertEqual(warning, f"{link}: others than its owner can change it; chmod go-w helps")
        os.chmod(path, 0o600)
        self.assertEqual(self.load(configFile=link).warnings, ())

    def test_aSecretInAConfigFileThatOthersCanRead(self) -> None:
        for keys, what in (
            ("username = a\npassword = x\n", "the password"),
            ("header = X-Api-Key: x\n", "the header X-Api-Key"),
            ("header = X-Team: mail\n  Cookie: x\n", "the header Cookie"),
        ):
            for mode in 0o640, 0o604:
                self.assertEqual(
                    self.warnings(self.PROXY + keys + self.TUNNEL, mode),
                    (
                        f"FILE: [proxy p]: {what} can be read by others than the file's owner; "
                        "chmod 600 helps",
                    ),
                )
            self.assertEqual(self.warnings(self.PROXY + keys + self.TUNNEL), ())
        self.assertEqual(
            self.warnings(self.PROXY + "header = X-Team: mail\n" + self.TUNNEL, 0o644), ()
        )

    def test_aClientKeyThatOthersCanRead(self) -> None:
        for self.keyMode, count in (0o640, 1), (0o604, 1), (0o600, 0), (0o400, 0):
            for text, place in (
                (
                    f"{self.PROXY}client-cert = key.pem\nclient-key = key.pem\n{self.TUNNEL}",
                    "[proxy p] client-key",
                ),
                (f"{self.PROXY}client-cert = key.pem\n{self.TUNNEL}", "[proxy p] client-cert"),
                (
                    f"{self.PROXY}{self.TUNNEL}tls = yes\ntls-client-cert = key.pem\n",
                    "[tunnel t] tls-client-cert",
                ),
            ):
                expected = (
                    f'FILE: {place}: "key.pem": the key can be read by others than its owner; '
                    "chmod 600 helps",
                )
                self.assertEqual(self.warnings(text), expected * count)

    def test_aKeyOfAllTunnelsIsWarnedOfOnce(self) -> None:
        self.keyMode = 0o644
        text = f"[ptunnel]\ntls = yes\ntls-client-cert = key.pem\n{self.PROXY}{self.TUNNEL}"
        found = self.warnings(f"{text}[tunnel u]\nlisten = 9994\ntarget = u:1\n")
        self.assertEqual(len(found), 1, found)

    def test_withWhichGroupAFileOfAnotherUserIsSharedIsTheirs(self) -> None:
        path = self.write("pw", "x", 0o640)
        status = os.stat(path)
        self.assertTrue(files.isOpen(status))
        self.patch(os, "geteuid", lambda: status.st_uid + 1)
        self.assertFalse(files.isOpen(status))
        os.chmod(path, 0o644)
        self.assertTrue(files.isOpen(os.stat(path)))


class OpenListenTests(SettingsTestCase):
    def found(self, listen: str, keys: str = LOGIN, tunnel: str = "") -> list[str]:
        text = f"[proxy p]\nurl = https://p:1\n{keys}[tunnel t]\nlisten = {listen}\ntarget = t:1\n"
        path = self.write("tunnels.ini", text + tunnel)
        (Path(path).parent / "key.pem").write_bytes(b"".join(PEM))
        os.chmod(Path(path).parent / "key.pem", 0o600)
        found = self.load(configFile=path, environ=ENVIRON).warnings
        return [warning.replace(path, "FILE") for warning in found]

    def test_anyoneWhoReachesAPortBeyondLoopbackIsUs(self) -> None:
        for listen in (
            "0.0.0.0:1",
            "[::]:1",
            "192.0.2.1:1",
            "myhost:1",
            "tcp:1",
            "tcp6:1",
            "tcp:1:interface=192.0.2.1",
            "haproxy:tcp:1",
        ):
            self.assertEqual(
                self.found(listen),
                [
                    f'FILE: [tunnel t] listen: whoever reaches "{listen}" is you to the proxy p; '
                    "write allow = NETWORKS, or listen on 127.0.0.1"
                ],
            )

    def test_loopbackAndUnixSocketsAreOurs(self) -> None:
        for listen in (
            "1",
            "127.0.0.9:1",
            "[::1]:1",
            "localhost:1",
            "unix:/x",
            "systemd:domain=INET:index=0",
            "tcp:1:interface=127.0.0.1",
            r"tcp:1:interface=\:\:1",
            "tcp:interface=localhost:port=1",
        ):
            self.assertEqual(self.found(listen), [], listen)

    def test_whoIsAllowedWasSaid(self) -> None:
        self.assertEqual(self.found("0.0.0.0:1", tunnel="allow = 10.0.0.0/8\n"), [])
        self.assertEqual(self.found("0.0.0.0:1", tunnel="allow = 0.0.0.0/0\n"), [])

    def test_withoutCredentialsNobodyIsUs(self) -> None:
        self.assertEqual(self.found("0.0.0.0:1", ""), [])
        self.assertEqual(self.found("0.0.0.0:1", LOGIN + "auth = none\n"), [])
        self.assertEqual(self.found("0.0.0.0:1", tunnel="via = direct\n"), [])

    def test_allKindsOfCredentialsCount(self) -> None:
        for keys, tunnel, who in (
            ("auth = negotiate\n", "", "the proxy p"),
            ("client-cert = key.pem\n", "", "the proxy p"),
            (f"through = q\n[proxy q]\nurl = q:1\n{LOGIN}", "via = p\n", "the proxy q"),
            ("", "tls = yes\ntls-client-cert = key.pem\n", "the target"),
        ):
            [warning] = self.found("0.0.0.0:1", keys, tunnel)
            self.assertIn(f"is you to {who}; ", warning)

    def test_theCommandLineCountsToo(self) -> None:
        [_, warning] = self.load(f"0.0.0.0:{WORD}", proxies=("http://alice:x@p:1",)).warnings
        self.assertTrue(warning.startswith(f'TUNNEL: "0.0.0.0:{WORD}" listen: whoever'), warning)


class ProcessListTests(SettingsTestCase):
    def test_aPasswordInAUrlOfTheCommandLine(self) -> None:
        settings = self.load(WORD, proxies=("http://alice:c4n4ry@p:1", "http://q:1"))
        self.assertEqual(
            settings.warnings,
            (
                '-p: "p:1": the URL shows its password to every user of this machine, in the '
                "process list; use -U and --password-file",
            ),
        )

    def test_oneInTheEnvironmentIsOurOwn(self) -> None:
        settings = self.load(WORD, environ={"https_proxy": "http://alice:x@p:1"})
        self.assertEqual(settings.warnings, ())
