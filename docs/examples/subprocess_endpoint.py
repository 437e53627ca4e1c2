"""A tunnel through whatever a command speaks with on its standard input and output: an endpoint of
one's own, under a TunnelFactory.

    python subprocess_endpoint.py LISTEN_PORT COMMAND [ARGUMENT ...]

for example `ssh -W db.example.com:5432 gateway.example.com`.
"""

import socket
import sys

from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import react
from zope.interface import implementer

from ptunnel import TunnelFactory


@implementer(IStreamClientEndpoint)
class CommandEndpoint:
    """Each connection is a process of its own. It has a socket for its input and output, so that
    both directions end by themselves, and the kernel can splice."""

    def __init__(self, reactor, command):
        self.reactor, self.command = reactor, command

    def connect(self, factory):
        return execute(self._connect, factory)

    def _connect(self, factory):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fds = {0: theirs.fileno(), 1: theirs.fileno(), 2: 2}
            self.reactor.spawnProcess(
                ProcessProtocol(), self.command[0], self.command, env=None, childFDs=fds
            )
            ours.setblocking(False)
            protocol = factory.buildProtocol(None)
            known = Factory.forProtocol(lambda: protocol)
            self.reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, known)
        return protocol


async def main(reactor, port, *command):
    factory = TunnelFactory(CommandEndpoint(reactor, command), name=command[0])
    listening = await TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1").listen(factory)
    print(f"127.0.0.1:{listening.getHost().port} leads to {command[0]}", flush=True)
    await Deferred()  # until the program is ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
