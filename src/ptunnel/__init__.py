"""TCP tunnels through an HTTP proxy's CONNECT method, for Twisted programs.

ConnectEndpoint(proxyEndpoint, "imap.gmail.com", 993)   an IStreamClientEndpoint
TunnelFactory(anyClientEndpoint)                        an IProtocolFactory to listen with
splice(transportA, transportB)                          a Deferred that fires at the end of both
"""

from ptunnel._version import __version__
from ptunnel.auth import Credentials
from ptunnel.endpoint import ConnectEndpoint
from ptunnel.login import Login
from ptunnel.splice import Ended, splice
from ptunnel.tunnel import TunnelFactory

__all__ = [
    "ConnectEndpoint",
    "Credentials",
    "Ended",
    "Login",
    "TunnelFactory",
    "__version__",
    "splice",
]
