"""What twistd finds: the name of the service. Twisted imports this at every start of any twistd,
so it imports nothing of ours."""

from twisted.application.service import ServiceMaker

ptunnel = ServiceMaker(
    "ptunnel", "ptunnel.tap", "Carry TCP connections through an HTTP proxy's CONNECT.", "ptunnel"
)
