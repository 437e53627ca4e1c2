"""`ptunnel.config.proxies`: a [proxy] of the config file."""

from __future__ import annotations

import datetime
import functools
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ptunnel.auth import Secret
from ptunnel.config import (
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    Proxy,
)
from ptunnel.config.proxies import checkThrough
from ptunnel.errors import ConfigError
from ptunnel.tls import TlsSettings
from tests.config.test_ini import CANARY, PROXY, TUNNEL, IniTestCase

ALPN = ("http/1.1",)
TLS_PROXY = "[proxy corp]\nurl = https://proxy.example\n"


class ProxyCase(IniTestCase):
    def proxy(self, text: str, environ: dict[str, str] | None = None) -> Proxy:
        return self.read(text, environ).proxies["corp"]

    def absolute(self, name: str) -> str:
        return os.path.abspath(os.path.join(self.folder, name))


class CredentialsTests(ProxyCase):
    def credentials(
        self, keys: str, environ: dict[str, str] | None = None
    ) -> tuple[str | None, PasswordSource | None]:
        proxy = self.proxy(PROXY + keys, environ)
        return proxy.username, proxy.password

    def test_aPasswordFileIsRelativeToTheConfigFile(self) -> None:
        for data in b"s3cret", b"s3cret\n", b"s3cret\r\n", b"\xef\xbb\xbfs3cret\n":
            self.write("pw", data)
            credentials = self.credentials("username = alice\npassword-file = pw\n")
            self.assertEqual(credentials, ("alice", PasswordFile(self.absolute("pw"))))

    def test_aPasswordFileMayBeAbsolute(self) -> None:
        path = os.path.abspath(self.write("pw", b" x "))
        credentials = self.credentials(f"username = alice\npassword-file = {path}\n")
        self.assertEqual(credentials, ("alice", PasswordFile(path)))

    def test_aPasswordFileThatSystemdHandsOver(self) -> None:
        path = os.path.abspath(self.write("corp", b"x", 0o644))
        keys = "username = alice\npassword-file = credential:corp\n"
        # systemd writes no slash at the end, but somebody else may.
        for folder in os.path.dirname(path), os.path.dirname(path) + "/":
            environ = {"CREDENTIALS_DIRECTORY": folder}
            self.assertEqual(self.credentials(keys, environ), ("alice", PasswordFile(path)))

    def test_aCredentialThatSystemdDoesNotHandOver(self) -> None:
        keys = PROXY + "username = alice\npassword-file = credential:"
        where = '[proxy corp] password-file: "credential:'
        for environ in {}, {"CREDENTIALS_DIRECTORY": ""}:
            self.assertWrong(
                keys + "corp\n",
                f'{where}corp": CREDENTIALS_DIRECTORY is not set; '
                "systemd sets it for a unit that has LoadCredential=",
                environ,
            )
        environ = {"CREDENTIALS_DIRECTORY": self.folder}
        self.assertWrong(keys + "corp\n", f'{where}corp": No such file or directory', environ)
        for name in "", "..", "../corp", "/etc/passwd":
            self.assertWrong(
                keys + f"{name}\n",
                f'{where}{name}": not the name of a credential; write credential:NAME',
                environ,
            )

    def test_aPasswordFileThatIsNoFileIsNotWaitedFor(self) -> None:
        os.mkfifo(os.path.join(self.folder, "pipe"))
        for name in "pipe", "/dev/zero", "/dev/null":
            self.assertWrong(
                PROXY + f"username = alice\npassword-file = {name}\n",
                f'[proxy corp] password-file: "{name}": not a regular file',
            )

    def test_commandAndKeyringAreNotAskedYet(self) -> None:
        ran = self.absolute("ran")
        self.assertEqual(
            self.credentials(f"username = alice\npassword-command = touch {ran}\n"),
            ("alice", PasswordCommand(f"touch {ran}")),
        )
        self.assertFalse(os.path.exists(ran))
        self.assertEqual(
            self.credentials("username = alice\npassword-keyring = my proxy\n"),
            ("alice", PasswordKeyring("my proxy")),
        )

    def test_aUserNameIsCheckedWhateverThePasswordIs(self) -> None:
        for keys in "password-command = x", "password-keyring = x", "auth = negotiate":
            key, _, _ = keys.partition(" ")
            also = "" if key == "auth" else f" and {key}"
            self.assertWrong(
                PROXY + f"username = alice:{CANARY}\n{keys}\n",
                f"[proxy corp] username{also}: a user name must not hold a colon (RFC 7617)",
            )

    def test_aPasswordFileThatCannotBeUsed(self) -> None:
        os.mkdir(os.path.join(self.folder, "folder"))
        for name, data, reason in (
            ("missing", None, "No such file or directory"),
            ("folder", None, "Is a directory"),
            ("empty", b"", "the file is empty"),
            ("newline", b"\r\n", "the file is empty"),
            ("binary", b"\x80\0", "a binary file; it must be text in UTF-8"),
            (
                "lines",
                CANARY.encode() + b"\nx\n",
                "more than one line; it must be the password alone",
            ),
            ("second", b"\n" + CANARY.encode(), "the first line is empty"),
            ("wide", CANARY.encode("utf-16"), "UTF-16; it must be text in UTF-8"),
            ("latin", CANARY.encode() + b"\xe9", "not UTF-8"),
        ):
            if data is not None:
                self.write(name, data)
            self.assertWrong(
                PROXY + f"username = alice\npassword-file = {name}\n",
                f'[proxy corp] password-file: "{name}": {reason}',
            )

    def test_aPasswordThatBasicCannotCarry(self) -> None:
        self.write("pw", CANARY.encode() + b"\t\n")
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
        self.assertEqual(self.credentials(keys, {"PW": "x"}), ("alice", PasswordEnv("PW")))
        message = '[proxy corp] password-env: "PW": the variable is unset or empty'
        self.assertWrong(PROXY + keys, message)
        self.assertWrong(PROXY + keys, message, {"PW": ""})

    def test_aPasswordInPlaceOfTheNameOfAVariableIsNotShown(self) -> None:
        self.assertWrong(
            PROXY + f"username = alice\npassword-env = {CANARY}!\n",
            "[proxy corp] password-env: not the name of a variable",
        )

    def test_authNoneSendsNoCredentials(self) -> None:
        keys = "username = alice\npassword = x\n"
        self.assertEqual(self.credentials(keys + "auth = none\n"), (None, None))
        self.assertEqual(self.credentials(keys + "auth = basic\n"), ("alice", Secret("x")))

    def test_authIsAutoOrWhatIsWritten(self) -> None:
        self.assertEqual(self.proxy(PROXY).auth, "auto")
        keys = "username = alice\npassword = x\n"
        for auth in "auto", "basic", "digest", "ntlm", "negotiate", "none":
            self.assertEqual(self.proxy(f"{PROXY}{keys}auth = {auth}\n").auth, auth)

    def test_whatNeedsAPasswordSaysSo(self) -> None:
        for auth in "basic", "digest", "ntlm":
            self.assertWrong(
                PROXY + f"auth = {auth}\n",
                f"[proxy corp] auth: {auth} needs a username, and password-file or the like",
            )
            url = "[proxy corp]\nurl = http://alice:x@proxy\n"
            self.assertEqual(self.proxy(f"{url}auth = {auth}\n").password, Secret("x"))

    def test_aKerberosTicketNeedsNeitherUserNorPassword(self) -> None:
        self.assertEqual(self.credentials("auth = negotiate\n"), (None, None))
        self.assertEqual(self.credentials("auth = negotiate\nusername = a\n"), ("a", None))

    def test_oneOfUserAndPasswordIsNotEnough(self) -> None:
        self.assertWrong(
            PROXY + "username = alice\n",
            "[proxy corp] username: a password is missing; write password-file",
        )
        self.assertWrong(
            PROXY + f"password = {CANARY}\n",
            "[proxy corp] password: the key username is missing",
        )
        self.assertWrong(
            PROXY + f"password-command = {CANARY}\nauth = negotiate\n",
            "[proxy corp] password-command: the key username is missing",
        )

    def test_twoPasswordsAreTooMany(self) -> None:
        self.assertWrong(
            PROXY + f"username = alice\npassword-file = x\npassword = {CANARY}\n",
            "[proxy corp] password-file: password is given too; leave one of them out",
        )

    def test_aURLWithAUserAndKeysForOneAreTooMany(self) -> None:
        for key in (
            "username",
            "password",
            "password-file",
            "password-env",
            "password-command",
            "password-keyring",
        ):
            self.assertWrong(
                f"[proxy corp]\nurl = http://alice:{CANARY}@proxy\n{key} = {CANARY}\n",
                f"[proxy corp] {key}: the url has a user already; leave one of them out",
            )


class SocksTests(ProxyCase):
    """socks5:// and socks5h://."""

    SOCKS = "[proxy corp]\nurl = socks5h://proxy.example\n"

    def test_aUserAndPasswordAreGivenAsForAnyProxy(self) -> None:
        proxy = self.proxy(self.SOCKS + f"username = alice\npassword = {CANARY}\n")
        self.assertEqual((proxy.protocol, proxy.port, proxy.tls), ("socks5h", 1080, None))
        self.assertEqual((proxy.username, proxy.password), ("alice", Secret(CANARY)))
        none = self.proxy(self.SOCKS + f"username = alice\npassword = {CANARY}\nauth = none\n")
        self.assertIsNone(none.username)

    def test_itMayGoThroughOthersAndOthersThroughIt(self) -> None:
        text = f"{self.SOCKS}through = edge\n[proxy edge]\nurl = https://e.example\nthrough = s\n"
        proxies = self.read(f"{text}[proxy s]\nurl = socks5://s.example:9050\n").proxies
        self.assertEqual([p.protocol for p in proxies.values()], ["socks5h", "http", "socks5"])

    def test_keysThatMeanNothingToItAreMistakes(self) -> None:
        for line, message in (
            ("header = X-Team: mail", "header: a SOCKS proxy has no use for it; leave it out"),
            ("ca-file = x.pem", "ca-file: a SOCKS proxy has no use for it; leave it out"),
            ("verify = no", "verify: a SOCKS proxy has no use for it; leave it out"),
            *(
                (
                    f"auth = {auth}",
                    f"auth: {auth}: a SOCKS proxy takes user name and password as they are; "
                    "write auto or none",
                )
                for auth in ("basic", "digest", "ntlm", "negotiate")
            ),
        ):
            self.assertWrong(f"{self.SOCKS}{line}\n", f"[proxy corp] {message}")

    def test_whatDoesNotFitIsAMistake(self) -> None:
        self.write("pw", b"x" * 256)
        for keys, message in (
            (
                f"username = {'x' * 256}\npassword-command = x\n",
                "username and password-command: the user name is longer",
            ),
            (
                "username = alice\npassword-file = pw\n",
                "username and password-file: the password is longer",
            ),
        ):
            what = f"[proxy corp] {message} than the 255 bytes of SOCKS"
            self.assertWrong(self.SOCKS + keys, what)


class WarningTests(ProxyCase):
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

    def test_butNotOneThatSystemdKeepsFromOthers(self) -> None:
        path = os.path.abspath(self.write("pw", b"x", 0o444))
        text = PROXY + f"username = alice\npassword-file = {path}\n"
        environ = {"CREDENTIALS_DIRECTORY": os.path.dirname(path)}
        self.assertEqual(self.read(text, environ).warnings, ())
        environ = {"CREDENTIALS_DIRECTORY": os.path.dirname(os.path.dirname(path))}
        self.assertEqual(len(self.read(text, environ).warnings), 1)

    def test_aPasswordInAConfigFileThatOthersCanRead(self) -> None:
        for text in (
            PROXY + "username = alice\npassword = x\n",
            "[proxy corp]\nurl = http://alice:x@proxy\n",
        ):
            self.assertEqual(
                self.read(text, mode=0o604).warnings,
                (
                    f"{self.path}: [proxy corp]: the password can be read by others than "
                    "the file's owner; chmod 600 helps",
                ),
            )
            self.assertEqual(self.read(text, mode=0o600).warnings, ())

    def test_aConfigFileWithoutPasswordsMayBeOpen(self) -> None:
        self.assertEqual(self.read(PROXY + TUNNEL, mode=0o644).warnings, ())

    def test_aProxyThatIsNotVerified(self) -> None:
        self.assertEqual(
            self.read(TLS_PROXY + "verify = no\n").warnings,
            (
                f"{self.path}: [proxy corp]: verify = no: anyone between here and the proxy can "
                "read the password and the data",
            ),
        )
        self.assertEqual(self.read(TLS_PROXY + "verify = yes\n").warnings, ())

    def test_aPasswordFileThatLooksLikeUserAndPassword(self) -> None:
        for name, text, count in (
            ("alice", f"alice:{CANARY}", 1),
            ("CORP\\alice", f"Alice:{CANARY}", 1),
            ("alice@corp.example", f"alice:{CANARY}", 1),
            ("alice", f"alicex:{CANARY}", 0),
            ("alice", "alice", 0),
            ("alice", ":alice", 0),
        ):
            self.write("pw", text.encode())
            warnings = self.read(PROXY + f"username = {name}\npassword-file = pw\n").warnings
            expected = (
                f"{self.path}: [proxy corp] password-file: it begins with the user name and a "
                "colon; it must be the password alone",
            )
            self.assertEqual(warnings, expected * count)
        environ = {"WORD": f"alice:{CANARY}"}
        warnings = self.read(PROXY + "username = alice\npassword-env = WORD\n", environ).warnings
        self.assertEqual(len(warnings), 1)


class ReprTests(ProxyCase):
    def test_noReprShowsASecret(self) -> None:
        for key in "password", "password-command":
            text = f"{PROXY}username = alice\n{key} = {CANARY}\nheader = X-Key: {CANARY}\n"
            self.assertNotIn(CANARY, repr(self.read(text)))
        self.assertNotIn(CANARY, repr(self.read(f"[proxy a]\nurl = https://b:{CANARY}@p\n")))


class ThroughTests(ProxyCase):
    def test_aProxyMayGoThroughOneThatComesLater(self) -> None:
        file = self.read(PROXY + "through = the edge\n[proxy the  edge]\nurl = edge:1\n")
        self.assertEqual(file.proxies["corp"].through, "the edge")
        self.assertIsNone(file.proxies["the edge"].through)

    def test_aNameThatIsNoProxy(self) -> None:
        self.assertWrong(
            PROXY + "through = crop\n[proxy edge]\nurl = edge:1\n",
            '[proxy corp] through: "crop": there is no [proxy] of that name; did you mean corp?',
        )
        self.assertWrong(
            PROXY + "through = direct\n",
            '[proxy corp] through: "direct": direct means a connection without a proxy; '
            "leave the key out",
        )

    def test_aLoopIsNamed(self) -> None:
        self.assertWrong(
            PROXY + "through = edge\n[proxy edge]\nurl = edge:1\nthrough = corp\n",
            "[proxy corp] through: a loop: corp -> edge -> corp",
        )
        self.assertWrong(PROXY + "through = corp\n", "[proxy corp] through: a loop: corp -> corp")
        self.assertWrong(
            "[proxy a]\nurl = a:1\nthrough = corp\n" + PROXY + "through = corp\n",
            "[proxy corp] through: a loop: corp -> corp",
        )

    @given(st.lists(st.integers(-1, 7), min_size=8, max_size=8))
    def test_anyChainIsWithoutALoopOrRefused(self, following: list[int]) -> None:
        proxies = {
            str(n): Proxy(str(n), "h", 1, through=str(other) if other >= 0 else None)
            for n, other in enumerate(following)
        }
        ends = []
        for name in proxies:
            hop: str | None = name
            for _ in proxies:
                hop = proxies[hop].through if hop is not None else None
            ends.append(hop is None)
        try:
            checkThrough("f", proxies)
        except ConfigError as e:
            self.assertIn("a loop: ", str(e))
            self.assertFalse(all(ends))
        else:
            self.assertTrue(all(ends))


class TlsTests(ProxyCase):
    def test_withoutKeysItIsVerifiedByTheSystemsRoots(self) -> None:
        proxy = self.proxy(TLS_PROXY)
        self.assertEqual((proxy.host, proxy.port), ("proxy.example", 443))
        self.assertEqual(proxy.tls, TlsSettings(alpn=("http/1.1",)))
        self.assertIsNone(self.proxy(PROXY).tls)

    def test_nameAndVerification(self) -> None:
        tls = self.proxy(TLS_PROXY + "server-name = Other.example\nverify = no\n").tls
        self.assertEqual(tls, TlsSettings(serverName="Other.example", verify=False, alpn=ALPN))

    def test_filesAreRelativeToTheConfigFile(self) -> None:
        self.writePEMs()
        tls = self.proxy(TLS_PROXY + "ca-file = ca.pem\nclient-cert = both.pem\n").tls
        self.assertEqual(
            tls,
            TlsSettings(
                caFile=self.absolute("ca.pem"), certFile=self.absolute("both.pem"), alpn=ALPN
            ),
        )
        path = self.absolute("key.pem")
        tls = self.proxy(TLS_PROXY + f"client-cert = ca.pem\nclient-key = {path}\n").tls
        assert tls is not None
        self.assertEqual((tls.certFile, tls.keyFile), (self.absolute("ca.pem"), path))

    def test_aFileThatCannotBeUsedIsNamedAsItIsWritten(self) -> None:
        self.writePEMs()
        for keys, key, name in (
            ("ca-file = missing.pem", "ca-file", "missing.pem"),
            ("client-cert = missing.pem", "client-cert", "missing.pem"),
            ("client-cert = ca.pem\nclient-key = nokey.pem", "client-key", "nokey.pem"),
        ):
            error = self.assertRaises(ConfigError, self.read, f"{TLS_PROXY}{keys}\n")
            begin = f'{self.path}: [proxy corp] {key}: "{name}": '
            self.assertTrue(str(error).startswith(begin), error)
            self.assertTrue(str(error).isprintable())
            self.assertNotIn(self.absolute(name), str(error).removeprefix(begin))

    def test_aFileThatIsNoneIsNotWaitedFor(self) -> None:
        os.mkfifo(os.path.join(self.folder, "pipe"))
        for name in "pipe", ".", "/dev/null":
            self.assertWrong(
                f"{TLS_PROXY}ca-file = {name}\n",
                f'[proxy corp] ca-file: "{name}": not a regular file',
            )

    def test_aKeyIsForACertificate(self) -> None:
        self.assertWrong(
            TLS_PROXY + "client-key = key.pem\n",
            "[proxy corp] client-key: the key client-cert is missing",
        )

    def test_withoutTLSTheyAreAMistake(self) -> None:
        for line in (
            "ca-file = x",
            "client-cert = x",
            "client-key = x",
            "server-name = x",
            "verify = yes",
        ):
            self.assertWrong(
                PROXY + line + "\n",
                f"[proxy corp] {line.partition(' ')[0]}: "
                "only TLS has a use for it; write url = https://...",
            )

    def test_verifyIsYesOrNo(self) -> None:
        self.assertWrong(
            TLS_PROXY + "verify = off\n", '[proxy corp] verify: "off": must be yes or no'
        )

    def writePEMs(self) -> None:
        """A certificate of its own, its key, and both in one file."""
        certificate, key = selfSigned()
        self.write("ca.pem", certificate)
        self.write("key.pem", key)
        self.write("both.pem", certificate + key)
        self.write("nokey.pem", certificate)


@functools.cache
def selfSigned() -> tuple[bytes, bytes]:
    """A certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
