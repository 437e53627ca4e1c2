"""A local port whose clients are joined to a target by hand, through a proxy.

python door.py PROXY_HOST PROXY_PORT TARGET_HOST TARGET_PORT
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from ptunnel import ConnectEndpoint, splice


class Door(Protocol):
    """Joins its client to a target, and says how it ended."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def connectionMade(self):
        self.transport.pauseProducing()  # not a byte before there is somewhere to send it
        Deferred.fromCoroutine(self.carry())

    async def carry(self):
        try:
            outgoing = await self.endpoint.connect(Factory.forProtocol(Protocol))
        except Exception as why:
            print(f"no tunnel: {why}", flush=True)
            self.transport.abortConnection()
            return
        ended = await splice(self.transport, outgoing.transport, idleTimeout=3600)
        print(f"{ended.sent} bytes out, {ended.received} in: {ended.cause}", flush=True)


async def main(reactor, proxyHost, proxyPort, host, port):
    proxy = HostnameEndpoint(reactor, proxyHost, int(proxyPort))
    target = ConnectEndpoint(proxy, host, int(port))
    doors = Factory.forProtocol(lambda: Door(target))
    local = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(doors)
    print(f"127.0.0.1:{local.getHost().port} leads to {host}:{port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
