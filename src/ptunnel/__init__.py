"""TCP tunnels through an HTTP proxy's CONNECT method, for Twisted programs.

ConnectEndpoint(proxyEndpoint, "imap.gmail.com", 993)   an IStreamClientEndpoint
TlsEndpoint(anyClientEndpoint, TlsSettings(), host)     the same, with TLS over it
TunnelFactory(anyClientEndpoint)                        an IProtocolFactory to listen with
DoorFactory(makesAnEndpointForATarget)                  the same: a local SOCKS and HTTP proxy
splice(transportA, transportB)                          a Deferred that fires at the end of both

docs/embedding.md is their manual, and ptunnel.errors has their failures.
"""

from ptunnel import _folder as _folder
from ptunnel._version import __version__
from ptunnel.auth import Credentials
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.login.login import Login
from ptunnel.relay.outcome import Ended
from ptunnel.relay.splice import splice
from ptunnel.tls import TlsSettings

__all__ = [
    "ConnectEndpoint",
    "Credentials",
    "DoorFactory",
    "Ended",
    "Login",
    "TlsEndpoint",
    "TlsSettings",
    "TunnelFactory",
    "__version__",
    "splice",
]

TYPE_CHECKING = False  # true for type checkers; `typing` may not be imported before _folder
if TYPE_CHECKING:
    from ptunnel.door.factory import DoorFactory
    from ptunnel.session.tunnel import TunnelFactory
    from ptunnel.tls import TlsEndpoint
else:

    def __getattr__(name: str) -> object:
        """Import the listening side and TLS when they are used; `ptunnel connect`, which ssh starts
        for each connection, does not listen, and speaks to most proxies in clear.
        """
        if name == "TunnelFactory":
            from ptunnel.session.tunnel import TunnelFactory

            return TunnelFactory
        if name == "DoorFactory":
            from ptunnel.door.factory import DoorFactory

            return DoorFactory
        if name == "TlsEndpoint":
            from ptunnel.tls import TlsEndpoint

            return TlsEndpoint
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
