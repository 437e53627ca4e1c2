"""`ptunnel.cli.remote.place`: which address is asked."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.remote.place import Place, placeOf
from ptunnel.config import TcpListen, TokenFile, UnixListen, environment
from ptunnel.errors import ConfigError


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(environment, "SYSTEM_CONFIG", "/nowhere/tunnels.ini")

    def write(self, text: str, path: str = "") -> str:
        path = path or os.path.abspath(self.mktemp())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def config(self, status: str, more: str = "") -> str:
        return self.write(f"[ptunnel]\nstatus = {status}\n{more}")

    def mistake(self, *words: str | None, environ: dict[str, str] | None = None) -> str:
        error = self.assertRaises(ConfigError, placeOf, *words, environ or {})
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_theOptionGoesBeforeTheConfig(self) -> None:
        path = self.config("127.0.0.1:1000")
        self.assertEqual(placeOf(path, None, None, {}), Place(TcpListen("127.0.0.1", 1000)))
        self.assertEqual(placeOf(path, "2000", None, {}), Place(TcpListen("127.0.0.1", 2000)))
        self.assertEqual(placeOf(None, "unix:/x", None, {}), Place(UnixListen("/x")))

    def test_theConfigIsThatOfTheOptionOrOfTheVariableOrTheDefault(self) -> None:
        path = self.config("127.0.0.1:1000")
        home = os.path.abspath(self.mktemp())
        own = self.write("[ptunnel]\nstatus = 3000\n", f"{home}/.config/ptunnel/tunnels.ini")
        other = self.config("2000")
        environ = {"PTUNNEL_CONFIG": path, "HOME": home}
        self.assertEqual(placeOf(other, None, None, environ).address.port, 2000)  # type: ignore[union-attr]
        self.assertEqual(placeOf(None, None, None, environ).address.port, 1000)  # type: ignore[union-attr]
        place = placeOf(None, None, None, {"HOME": home})
        self.assertEqual((place.address.port, os.path.exists(own)), (3000, True))  # type: ignore[union-attr]

    def test_anAddressOfAllIsReachedOnTheLoopback(self) -> None:
        for written, host in (
            ("0.0.0.0:8620", "127.0.0.1"),
            ("[::]:8620", "::1"),
            ("192.0.2.1:8620", "192.0.2.1"),
            ("status.example:8620", "status.example"),
        ):
            self.assertEqual(placeOf(None, written, None, {}).address, TcpListen(host, 8620))

    def test_whatElseTheConfigHasDoesNotMatter(self) -> None:
        # Those who ask may not read the passwords, and the file may be about to be changed.
        text = "password-file = /nowhere\n[proxy x]\nnonsense = 1\n[what]\n"
        self.assertEqual(placeOf(self.config("8620", text), None, None, {}).address.port, 8620)  # type: ignore[union-attr]

    def test_theTokenIsThatOfTheOptionOrOfTheConfig(self) -> None:
        path = self.config("8620 ; here", "status-token-file = token\n")
        beside = os.path.join(os.path.dirname(path), "token")
        place = placeOf(path, None, None, {}, steers=True)
        self.assertEqual(place.token, TokenFile(beside))
        self.assertEqual(place.token.where, f"{path}: [ptunnel] status-token-file")
        for words, found in (((path, "1", None), beside), ((path, None, "/t"), "/t")):
            self.assertEqual(placeOf(*words, {}, steers=True).token, TokenFile(found))
        self.assertEqual(placeOf(None, "1", "/t", {}, steers=True).token, TokenFile("/t"))
        self.assertIsNone(placeOf(None, "1", None, {}, steers=True).token)

    def test_whereNoTokenIsNeededNoneIsLookedFor(self) -> None:
        # Those who may connect to a Unix socket may not be able to read the service's files.
        token = "status-token-file = credential:x\n"  # which only the service has
        self.assertIsNone(placeOf(self.config("8620", token), None, None, {}).token)
        place = placeOf(self.config("unix:/x", token), None, None, {}, steers=True)
        self.assertEqual(place, Place(UnixListen("/x")))
        for words in ("8620", False), ("unix:/x", True):
            self.assertIsNone(placeOf("/nowhere", words[0], None, {}, steers=words[1]).token)

    def test_bothOptionsTogetherNeedNoConfig(self) -> None:
        place = placeOf("/nowhere/x.ini", "8620", "/t", {})
        self.assertEqual(place, Place(TcpListen("127.0.0.1", 8620), TokenFile("/t")))

    def test_withoutAnAddressTheLineSaysWhatToDo(self) -> None:
        line = self.mistake(None, None, None, environ={"HOME": "/h"})
        places = "/h/.config/ptunnel/tunnels.ini nor /nowhere/tunnels.ini"
        self.assertTrue(line.startswith("no status address: give --status, or "), line)
        self.assertTrue(line.endswith(places), line)
        for path in self.write("[ptunnel]\n"), self.write(""), self.config("off"):
            line = self.mistake(path, None, None)
            self.assertTrue(line.startswith(f"{path}: [ptunnel]: it has no status address"), line)
            self.assertIn("write status = 127.0.0.1:8620", line)

    def test_anAddressThatIsNoneIsNamedWithItsPlace(self) -> None:
        for text in "nonsense", "off", "0", "127.0.0.1:0", "unix:x", "a:b:c", "":
            self.assertTrue(self.mistake(None, text, None).startswith("--status: "), text)
        path = self.config("nonsense")
        self.assertTrue(self.mistake(path, None, None).startswith(f"{path}: [ptunnel] status: "))
        path = self.config("")
        self.assertIn("the value is missing", self.mistake(path, None, None))

    def test_aFileThatCannotBeReadIsAnError(self) -> None:
        line = self.mistake("/nowhere/x.ini", None, None)
        self.assertTrue(line.startswith("/nowhere/x.ini: "), line)
        self.assertTrue(line.endswith("; with --status it is not needed"), line)
        error = self.assertRaises(ConfigError, placeOf, "/nowhere/x", "1", None, {}, steers=True)
        self.assertTrue(str(error).endswith("; with --token-file it is not needed"))
        path = self.write("nonsense\n")
        self.assertTrue(self.mistake(path, None, None).startswith(f"{path}: line 1: "))
