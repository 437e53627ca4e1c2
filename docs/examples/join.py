"""Two connections joined: what one side sends the other gets, until both have ended.

python join.py HOST:PORT HOST:PORT
"""

import sys

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from ptunnel import splice


async def main(reactor, *addresses):
    transports = []
    for text in addresses:
        host, _, port = text.rpartition(":")
        endpoint = HostnameEndpoint(reactor, host, int(port))
        protocol = await endpoint.connect(Factory.forProtocol(Protocol))
        # What comes before they are joined would be this protocol's, and be lost.
        protocol.transport.pauseProducing()
        transports.append(protocol.transport)
    ended = await splice(*transports, idleTimeout=60.0)
    print(f"{ended.sent} bytes one way, {ended.received} the other: {ended.cause}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
