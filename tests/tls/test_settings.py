"""The files that TLS needs: `ptunnel.tls.settings`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import PtunnelError
from ptunnel.log import Log
from ptunnel.tls import TlsContext, TlsFileError, TlsSettings, check
from tests.support import authority
from tests.support.fakes import observe, said
from tests.support.tlswire import Case, Server


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.alice = authority.client()
        self.ca = authority.authority().cert

    def mistake(self, **settings: Any) -> TlsFileError:
        error = self.assertRaises(TlsFileError, check, TlsSettings(**settings))
        self.assertIsInstance(error, PtunnelError)
        self.assertEqual(error.path, settings.get(error.field))
        self.assertEqual(str(error), f"{error.path}: {error.message}")
        return error

    def test_goodFilesPass(self) -> None:
        for settings in (
            TlsSettings(),
            TlsSettings(caFile=self.ca),
            TlsSettings(certFile=self.alice.both),
            TlsSettings(certFile=self.alice.cert, keyFile=self.alice.key),
            TlsSettings(caFile=self.ca, certFile=self.alice.cert, keyFile=self.alice.both),
        ):
            check(settings)

    def test_aMissingFile(self) -> None:
        for field in "caFile", "certFile":
            error = self.mistake(**{field: "/nowhere/at/all"})
            self.assertEqual((error.field, error.message), (field, "there is no such file"))
        error = self.mistake(certFile=self.alice.cert, keyFile="/nowhere/at/all")
        self.assertEqual((error.field, error.message), ("keyFile", "there is no such file"))

    def test_anUnreadableFile(self) -> None:
        self.assertEqual(self.mistake(caFile="/").message, "it cannot be read: is a directory")
        self.assertIn("cannot be read", self.mistake(certFile="a\0b").message)

    def test_aFileWithoutACertificate(self) -> None:
        empty, text = authority.write("empty", b""), authority.write("text", b"hello\n")
        for path in empty, text, self.alice.key:
            for field in "caFile", "certFile":
                error = self.mistake(**{field: path})
                self.assertEqual((error.field, error.message), (field, "no certificate in it"))

    def test_aCertificateThatIsBroken(self) -> None:
        pem = b"-----BEGIN CERTIFICATE-----\nabc!\n-----END CERTIFICATE-----\n"
        for field in "caFile", "certFile":
            error = self.mistake(**{field: authority.write("broken", pem)})
            self.assertIn("no certificate that can be used in it (bad base64", error.message)

    def test_aFileWithoutAKey(self) -> None:
        error = self.mistake(certFile=self.alice.cert)
        self.assertEqual((error.field, error.message), ("certFile", "no private key in it"))
        error = self.mistake(certFile=self.alice.cert, keyFile=self.ca)
        self.assertEqual((error.field, error.message), ("keyFile", "no private key in it"))

    def test_aKeyThatDoesNotFit(self) -> None:
        for key in authority.client("bob").key, authority.rsaClient().key:
            error = self.mistake(certFile=self.alice.cert, keyFile=key)
            self.assertEqual(error.field, "keyFile")
            self.assertEqual(error.message, "the key does not fit the certificate")

    def test_aKeyOfAnotherKind(self) -> None:
        pair = authority.rsaClient()
        check(TlsSettings(certFile=pair.cert, keyFile=pair.key))

    def test_anEncryptedKey(self) -> None:
        for key in authority.encryptedKey(self.alice), authority.encryptedKey(self.alice, old=True):
            error = self.mistake(certFile=self.alice.cert, keyFile=key)
            self.assertEqual(error.field, "keyFile")
            self.assertIn("the key is encrypted, and nobody is there to be asked", error.message)
            self.assertIn("remove its passphrase", error.message)
            self.assertNotIn(authority.PASSPHRASE.decode(), str(error))

    def test_anEncryptedKeyAsksForNothingOnATerminal(self) -> None:
        settings = f"certFile={self.alice.cert!r}, keyFile={authority.encryptedKey(self.alice)!r}"
        program = (
            "import ptunnel.tls as t\n"
            f"try: t.check(t.TlsSettings({settings}))\n"
            "except t.TlsFileError: print('refused')\n"
        )
        ours, its = pty.openpty()
        try:
            command = [sys.executable, "-c", program]
            done = subprocess.run(
                command,
                stdin=its,
                stdout=its,
                stderr=its,
                timeout=60,
                start_new_session=True,
                check=False,
            )
            self.assertEqual((done.returncode, os.read(ours, 1000)), (0, b"refused\r\n"))
        finally:
            os.close(ours)
            os.close(its)


class ReloadTests(Case):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.events = observe(self)
        self.put(authority.authority("Somebody Else").cert)
        settings = TlsSettings(caFile=str(self.path))
        self.context = TlsContext(settings, log=Log("debug"), subject="corp")

    def put(self, source: str) -> None:
        """Put another file in the place of the old one, as careful programs do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(Path(source).read_bytes())
        fresh.replace(self.path)

    def test_theSameFilesAreReadOnce(self) -> None:
        self.assertIs(self.context.current(), self.context.current())

    def test_aChangedFileCountsFromTheNextConnectionOn(self) -> None:
        self.refused(Server(), self.context)
        self.put(authority.authority().cert)
        self.successResultOf(self.connect(Server(), self.context))
        self.assertEqual(said(self.events), [])

    def test_renewedItReadsWhatLooksTheSame(self) -> None:
        self.put(authority.authority("Another").cert)
        before = self.context.current()
        self.context.renew()
        after = self.context.current()
        self.assertIsNot(after, before)
        self.assertIs(self.context.current(), after)

    def test_renewedItReadsTheAuthoritiesOfTheSystemAgain(self) -> None:
        context = TlsContext(TlsSettings())
        before = context.current()
        self.assertIs(context.current(), before)
        context.renew()
        self.assertIsNot(context.current(), before)

    def test_aFileThatIsOfNoUseChangesNothingAndIsMentionedOnce(self) -> None:
        before = self.context.current()
        self.path.write_bytes(b"")
        self.assertIs(self.context.current(), before)
        self.assertIs(self.context.current(), before)
        (line,) = said(self.events)
        self.assertEqual(
            line,
            f"warn corp: going on with the old certificates: {self.path}: no certificate in it",
        )
        self.path.unlink()
        self.assertIs(self.context.current(), before)
        self.assertEqual(len(self.events), 2)
        self.put(authority.authority().cert)
        self.assertIsNot(self.context.current(), before)
        self.assertEqual(len(self.events), 2)

    def test_withoutALogItIsSilent(self) -> None:
        context = TlsContext(self.context.settings)
        before = context.current()
        self.path.unlink()
        self.assertIs(context.current(), before)
        self.assertEqual(self.events, [])

    def test_filesThatNeverWereOfUseAreTriedAgain(self) -> None:
        self.path.unlink()
        self.assertRaises(TlsFileError, self.context.current)
        self.assertRaises(TlsFileError, self.context.current)
        self.put(authority.authority().cert)
        self.assertIsNotNone(self.context.current())

    def test_allTheFilesAreLookedAt(self) -> None:
        alice, bob = authority.client(), authority.client("bob")
        cert, key = Path(self.mktemp()), Path(self.mktemp())
        cert.write_bytes(Path(alice.cert).read_bytes())
        key.write_bytes(Path(alice.key).read_bytes())
        context = TlsContext(TlsSettings(certFile=str(cert), keyFile=str(key)))
        before = context.current()
        cert.write_bytes(Path(bob.cert).read_bytes())
        self.assertIs(context.current(), before)  # half of it is there
        key.write_bytes(Path(bob.key).read_bytes())
        self.assertIsNot(context.current(), before)
