"""Who is at the other end of a TLS connection, for those who want to tell. Used by verify and
check.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName
from OpenSSL.crypto import X509
from OpenSSL.SSL import Connection
from twisted.internet.interfaces import ITransport


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a TLS connection, and how it is spoken to.

    @ivar version: "TLSv1.3", for example.
    @ivar cipher: OpenSSL's name of it.
    @ivar names: the host names and addresses that its certificate is for.
    @ivar notAfter: until when that is valid.
    """

    version: str
    cipher: str
    names: tuple[str, ...]
    notAfter: datetime | None


def connectionOf(transport: ITransport | None) -> Connection | None:
    """OpenSSL's connection under a transport; None where it does not speak TLS."""
    getHandle = getattr(transport, "getHandle", None)
    handle = None if getHandle is None else getHandle()
    return handle if isinstance(handle, Connection) else None


def endPointOf(connection: Connection) -> bytes:
    """What binds an authentication to a TLS server: `tls-server-end-point` (RFC 5929 section 4.1).

    @return: b"" where it is not defined: there is no certificate, it cannot be read, or it is
        signed without a hash.
    """
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return b""
    try:
        known = certificate.to_cryptography()
        algorithm = known.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return b""
    if algorithm is None:
        return b""
    if algorithm.name in ("md5", "sha1"):
        algorithm = SHA256()
    return b"tls-server-end-point:" + known.fingerprint(algorithm)


def peerOf(transport: ITransport) -> Peer:
    """Say who is there; what cannot be read of a certificate is left out.

    @param transport: one that TLS is spoken over, its handshake done.
    """
    connection: Connection = cast(Any, transport).getHandle()
    certificate = connection.get_peer_certificate()
    names: tuple[str, ...] = ()
    notAfter: datetime | None = None
    if certificate is not None:  # it is read as it was sent, where it is not verified
        with contextlib.suppress(ValueError):
            names = namesOf(certificate)
        with contextlib.suppress(ValueError):
            notAfter = momentOf(certificate.get_notAfter())
    return Peer(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        names=names,
        notAfter=notAfter,
    )


def namesOf(certificate: X509) -> tuple[str, ...]:
    """The host names and addresses that a certificate is for, as it has them."""
    try:
        extensions = certificate.to_cryptography().extensions
        found = extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found if isinstance(name, (DNSName, IPAddress)))


def momentOf(time: bytes | None) -> datetime | None:
    """A time as certificates have it (ASN.1 GeneralizedTime)."""
    if time is None:
        return None
    return datetime.strptime(time.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
