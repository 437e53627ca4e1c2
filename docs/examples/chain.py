"""Through several proxies, one behind the other, and then what the target says first.

python chain.py HOST:PORT PROXY_HOST:PORT [PROXY_HOST:PORT ...]
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from ptunnel import ConnectEndpoint
from ptunnel.errors import TunnelError


class Listener(Protocol):
    def __init__(self):
        self.heard = Deferred()

    def dataReceived(self, data):
        if not self.heard.called:
            self.heard.callback(data)


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


async def main(reactor, target, *proxies):
    endpoint = HostnameEndpoint(reactor, *address(proxies[0]))
    for proxy, following in zip(proxies, [*proxies[1:], target], strict=True):
        endpoint = ConnectEndpoint(endpoint, *address(following), hop=proxy, timeout=10.0)
    try:
        listener = await endpoint.connect(Factory.forProtocol(Listener))
    except TunnelError as e:
        raise SystemExit(f"{type(e).__name__} at {e.hop}: {e}") from None
    print((await listener.heard).decode("latin-1"), end="")
    listener.transport.abortConnection()


if __name__ == "__main__":
    react(main, sys.argv[1:])
