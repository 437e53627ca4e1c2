"""What twistd and clientFromString find: the name of the service, and the endpoint parser. Twisted
imports this at every start of any twistd, so nothing of ours is imported until it is used."""

from __future__ import annotations

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class HTTPConnectParser:
    """`httpconnect:HOST:PORT:proxy=URL`; see L{ptunnel.route.clientstring}."""

    prefix = "httpconnect"

    # A string may have arguments of these names too: that is its mistake, and not a TypeError.
    def parseStreamClient(  # type: ignore[override]
        self, reactor: IReactorCore, /, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        from ptunnel.route.clientstring import parse

        return parse(reactor, *args, **kwargs)


ptunnel = ServiceMaker(
    "ptunnel", "ptunnel.tap", "Carry TCP connections through an HTTP proxy's CONNECT.", "ptunnel"
)
httpConnect = HTTPConnectParser()
