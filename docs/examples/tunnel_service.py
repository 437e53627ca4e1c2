"""A tunnel as a part of a program's own MultiService. twistd runs it from tunnel.tac; embedded, a
program starts and stops it like its other services:

    python tunnel_service.py PROXY_ENDPOINT HOST PORT LISTEN_ENDPOINT
"""

import sys

from twisted.application.service import MultiService
from twisted.application.strports import service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react
from twisted.python.log import startLogging

from ptunnel import ConnectEndpoint, TunnelFactory


class TunnelService(MultiService):
    """Listens, and stops when all sessions have ended, or after some seconds."""

    def __init__(self, reactor, proxy, host, port, listen, patience=10.0):
        super().__init__()
        self.reactor, self.patience = reactor, patience
        endpoint = ConnectEndpoint(clientFromString(reactor, proxy), host, int(port))
        self.tunnel = TunnelFactory(endpoint, name=host)
        self.tunnel.noisy = True  # Twisted logs the port
        service(listen, self.tunnel, reactor).setServiceParent(self)

    @inlineCallbacks
    def stopService(self):
        yield super().stopService()  # from here on nobody new is let in
        deadline = self.reactor.callLater(self.patience, self.tunnel.abort)
        yield self.tunnel.drain()
        if deadline.active():
            deadline.cancel()


async def main(reactor, *arguments):
    startLogging(sys.stdout, setStdout=False)
    application = MultiService()
    TunnelService(reactor, *arguments).setServiceParent(application)
    application.privilegedStartService()  # raises, where the port is taken
    application.startService()
    reactor.addSystemEventTrigger("before", "shutdown", application.stopService)
    await Deferred()  # until the program is ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
