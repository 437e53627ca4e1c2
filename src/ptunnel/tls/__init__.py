"""TLS to a hop, be it a proxy or the target: an endpoint over any other, the files that it needs,
and words for what goes wrong. Used by config, route, target and check, and by programs that import
ptunnel.
"""

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
