"""A [pac] of the config file, and -p pac+URL: `ptunnel.config.pacs`."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config import CommandLine, PasswordEnv, Settings, loadSettings, pacs
from ptunnel.errors import ConfigError

ANYBODY = "could be anybody's; write a name, or *.example.com"
PLACE = "not a place of a PAC file; write https://host/path, or the path of a file"
TUNNEL = "[tunnel t]\nlisten = 1000\ntarget = t.example:1\n"
URL = "url = https://pac.example/p.pac\n"


class PacCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(pacs, "find_spec", lambda name: name)  # with or without the extra
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.path = os.path.join(self.folder, "tunnels.ini")

    def write(self, text: str, name: str = "tunnels.ini") -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def load(self, text: str, *proxies: str, direct: bool = False) -> Settings:
        path = self.write(text)
        os.chmod(path, 0o600)
        line = CommandLine(configFile=path, proxies=proxies, direct=direct)
        return loadSettings(line, {"WORD": "secret"})

    def assertWrong(self, text: str, message: str) -> None:
        error = self.assertRaises(ConfigError, self.load, text)
        self.assertEqual(str(error), f"{self.path}: {message}")


class SectionTests(PacCase):
    def test_aUrlWithAllItsKeys(self) -> None:
        settings = self.load(
            f"[pac work]\n{URL}refresh = 5m\npac-credentials = *.Corp.example, p.example\n"
            f"username = alice\npassword-env = WORD\nauth = ntlm\nserver-name = x.example\n{TUNNEL}"
        )
        pac = settings.pacs["work"]
        self.assertEqual(pac.url, "https://pac.example/p.pac")
        self.assertEqual((pac.path, pac.refresh, pac.auth), (None, 300.0, "ntlm"))
        self.assertEqual(pac.knownTo, ("*.corp.example", "p.example"))
        self.assertEqual((pac.username, pac.password), ("alice", PasswordEnv("WORD")))
        assert pac.tls is not None
        self.assertEqual((pac.tls.serverName, pac.tls.verify), ("x.example", True))
        self.assertEqual(settings.tunnels[0].via, ("work",))
        self.assertEqual(settings.warnings, ())

    def test_itsDefaults(self) -> None:
        pac = self.load(f"[pac work]\n{URL}{TUNNEL}").pacs["work"]
        self.assertEqual((pac.refresh, pac.knownTo, pac.username), (3600.0, (), None))
        self.assertIsNone(self.load(f"[pac w]\n{URL}refresh = 0\n{TUNNEL}").pacs["w"].refresh)

    def test_aFileIsRelativeToTheConfigAndMustBeThere(self) -> None:
        path = self.write("x", "p.pac")
        for written in "p.pac", path, f"file://{path}", f"file://localhost{path}":
            pac = self.load(f"[pac work]\nurl = {written}\n{TUNNEL}").pacs["work"]
            self.assertEqual((pac.url, pac.path, pac.tls), ("", path, None))
        missing = os.path.join(self.folder, "none.pac")
        said = missing if len(missing) <= 80 else missing[:77] + "..."
        self.assertWrong(
            f"[pac work]\nurl = none.pac\n{TUNNEL}",
            f'[pac work] url: "{said}": No such file or directory',
        )

    def test_aFileInLatin1CanBeRead(self) -> None:
        with open(os.path.join(self.folder, "p.pac"), "wb") as file:
            file.write(b"// f\xfcr alle\n")
        self.load(f"[pac work]\nurl = p.pac\n{TUNNEL}")

    def test_withoutTlsThereIsAWarning(self) -> None:
        settings = self.load(f"[pac work]\nurl = http://wpad/wpad.dat\n{TUNNEL}")
        (warning,) = settings.warnings
        self.assertIn("[pac work] url: http:// is neither private nor safe", warning)
        self.assertIsNone(settings.pacs["work"].tls)

    def test_mistakesInTheUrl(self) -> None:
        for url, message in (
            (
                "ftp://a/b",
                PLACE,
            ),
            ("https://u:***@a/b", "a user and password do not belong in it"),
            ("https:///b", "a host is missing"),
            ("https://a:0/b", ""),
            ("file://", "the path is missing; write file:///path"),
            ("https://a/\u00e9", "in a URL, write other characters than ASCII as %XX"),
        ):
            text = f"[pac work]\nurl = {url}\n{TUNNEL}"
            error = self.assertRaises(ConfigError, self.load, text)
            self.assertIn("[pac work] url: ", str(error))
            self.assertIn(message, str(error))

    def test_mistakesInItsKeys(self) -> None:
        for keys, message in (
            ("urll = x", "urll: unknown key; did you mean url?"),
            ("pac-credential = x", "pac-credential: unknown key; did you mean pac-credentials?"),
            (
                "username = a\npassword = b",
                "username: the key pac-credentials is missing; it says which proxies get it",
            ),
            ("pac-credentials = a", "pac-credentials: the key username is missing"),
            (
                "pac-credentials = a\nusername = b",
                "username: a password is missing; write password-file",
            ),
            (
                "pac-credentials = *\nusername = b\npassword = c",
                f'pac-credentials: "*": "*" {ANYBODY}',
            ),
            (
                "pac-credentials = *.com\nusername = b\npassword = c",
                f'pac-credentials: "*.com": "*.com" {ANYBODY}',
            ),
            (
                "pac-credentials = p*.a\nusername = b\npassword = c",
                f'pac-credentials: "p*.a": "p*.a" {ANYBODY}',
            ),
            (
                "pac-credentials = a,\nusername = b\npassword = c",
                'pac-credentials: "a,": a name is missing; write the hosts of proxies, '
                "separated by commas",
            ),
            ("auth = ntlm", "auth: ntlm needs a username, and password-file or the like"),
        ):
            self.assertWrong(f"[pac work]\n{URL}{keys}\n{TUNNEL}", f"[pac work] {message}")
        self.assertWrong(f"[pac work]\n{TUNNEL}", "[pac work]: the key url is missing")
        self.assertWrong(
            f"[pac work]\nurl = tunnels.ini\nca-file = x\n{TUNNEL}",
            "[pac work] ca-file: only TLS has a use for it; write url = https://...",
        )

    def test_aPasswordThatOthersCanReadIsAWarning(self) -> None:
        path = self.write(
            f"[pac work]\n{URL}pac-credentials = a\nusername = b\npassword = c\n{TUNNEL}"
        )
        os.chmod(path, 0o644)
        (warning,) = loadSettings(CommandLine(configFile=path), {}).warnings
        self.assertIn("[pac work]: the password can be read by others", warning)

    def test_namesAreUnique(self) -> None:
        proxy = "[proxy work]\nurl = a:1\n"
        what = "a [proxy] has that name too, and via could mean either; take another one"
        self.assertWrong(f"[pac work]\n{URL}{proxy}{TUNNEL}", f"[pac work]: {what}")
        self.assertWrong(
            f"[pac direct]\n{URL}{TUNNEL}",
            "[pac direct]: direct means a connection without a proxy; take another name",
        )

    def test_withoutTheExtraItSaysWhatToInstall(self) -> None:
        self.patch(pacs, "find_spec", lambda name: None)
        what = "a PAC file needs the extra pac: pip install 'ptunnel[pac]'"
        self.assertWrong(f"[pac work]\n{URL}{TUNNEL}", f"[pac work]: {what}")
        line = CommandLine(proxies=("pac+https://a/b",), tunnels=("1:b:2",))
        error = self.assertRaises(ConfigError, loadSettings, line, {})
        self.assertEqual(str(error), f'-p: "pac+https://a/b": {what}')


class ViaTests(PacCase):
    def test_itStandsBesideProxies(self) -> None:
        proxies = "[proxy corp]\nurl = a:1\n[proxy other]\nurl = b:1\n"
        via = "via = work, corp, direct\n"
        settings = self.load(f"[pac work]\n{URL}{proxies}{TUNNEL}{via}")
        self.assertEqual(settings.tunnels[0].via, ("work", "corp", "direct"))
        # It may name any of them.
        self.assertEqual([*settings.proxies], ["corp", "other"])

    def test_withoutAViaItIsEveryPac(self) -> None:
        text = f"[proxy corp]\nurl = a:1\n[pac one]\n{URL}[pac two]\n{URL}{TUNNEL}"
        self.assertEqual(self.load(text).tunnels[0].via, ("one", "two"))

    def test_whatNoTunnelUsesIsLeftOut(self) -> None:
        text = f"[proxy corp]\nurl = a:1\n[pac one]\n{URL}{TUNNEL}via = corp\n"
        self.assertEqual(self.load(text).pacs, {})

    def test_aTypoGetsASuggestion(self) -> None:
        what = "there is no [proxy] or [pac] of that name; did you mean work?"
        self.assertWrong(
            f"[pac work]\n{URL}{TUNNEL}via = wrok\n", f'[tunnel t] via: "wrok": {what}'
        )

    def test_ofTheCommandLine(self) -> None:
        path = self.write("x", "p.pac")
        words = "pac+https://pac.example/p", "proxy:3128", f"pac+file://{path}", f"pac+{path}"
        line = CommandLine(proxies=words, tunnels=("1:b:2",), direct=True)
        settings = loadSettings(line, {})
        self.assertEqual(settings.tunnels[0].via, (*words, "direct"))
        self.assertEqual([*settings.pacs], [words[0], *words[2:]])
        self.assertEqual(settings.pacs[words[0]].url, "https://pac.example/p")
        self.assertEqual(settings.pacs[words[3]].path, path)

    def test_mistakesOnTheCommandLine(self) -> None:
        for word, message in (
            (
                "pac+ftp://a",
                f'"ftp://a": {PLACE}',
            ),
            ("pac+/none/there", '"pac+/none/there": "/none/there": No such file or directory'),
        ):
            line = CommandLine(proxies=(word,), tunnels=("1:b:2",))
            error = self.assertRaises(ConfigError, loadSettings, line, {})
            self.assertEqual(str(error), f"-p: {message}")
        line = CommandLine(proxies=("pac+https://a/b",) * 2, tunnels=("1:b:2",))
        self.assertIn("given twice", str(self.assertRaises(ConfigError, loadSettings, line, {})))

    def test_aUserIsNotForProxiesOfAPacFile(self) -> None:
        line = CommandLine(
            proxies=("pac+https://a/b",), tunnels=("1:b:2",), username="a", password=Secret("b")
        )
        error = self.assertRaises(ConfigError, loadSettings, line, {})
        self.assertIn("-U: there is no proxy to use it for", str(error))

    def test_whoeverReachesAnOpenPortIsYouToItsProxies(self) -> None:
        text = (
            f"[pac work]\n{URL}pac-credentials = *.a.b\nusername = b\npassword-env = WORD\n"
            "[tunnel t]\nlisten = 0.0.0.0:1000\ntarget = t.example:1\n"
        )
        (warning,) = self.load(text).warnings
        self.assertIn("is you to the proxies of work", warning)


class KnownTests(SynchronousTestCase):
    def test_whoGetsTheCredentials(self) -> None:
        pac = pacs.Pac("w", knownTo=pacs.parseKnownTo("*.corp.example, p.example, [::1], 10.0.0.1"))
        for host, knows in (
            ("a.corp.example", True),
            ("A.CORP.EXAMPLE.", True),
            ("a.b.corp.example", True),
            ("corp.example", False),
            ("evilcorp.example", False),
            ("p.example", True),
            ("x.p.example", False),
            ("::1", True),
            ("10.0.0.1", True),
            ("10.0.0.2", False),
        ):
            self.assertEqual(pac.knows(host), knows, host)
