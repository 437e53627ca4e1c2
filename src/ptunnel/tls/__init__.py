"""TLS to a hop, a proxy or the target: the endpoint, its settings and files, and its failures."""

from ptunnel.tls.endpoint import TlsEndpoint
from ptunnel.tls.failures import noHandshake, tlsFailure
from ptunnel.tls.peer import Peer, connectionOf, endPointOf, namesOf, peerOf
from ptunnel.tls.settings import TlsContext, TlsFileError, TlsSettings, check

__all__ = [
    "Peer",
    "TlsContext",
    "TlsEndpoint",
    "TlsFileError",
    "TlsSettings",
    "check",
    "connectionOf",
    "endPointOf",
    "namesOf",
    "noHandshake",
    "peerOf",
    "tlsFailure",
]
