"""`ptunnel.config.tls`: TLS from here to the target, in [tunnel] and [ptunnel]."""

from __future__ import annotations

import os
import pickle

from hypothesis import given
from hypothesis import strategies as st

from ptunnel.config import STARTTLS, CommandLine, Settings, Tunnel, loadConnect
from ptunnel.config.parsers.words import parseAlpn
from ptunnel.config.tls import tunnelTls
from ptunnel.errors import ConfigError
from ptunnel.starttls import UPGRADES
from ptunnel.tls import TlsSettings
from tests.config.parsers.test_words import WordsTestCase
from tests.config.test_config import SettingsTestCase
from tests.config.test_proxies import selfSigned

TUNNEL = "[tunnel imap]\nlisten = 9993\ntarget = imap.gmail.com:993\n"
KEYS = {
    "tls-verify": "yes",
    "tls-ca-file": "ca.pem",
    "tls-server-name": "x",
    "tls-alpn": "x",
    "tls-client-cert": "both.pem",
}
ONLY = "only TLS has a use for it; write tls = yes, or starttls = PROTOCOL"


class TlsCase(SettingsTestCase):
    def tunnel(self, keys: str = "", defaults: str = "") -> Tunnel:
        return self.settings(keys, defaults).tunnels[0]

    def settings(self, keys: str = "", defaults: str = "", *words: str) -> Settings:
        return self.load(*words, file=f"[ptunnel]\n{defaults}\n{TUNNEL}{keys}\n", direct=True)

    def assertKeysWrong(self, message: str, keys: str = "", defaults: str = "") -> None:
        self.assertWrong(message, file=f"[ptunnel]\n{defaults}\n{TUNNEL}{keys}\n", direct=True)

    def speaks(self, keys: str = "", defaults: str = "") -> tuple[bool, str | None]:
        tunnel = self.tunnel(keys, defaults)
        return tunnel.tls is not None, tunnel.starttls


class SwitchTests(TlsCase):
    def test_withoutKeysTheBytesGoAsTheyAre(self) -> None:
        self.assertEqual(self.speaks(), (False, None))
        self.assertEqual(self.speaks("tls = no\nstarttls = no"), (False, None))

    def test_tlsFromTheFirstByteOn(self) -> None:
        self.assertEqual(self.tunnel("tls = yes").tls, TlsSettings())
        self.assertEqual(self.speaks("tls = yes\nstarttls = no"), (True, None))

    def test_starttlsIsTLSToo(self) -> None:
        for protocol in STARTTLS:
            self.assertEqual(self.speaks(f"starttls = {protocol}"), (True, protocol))
        self.assertEqual(self.speaks("tls = yes\nstarttls = imap"), (True, "imap"))

    def test_everyProtocolThatMayBeWrittenIsSpoken(self) -> None:
        self.assertEqual(set(STARTTLS), set(UPGRADES))

    def test_starttlsWithoutTLSIsAMistake(self) -> None:
        what = "tls = no is given too, and starttls is TLS; leave one of them out"
        self.assertKeysWrong(f"FILE: [tunnel imap] starttls: {what}", "tls = no\nstarttls = smtp")
        self.assertKeysWrong(f"FILE: [ptunnel] starttls: {what}", "", "tls = no\nstarttls = smtp")

    def test_anUnknownProtocolIsNamedWithThoseThatAreKnown(self) -> None:
        self.assertKeysWrong(
            'FILE: [tunnel imap] starttls: "imaps": must be one of '
            "imap, pop3, smtp, postgres, ldap, xmpp, ftp, no",
            "starttls = imaps",
        )

    def test_aTunnelsOwnKeysGoBeforeTheDefaults(self) -> None:
        for keys, defaults, expected in (
            ("", "tls = yes", (True, None)),
            ("", "starttls = imap", (True, "imap")),
            ("tls = no", "tls = yes", (False, None)),
            ("tls = no", "starttls = imap", (False, None)),
            ("tls = no", "tls = yes\nstarttls = imap", (False, None)),
            ("tls = yes", "tls = no", (True, None)),
            ("tls = yes", "starttls = imap", (True, "imap")),
            ("starttls = no", "starttls = imap", (False, None)),
            ("starttls = no", "tls = yes\nstarttls = imap", (True, None)),
            ("tls = yes\nstarttls = no", "starttls = imap", (True, None)),
            ("starttls = pop3", "starttls = imap", (True, "pop3")),
            ("starttls = pop3", "tls = no", (True, "pop3")),
        ):
            self.assertEqual(self.speaks(keys, defaults), expected, (keys, defaults))

    def test_theDefaultsAreForTheTunnelsOfTheCommandLineToo(self) -> None:
        _, word = self.settings("tls = no", "starttls = imap", "1:h:1").tunnels
        self.assertEqual((word.tls, word.starttls), (TlsSettings(), "imap"))

    def test_theDefaultsAreForConnectToo(self) -> None:
        path = self.write("tunnels.ini", "[ptunnel]\ntls = yes\n")
        settings = loadConnect(CommandLine(configFile=path, direct=True), {}, "h:1")
        self.assertEqual(settings.tunnels[0].tls, TlsSettings())

    flags = st.sampled_from([None, True, False])
    protocols = st.sampled_from([None, "no", "imap", "smtp"])

    @given(flags, protocols, flags, protocols)
    def test_starttlsIsNeverWithoutTLS(
        self, tls: bool | None, starttls: str | None, tls2: bool | None, starttls2: str | None
    ) -> None:
        own = {k: v for k, v in (("tls", tls), ("starttls", starttls)) if v is not None}
        other = {k: v for k, v in (("tls", tls2), ("starttls", starttls2)) if v is not None}
        fields = tunnelTls("x", own, other, [])
        self.assertTrue(fields["tls"] is not None or fields["starttls"] is None)
        if tls is True or starttls in ("imap", "smtp"):
            self.assertEqual(fields["tls"] is None, tls is False)


class KeyTests(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        certificate, key = selfSigned()
        self.folder = os.path.dirname(self.write("ca.pem", certificate.decode()))
        for name, data in ("key.pem", key), ("both.pem", certificate + key):
            with open(os.path.join(self.folder, name), "wb") as file:
                file.write(data)
        # The config file stands beside them.
        self.write = self.beside  # type: ignore[method-assign]

    def beside(self, name: str, text: str, mode: int = 0o600) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def absolute(self, name: str) -> str:
        return os.path.abspath(os.path.join(self.folder, name))

    def test_eachSaysWhatItIsFor(self) -> None:
        keys = "\n".join(f"{key} = {value}" for key, value in KEYS.items())
        expected = TlsSettings(
            caFile=self.absolute("ca.pem"),
            certFile=self.absolute("both.pem"),
            serverName="x",
            alpn=("x",),
        )
        self.assertEqual(self.tunnel(f"tls = yes\n{keys}").tls, expected)
        self.assertEqual(self.tunnel(f"starttls = imap\n{keys}").tls, expected)
        self.assertEqual(self.tunnel("tls = yes", keys).tls, expected)

    def test_theKeyMayBeInAFileOfItsOwn(self) -> None:
        tls = self.tunnel("tls = yes\ntls-client-cert = ca.pem\ntls-client-key = key.pem").tls
        assert tls is not None
        self.assertEqual(
            (tls.certFile, tls.keyFile), tuple(map(self.absolute, ("ca.pem", "key.pem")))
        )

    def test_aTunnelsOwnCertificateDoesWithoutTheKeyOfTheDefault(self) -> None:
        defaults = "tls-client-cert = ca.pem\ntls-client-key = key.pem"
        tls = self.tunnel("tls = yes\ntls-client-cert = both.pem", defaults).tls
        assert tls is not None
        self.assertEqual((tls.certFile, tls.keyFile), (self.absolute("both.pem"), None))

    def test_aKeyIsForACertificateOfTheSameSection(self) -> None:
        line = "tls-client-key = key.pem"
        what = "tls-client-key: the key tls-client-cert is missing"
        self.assertKeysWrong(f"FILE: [tunnel imap] {what}", f"tls = yes\n{line}")
        self.assertKeysWrong(f"FILE: [ptunnel] {what}", "", line)
        self.assertKeysWrong(
            f"FILE: [tunnel imap] {what}", f"tls = yes\n{line}", "tls-client-cert = ca.pem"
        )

    def test_withoutTLSTheyAreAMistake(self) -> None:
        for key, value in KEYS.items():
            message = f"FILE: [tunnel imap] {key}: {ONLY}"
            for keys in "", "tls = no\n", "starttls = no\n":
                self.assertKeysWrong(message, f"{keys}{key} = {value}")
            self.assertKeysWrong(message, f"tls = no\n{key} = {value}", "starttls = imap")

    def test_asDefaultsTheyCountOnlyWhereTLSIsOn(self) -> None:
        for key in "tls-ca-file", "tls-client-cert":
            self.assertIsNone(self.tunnel("", f"{key} = missing.pem").tls)
        self.assertEqual(self.settings("", "tls-verify = no").warnings, ())

    def test_aFileThatCannotBeUsedIsNamedWhereItStands(self) -> None:
        os.mkfifo(self.absolute("pipe"))
        for name, what in (
            ("missing.pem", "there is no such file"),
            ("key.pem", "no certificate in it"),
            ("pipe", "not a regular file"),
            (".", "not a regular file"),
        ):
            for key in "tls-ca-file", "tls-client-cert":
                line = f"{key} = {name}"
                place = f'{key}: "{name}": {what}'
                self.assertKeysWrong(f"FILE: [tunnel imap] {place}", f"starttls = smtp\n{line}")
                self.assertKeysWrong(f"FILE: [ptunnel] {place}", "tls = yes", line)

    def test_aCertificateWithoutItsKey(self) -> None:
        self.assertKeysWrong(
            'FILE: [tunnel imap] tls-client-cert: "ca.pem": no private key in it',
            "tls = yes\ntls-client-cert = ca.pem",
        )

    def test_aTargetThatIsNotVerifiedIsWarnedOf(self) -> None:
        what = (
            ": tls-verify = no: anyone between here and the target can pose as it, and read and "
            "change the data"
        )
        path = self.absolute("tunnels.ini")
        for keys, defaults in ("tls = yes\ntls-verify = no", ""), ("tls = yes", "tls-verify = no"):
            settings = self.settings(keys, defaults)
            [warning] = settings.warnings
            self.assertEqual(os.path.abspath(warning.partition(":")[0]), path)
            self.assertTrue(warning.endswith(f": [tunnel imap]{what}"), warning)
            tls = settings.tunnels[0].tls
            assert tls is not None
            self.assertFalse(tls.verify)
        self.assertEqual(
            self.settings("tls = yes\ntls-verify = yes", "tls-verify = no").warnings, ()
        )

    def test_itReachesAWorker(self) -> None:
        settings = self.settings("starttls = ldap\ntls-ca-file = ca.pem\ntls-alpn = a, b")
        self.assertEqual(pickle.loads(pickle.dumps(settings)), settings)
        self.assertEqual(
            hash(settings.tunnels[0].tls), hash(pickle.loads(pickle.dumps(settings)).tunnels[0].tls)
        )


class AlpnTests(WordsTestCase):
    names = st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","),
        min_size=1,
        max_size=255,
    )

    @given(
        st.lists(names, min_size=1, max_size=9, unique=True), st.sampled_from([",", ", ", " , "])
    )
    def test_namesComeBackInOrder(self, names: list[str], comma: str) -> None:
        self.assertEqual(parseAlpn(comma.join(names)), tuple(names))

    @given(st.text() | st.text("ab,, é\n\x7f"))
    def test_anyTextIsNamesThatAHelloCanCarryOrOneLineOfConfigError(self, text: str) -> None:
        try:
            names = parseAlpn(text)
        except ConfigError as e:
            self.assertTrue(str(e).isprintable())
        else:
            self.assertTrue(names)
            for name in names:
                self.assertTrue(1 <= len(name.encode("ascii")) <= 255 and name.isprintable())

    def test_whatIsNoName(self) -> None:
        for text in "", ",", "h2,", "h2,,x":
            self.assertWrong(parseAlpn, text, "a name is missing; ")
        for text in "é", "a\tb", "x" * 256:
            self.assertWrong(parseAlpn, text, "a name must be 1 to 255 ASCII characters")
        self.assertWrong(parseAlpn, "h2, h2", "a name stands twice")
        long = ",".join(f"{n:0255}" for n in range(256))
        self.assertWrong(parseAlpn, long, "all names together must be less than 65535 bytes")
        self.assertEqual(len(parseAlpn(long.rpartition(",")[0])), 255)
