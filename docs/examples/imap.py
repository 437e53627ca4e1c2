"""An IMAP client through a proxy, over TLS: what can the server do?

python imap.py PROXY_HOST PROXY_PORT HOST PORT [CA_FILE]
"""

import sys

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.mail.imap4 import IMAP4Client

from ptunnel import ConnectEndpoint, TlsEndpoint, TlsSettings


async def main(reactor, proxyHost, proxyPort, host, port, caFile=None):
    proxy = HostnameEndpoint(reactor, proxyHost, int(proxyPort))
    tunnel = ConnectEndpoint(proxy, host, int(port), hop=f"{proxyHost}:{proxyPort}")
    secured = TlsEndpoint(tunnel, TlsSettings(caFile=caFile), host)
    client = await secured.connect(Factory.forProtocol(IMAP4Client))
    capabilities = await client.getCapabilities()
    print(*sorted(name.decode() for name in capabilities))
    await client.logout()


if __name__ == "__main__":
    react(main, sys.argv[1:])
