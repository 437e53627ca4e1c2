"""The peer of a TLS connection: its certificate, and the parameters agreed with it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL.crypto import X509
from OpenSSL.SSL import Connection
from twisted.internet.interfaces import ITransport

# How many names of a certificate a trace shows, and how many characters of them.
_SHOWN = 10
_MAX_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Peer:
    """The peer of a TLS connection, and the parameters agreed with it.

    @ivar version: "TLSv1.3", for example.
    @ivar cipher: OpenSSL's name of it.
    @ivar names: the host names and addresses in its certificate.
    @ivar notAfter: when the certificate expires.
    """

    version: str
    cipher: str
    names: tuple[str, ...]
    notAfter: datetime | None


def connectionOf(transport: ITransport | None) -> Connection | None:
    """Return OpenSSL's connection under a transport; None for a transport without TLS."""
    getHandle = getattr(transport, "getHandle", None)
    handle = None if getHandle is None else getHandle()
    return handle if isinstance(handle, Connection) else None


def endPointOf(connection: Connection) -> bytes:
    """Return the channel binding `tls-server-end-point` (RFC 5929 section 4.1).

    @return: b"" if it is not defined: there is no certificate, it cannot be read, or it is signed
        without a hash.
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
    """Return the peer. Parts of the certificate that cannot be read are left out.

    @param transport: a TLS transport whose handshake is done.
    """
    connection: Connection = cast(Any, transport).getHandle()
    certificate = connection.get_peer_certificate()
    names: tuple[str, ...] = ()
    notAfter: datetime | None = None
    if certificate is not None:  # unverified, it may be malformed
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


def described(peer: Peer) -> str:
    """Return the words of a trace about the peer: version, cipher, names and expiry."""
    names = ", ".join(peer.names[:_SHOWN]) or "no name"
    if len(names) > _MAX_SHOWN or len(peer.names) > _SHOWN:
        names = f"{names[:_MAX_SHOWN]} and more"
    until = "" if peer.notAfter is None else f", until {peer.notAfter:%Y-%m-%d %H:%M} UTC"
    return f"{peer.version}, {peer.cipher}, certificate for {names}{until}"


def namesOf(certificate: X509) -> tuple[str, ...]:
    """Return the host names and addresses in a certificate, as they are written there."""
    return tuple(name for name, _ in alternativesOf(certificate))


def alternativesOf(certificate: X509) -> Iterator[tuple[str, bool]]:
    """Yield each host name and address in a certificate, and whether it is an address.

    Entries are read one by one (RFC 5280 section 4.2.1.6). A library that parses them together
    rejects all for one that is invalid: a name that is not ASCII, an address of five bytes.
    """
    for tag, value in _alternatives(certificate.to_cryptography().tbs_certificate_bytes):
        if tag == _DNS_NAME:
            yield value.decode("utf-8", "replace"), False
        elif tag == _IP_ADDRESS and len(value) in (4, 16):
            yield str(ipaddress.ip_address(value)), True


_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_EXTENSIONS = 0xA3
_SUBJECT_ALTERNATIVE_NAME = b"\x55\x1d\x11"


def _alternatives(certificate: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the GeneralNames of a TBSCertificate, in DER."""
    for _, fields in _items(certificate):
        for tag, value in _items(fields):
            if tag != _EXTENSIONS:
                continue
            for _, extensions in _items(value):
                for _, extension in _items(extensions):
                    (_, oid), *_, (_, content) = _items(extension)
                    if oid == _SUBJECT_ALTERNATIVE_NAME:
                        for _, names in _items(content):
                            yield from _items(names)


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each item in DER. @raise ValueError: for other bytes."""
    while data:
        if len(data) < 2:
            raise ValueError("a certificate that is cut off")
        length, start = data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        if start + length > len(data):
            raise ValueError("a certificate that is cut off")
        yield data[0], data[start : start + length]
        data = data[start + length :]


def momentOf(time: bytes | None) -> datetime | None:
    """Parse a time of a certificate (ASN.1 GeneralizedTime)."""
    if time is None:
        return None
    return datetime.strptime(time.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
