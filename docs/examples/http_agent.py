"""HTTP through a proxy's CONNECT, with twisted.web's Agent.

python http_agent.py PROXY_HOST PROXY_PORT URL [CA_FILE]
"""

import sys

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import react
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ptunnel import ConnectEndpoint, TlsEndpoint, TlsSettings
from ptunnel.tls import TlsContext


@implementer(IAgentEndpointFactory)
class ThroughProxy:
    """Says how the Agent reaches a URL's host."""

    def __init__(self, proxy, hop, caFile=None):
        self.proxy, self.hop = proxy, hop
        self.tls = TlsContext(TlsSettings(caFile=caFile, alpn=("http/1.1",)))

    def endpointForURI(self, uri):
        host = uri.host.decode("ascii").strip("[]")
        tunnel = ConnectEndpoint(self.proxy, host, uri.port, hop=self.hop)
        return TlsEndpoint(tunnel, self.tls, host) if uri.scheme == b"https" else tunnel


def agentThrough(reactor, host, port, caFile=None):
    proxy = HostnameEndpoint(reactor, host, int(port))
    pool = HTTPConnectionPool(reactor)  # a tunnel is kept, and serves the next request too
    return Agent.usingEndpointFactory(reactor, ThroughProxy(proxy, f"{host}:{port}", caFile), pool)


async def main(reactor, host, port, url, caFile=None):
    agent = agentThrough(reactor, host, port, caFile)
    response = await agent.request(b"GET", url.encode("ascii"))
    print(response.code, (await readBody(response)).decode())


if __name__ == "__main__":
    react(main, sys.argv[1:])
