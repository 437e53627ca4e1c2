"""Who is at the other end of a TLS connection, for those who want to tell. Used by verify and
check.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, cast

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
