"""Tunnels of a program's own: each target gets a local port.

PROXY_PASSWORD=... python tunnels.py PROXY_HOST PROXY_PORT USER HOST:PORT [HOST:PORT ...]
"""

import os
import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.task import react

from ptunnel import ConnectEndpoint, Credentials, Login, TunnelFactory


async def main(reactor, host, port, user, *targets):
    proxy = HostnameEndpoint(reactor, host, int(port))
    credentials = Credentials(user, os.environ["PROXY_PASSWORD"])
    # One for all endpoints: what the proxy accepts is sent at once from then on, and what it
    # rejects is not sent again and again, which could lock the account.
    login = Login(credentials, host=host, hop=f"{host}:{port}")
    for target in targets:
        targetHost, _, targetPort = target.rpartition(":")
        endpoint = ConnectEndpoint(proxy, targetHost, int(targetPort), credentials=login)
        factory = TunnelFactory(endpoint, name=target, idleTimeout=3600.0)
        listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        print(f"127.0.0.1:{listening.getHost().port} leads to {target}", flush=True)
    await Deferred()  # until the program is ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
