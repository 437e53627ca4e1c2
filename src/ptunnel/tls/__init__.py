"""TLS to a hop, a proxy or the target: the endpoint, its settings and files, and its failures."""

from typing import TYPE_CHECKING

from ptunnel.tls.failures import noHandshake, tlsFailure
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

if TYPE_CHECKING:
    from ptunnel.tls.endpoint import TlsEndpoint
    from ptunnel.tls.peer import Peer, connectionOf, endPointOf, namesOf, peerOf
else:

    def __getattr__(name: str) -> object:
        """Import what makes a connection, or looks at one, when it is used: most proxies are
        spoken to in clear, and settings need the rest only.
        """
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ptunnel.tls import endpoint, peer

        return getattr(endpoint if name == "TlsEndpoint" else peer, name)
