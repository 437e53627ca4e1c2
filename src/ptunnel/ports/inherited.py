"""Checks for endpoint strings that listen on Unix sockets or on sockets from systemd."""

from __future__ import annotations

import os
import re
import socket
import stat
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from zope.interface import directlyProvides, providedBy

from ptunnel.ports.handed import HandedSocket
from ptunnel.ports.unixport import UnixPort, Unusable, adoptUnix, listenUnix

_NO_SOCKET = "systemd has passed no such socket"
_DOMAINS = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


class Listening:
    """A reactor for L{twisted.internet.endpoints.serverFromString}.

    Its Unix sockets are private unless the string has a mode, and inherited sockets are checked
    before they are used. Everything else is the reactor's.
    """

    def __init__(self, reactor: Any, description: str, handed: HandedSocket | None = None) -> None:
        """
        @param description: the endpoint string.
        @param handed: a socket that listens there already.
        """
        self._reactor = reactor
        self._handed = handed
        self._hasMode = re.search(r":mode=", description) is not None
        directlyProvides(self, *providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenUNIX(
        self,
        address: str | bytes,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        path = os.path.abspath(os.fsdecode(address))
        mode = mode if self._hasMode else 0o600
        if self._handed is not None:
            return adoptUnix(self._reactor, path, factory, mode, self._handed)
        return listenUnix(self._reactor, path, factory, mode, backlog)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        if self._handed is not None:
            return self._adopt(factory, self._handed)
        listening: IListeningPort = self._reactor.listenTCP(port, factory, backlog, interface)
        return listening

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        if self._handed is not None:
            from twisted.protocols.tls import TLSMemoryBIOFactory  # rarely needed

            encrypted: Any = TLSMemoryBIOFactory(contextFactory, False, factory)
            return self._adopt(encrypted, self._handed)
        more = contextFactory, backlog, interface
        listening: IListeningPort = self._reactor.listenSSL(port, factory, *more)
        return listening

    def _adopt(self, factory: IProtocolFactory, handed: HandedSocket) -> IListeningPort:
        port = self.adoptStreamPort(handed.descriptor, socket.AF_INET, factory)
        os.close(handed.descriptor)  # the port has a duplicate
        return port

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> IListeningPort:
        """Listen on a duplicate of an inherited socket. Its real family replaces `addressFamily`.

        @raise CannotListenError: for a descriptor that is not a listening socket.
        """
        try:
            family = _familyOf(fileDescriptor)
        except (OSError, Unusable) as e:
            raise CannotListenError(None, fileDescriptor, e) from None
        if family != socket.AF_UNIX:
            adopted: IListeningPort = self._reactor.adoptStreamPort(fileDescriptor, family, factory)
            return adopted
        port = UnixPort(socket.socket(fileno=os.dup(fileDescriptor)), factory, self._reactor)
        port.startListening()
        return port


def _familyOf(descriptor: int) -> int:
    """Return the family of a listening socket.

    @raise Unusable: for anything else.
    """
    what = f"descriptor {descriptor}, which was passed to it,"
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise Unusable(f"{what} is not a socket; ListenStream= makes one")
    with socket.socket(fileno=os.dup(descriptor)) as skt:
        if skt.type != socket.SOCK_STREAM:
            raise Unusable(f"{what} is not a stream socket; write ListenStream= in its unit")
        if skt.family not in _DOMAINS:
            raise Unusable(f"{what} is neither of INET nor INET6 nor UNIX")
        if not skt.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Unusable(f"{what} does not listen; write Accept=no in the .socket unit")
        return skt.family


def isFromSystemd(description: str) -> bool:
    """Return whether an endpoint string names a socket of systemd."""
    return re.match(r"(?:haproxy:)?systemd:", description) is not None


def noSocket() -> str:
    """Return the reason why there is no socket for a `systemd:` string."""
    environ = _atStart()
    if not environ.get("LISTEN_FDS"):
        return f"{_NO_SOCKET}; start it by its .socket unit"
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return (
            f"the sockets are for process {environ.get('LISTEN_PID')} (LISTEN_PID) and this one is "
            f"{os.getpid()}; systemd must start ptunnel itself, or a script must exec it"
        )
    names = environ.get("LISTEN_FDNAMES", "")
    if names:
        return f"{_NO_SOCKET}; it has passed {', '.join(names.split(':'))}"
    return (
        "the sockets came without a name for each (LISTEN_FDNAMES); give them one by "
        "FileDescriptorName= in the .socket unit, or systemd-socket-activate --fdname=NAME"
    )


def _atStart() -> dict[str, str]:
    """Return the environment at the start of the process; Twisted removes these variables."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = os.fsdecode(file.read()).split("\0")
    except OSError:
        return dict(os.environ)
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
