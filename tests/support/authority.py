"""A throw-away certificate authority: certificates and keys of every kind, as PEM files.

Each is made once for a process, because making keys takes time, and goes when the process ends.
"""

from __future__ import annotations

import ipaddress
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_FOLDER = tempfile.TemporaryDirectory(prefix="ptunnel-authority-")
DAY = timedelta(days=1)
NOW = datetime.now(timezone.utc).replace(microsecond=0)
PASSPHRASE = b"the passphrase of a test"


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key.

    @ivar cert: file of the certificate, and behind it what else its owner sends.
    @ivar key: file of the key, not encrypted.
    @ivar both: file of both.
    """

    cert: str
    key: str
    both: str
    certificate: x509.Certificate
    privateKey: Key


def write(name: str, data: bytes) -> str:
    """A file with some content; its path."""
    path = Path(_FOLDER.name, name)
    path.write_bytes(data)
    return str(path)


def _sign(
    title: str,
    issuer: Pair | None,
    extensions: list[tuple[Any, bool]],
    start: datetime = NOW - DAY,
    end: datetime = NOW + 30 * DAY,
    chain: tuple[Pair, ...] = (),
    key: Key | None = None,
) -> Pair:
    """@param issuer: None: itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    authorityKey = issuer.privateKey if issuer else key
    identifiers: list[tuple[Any, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authorityKey.public_key()), False),
    ]
    for extension, critical in extensions + identifiers:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(authorityKey, hashes.SHA256())
    pem = b"".join(
        c.public_bytes(serialization.Encoding.PEM)
        for c in (certificate, *(pair.certificate for pair in chain))
    )
    secret = keyPem(key)
    serial = f"{certificate.serial_number:x}"
    return Pair(
        cert=write(f"{serial}.cert", pem),
        key=write(f"{serial}.key", secret),
        both=write(f"{serial}.pem", secret + pem),
        certificate=certificate,
        privateKey=key,
    )


def keyPem(key: Key, passphrase: bytes | None = None, old: bool = False) -> bytes:
    """@param old: in the format that says `Proc-Type: 4,ENCRYPTED`."""
    form = serialization.PrivateFormat
    return key.private_bytes(
        serialization.Encoding.PEM,
        form.TraditionalOpenSSL if old else form.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


def _authority() -> list[tuple[Any, bool]]:
    return [(x509.BasicConstraints(ca=True, path_length=None), True)]


def _for(names: tuple[str, ...], usage: Any = ExtendedKeyUsageOID.SERVER_AUTH) -> Any:
    """The extensions of a certificate that is for some names and addresses."""
    found: list[Any] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    extensions: list[tuple[Any, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([usage]), False),
    ]
    if found:
        extensions.append((x509.SubjectAlternativeName(found), False))
    return extensions


@cache
def authority(title: str = "The Test Authority") -> Pair:
    """An authority; its `cert` is what a ca-file holds."""
    return _sign(title, None, _authority())


@cache
def intermediate() -> Pair:
    """An authority below that."""
    return _sign("The Test Intermediate", authority(), _authority())


@cache
def server(*names: str) -> Pair:
    """What a server of some names and addresses shows."""
    return _sign(names[0] if names else "nameless", authority(), _for(names))


def withNames(*names: x509.GeneralName) -> Pair:
    """A server's certificate for whatever there may be."""
    return withExtension(x509.SubjectAlternativeName(names))


def withExtension(extension: x509.ExtensionType) -> Pair:
    """A server's certificate with another extension in the place of names."""
    return _sign("odd", authority(), [*_for(()), (extension, False)])


@cache
def expired(*names: str) -> Pair:
    return _sign(names[0], authority(), _for(names), NOW - 3 * DAY, NOW - 2 * DAY)


@cache
def notYetValid(*names: str) -> Pair:
    return _sign(names[0], authority(), _for(names), NOW + 2 * DAY, NOW + 3 * DAY)


@cache
def selfSigned(*names: str) -> Pair:
    return _sign(names[0], None, _for(names))


@cache
def fromIntermediate(*names: str) -> Pair:
    """With the intermediate authority's certificate, as it should be."""
    return _sign(names[0], intermediate(), _for(names), chain=(intermediate(),))


@cache
def brokenChain(*names: str) -> Pair:
    """Without that."""
    return _sign(names[0], intermediate(), _for(names))


@cache
def stranger(*names: str) -> Pair:
    """From another authority, whose certificate is sent along."""
    other = authority("Somebody Else")
    return _sign(names[0], other, _for(names), chain=(other,))


@cache
def fromNoAuthority(*names: str) -> Pair:
    """From somebody who has a certificate, but is no authority."""
    middle = server("middle.example")
    return _sign(names[0], middle, _for(names), chain=(middle,))


@cache
def client(title: str = "alice") -> Pair:
    """A client's certificate."""
    return _sign(title, authority(), _for((), ExtendedKeyUsageOID.CLIENT_AUTH))


@cache
def notForServers(*names: str) -> Pair:
    """A client's certificate, with a server's names."""
    return _sign(names[0], authority(), _for(names, ExtendedKeyUsageOID.CLIENT_AUTH))


@cache
def fromStrangeAuthority(*names: str) -> Pair:
    """From an authority whose name would paint a terminal red."""
    other = authority("evil\n\x1b[31m authority")
    return _sign(names[0], other, _for(names), chain=(other,))


@cache
def selfSignedClient(title: str = "mallory") -> Pair:
    """A client's certificate that no server trusts."""
    return _sign(title, None, _for((), ExtendedKeyUsageOID.CLIENT_AUTH))


@cache
def rsaClient(title: str = "carol") -> Pair:
    """A client's certificate with an RSA key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _sign(title, authority(), _for((), ExtendedKeyUsageOID.CLIENT_AUTH), key=key)


@cache
def encryptedKey(pair: Pair, old: bool = False) -> str:
    """File of a pair's key, encrypted."""
    name = f"{pair.certificate.serial_number:x}.encrypted-{old}"
    return write(name, keyPem(pair.privateKey, PASSPHRASE, old))
