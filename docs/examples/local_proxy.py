"""A local SOCKS and HTTP proxy of a program's own, behind another proxy.

python local_proxy.py PROXY_HOST PROXY_PORT [TARGETS]
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.task import react

from ptunnel import ConnectEndpoint, DoorFactory


async def main(reactor, host, port, targets=None):
    proxy = HostnameEndpoint(reactor, host, int(port))

    def lead(targetHost, targetPort):
        return ConnectEndpoint(proxy, targetHost, targetPort)

    factory = DoorFactory(lead, name="local proxy", targets=targets)
    listening = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    print(f"socks5h://127.0.0.1:{listening.getHost().port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
