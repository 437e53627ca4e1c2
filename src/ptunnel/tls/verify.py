"""Verifies a hop's certificate, and words its refusal."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.errors import CertificateRefused, reasonOf
from ptunnel.text import printable
from ptunnel.tls.failures import overTls
from ptunnel.tls.peer import alternativesOf, momentOf, namesOf

# The most names of a certificate that a message shows; some certificates have hundreds.
_SHOWN = 4

_Refusal = tuple[str, Cause]
"""The fault of a certificate, in words, and its cause."""


def judge(
    certificate: X509, number: int, depth: int, *, name: str, hop: str
) -> CertificateRefused | None:
    """Return the error for an invalid certificate; None for a valid one. It raises nothing.

    @param number: OpenSSL's number of the fault (x509_vfy.h); 0 for none.
    @param depth: 0 for the hop's own certificate, 1 for its issuer's, and so on.
    @param name: the name or address that must be in the hop's own.
    @param hop: the name of the hop in the error.
    """
    refusal: _Refusal | None
    try:
        if number:
            refusal = _inWords(certificate, number, depth)
        else:
            refusal = None if depth else _misnamed(certificate, name)
    except Exception as e:  # an exception cannot pass through OpenSSL
        refusal = f"its certificate makes no sense: {_plain(reasonOf(e))}", causes.CERTIFICATE
    if refusal is None:
        return None
    what, cause = refusal
    validFrom = None
    if cause is causes.CERTIFICATE_EARLY:
        validFrom = momentOf(certificate.get_notBefore())
    message = overTls(hop, what)
    return CertificateRefused(message, hop=hop, hint=cause.hint, cause=cause, validFrom=validFrom)


def isAddress(name: str) -> bool:
    """Return whether a name is an address literal, which has other rules."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _inWords(certificate: X509, number: int, depth: int) -> _Refusal:
    parsed = certificate.to_cryptography()
    issuer = _titleOf(parsed.issuer)
    whose = "its certificate"
    if depth:
        whose = f'the certificate of its authority "{_titleOf(parsed.subject)}"'
    if number == 9:
        since = f"{whose} is not valid before {_time(certificate.get_notBefore())}"
        return since, causes.CERTIFICATE_EARLY
    if number == 10:
        until = f"{whose} expired on {_time(certificate.get_notAfter())}"
        return until, causes.CERTIFICATE_EXPIRED
    if number == 18:
        own = "its certificate is self-signed: no authority vouches for it"
        return own, causes.CERTIFICATE_SELF_SIGNED
    if number in {20, 21} and depth == 0:
        return (
            f'its certificate is from "{issuer}", which is not known here, and no certificate '
            "that leads to a known authority came with it",
            causes.CERTIFICATE_CHAIN,
        )
    if number in {2, 19, 20, 21}:
        return (
            f'its certificate is from an authority that is not known here, "{issuer}"',
            causes.CERTIFICATE_AUTHORITY,
        )
    what = _OTHERS.get(number, f"is refused with error {number} of OpenSSL")
    return f"{whose} {what}", causes.CERTIFICATE


# OpenSSL has words for these numbers, but pyOpenSSL does not offer them.
_OTHERS = {
    7: "has a wrong signature",
    22: "has a chain that is too long",
    23: "has been revoked",
    24: "is not an authority's",
    25: "is not an authority's for so long a chain",
    26: "is not one for a server",
    27: "is not trusted",
    28: "is rejected",
    47: "is for names that its authority may not vouch for",
    66: "has a key that is too weak",
    67: "has a key that is too weak",
    68: "has a signature that is too weak",
    79: "is not an authority's",
}


def _misnamed(certificate: X509, name: str) -> _Refusal | None:
    if any(_isFor(found, address, name) for found, address in alternativesOf(certificate)):
        return None
    names = namesOf(certificate)
    if not names:
        nameless = "its certificate names no host (a common name alone does not count)"
        return nameless, causes.CERTIFICATE
    shown = ", ".join(_plain(n) for n in names[:_SHOWN])
    if len(names) > _SHOWN:
        shown += f" and {len(names) - _SHOWN} more"
    return f"its certificate is for {shown}, not for {name}", causes.CERTIFICATE_NAME


def _isFor(found: str, address: bool, name: str) -> bool:
    """Return whether a name or address of a certificate is the hop's."""
    if address or isAddress(name):
        return address and isAddress(name) and found == str(ipaddress.ip_address(name))
    try:
        verify_certificate_hostname(cast(Any, _Single(found)), name)
    except (CertificateError, VerificationError, ValueError):
        return False  # another name, or an invalid one
    return True


class _Single:
    """The part of a certificate that service_identity reads, with one name. With several it would
    reject all for one that is invalid.
    """

    def __init__(self, name: str) -> None:
        """@raise ValueError: for a name that is not ASCII."""
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        oid = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        self.extensions = x509.Extensions([x509.Extension(oid, False, names)])


def _titleOf(name: Any) -> str:
    """Return the name of an authority, for people."""
    for oid in NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME:
        for attribute in name.get_attributes_for_oid(oid):
            return _plain(str(attribute.value))
    return _plain(name.rfc4514_string())


def _plain(text: str) -> str:
    return printable(text)[:100]


def _time(time: bytes | None) -> str:
    return f"{momentOf(time):%Y-%m-%d %H:%M} UTC"
