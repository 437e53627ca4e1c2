"""Whatever an endpoint string leads to, and what it says until it closes. Of ptunnel it knows
nothing; that is installed, and so the string may begin with `httpconnect:`.

    python endpoint_string.py 'httpconnect:imap.gmail.com:143:proxy=http\\://proxy.example\\:3128'
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react


class Reader(Protocol):
    def __init__(self):
        self.ended = Deferred()

    def dataReceived(self, data):
        sys.stdout.write(data.decode("latin-1"))
        sys.stdout.flush()

    def connectionLost(self, reason):
        self.ended.callback(None)


async def main(reactor, description):
    reader = await clientFromString(reactor, description).connect(Factory.forProtocol(Reader))
    await reader.ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
