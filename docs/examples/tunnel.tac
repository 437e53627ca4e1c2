# twistd -ny tunnel.tac, with PROXY and LISTEN, which are endpoint strings, and TARGET, host:port,
# in the environment.
import os
import sys

from twisted.application.service import Application
from twisted.internet import reactor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from tunnel_service import TunnelService

host, _, port = os.environ["TARGET"].rpartition(":")
tunnel = TunnelService(reactor, os.environ["PROXY"], host, port, os.environ["LISTEN"])

application = Application("tunnel")
tunnel.setServiceParent(application)
