"""TCP connections accepted and made on a Watch, at a fraction of the cost of Twisted's.

They are Twisted's own, without the parts that a tunnel does not need: bytes are sent at once where
possible, reading starts paused, and connecting takes no connector and none of its turns of the
reactor. Linux only.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, NoProtocol, getConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.log import traceOf
from ptunnel.net.epoll import IN, OUT, Watch, watchOf

_log = Logger()


def _address(sockaddr: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    return (IPv4Address if len(sockaddr) == 2 else IPv6Address)("TCP", *sockaddr)


class Socket(tcp.Connection):
    """A connected socket on a Watch. It starts paused.

    @ivar interest: the events that its Watch waits for.
    """

    interest, connected = 0, 1
    # No other process has the descriptor, so closing it is enough.
    _shouldShutdown = False
    logstr = "Socket"

    def __init__(
        self,
        skt: socket.socket,
        protocol: IProtocol,
        peer: tuple[Any, ...],
        server: Any = None,
        number: int = 0,
        reactor: Any = None,
    ) -> None:
        """The signature that a Port calls. @param peer: a sockaddr. @param reactor: a Watch."""
        super().__init__(skt, protocol, reactor)
        self._peer, self._tlsClientDefault = peer, server is None  # startTLS asks for the latter

    def write(self, data: bytes) -> None:
        if self.TLS:  # since startTLS
            super().write(data)
            return
        if self.connected and not self.interest & OUT and not self._writeDisconnected:
            sent = self.writeSomeData(data)
            if isinstance(sent, int):  # else it is lost, which its next event shows
                data = data[sent:]
        if data:
            super().write(data)

    def readAtOnce(self) -> None:
        """Read what it has brought, if it is not read yet. This spares a turn of the reactor."""
        watch: Any = self.reactor
        if not self.interest and (why := self.doRead()):
            watch.lose(self, why, True)

    def stopReading(self) -> None:
        if self.interest:  # else it is paused, or its Watch has another member for the socket
            super().stopReading()

    def stopWriting(self) -> None:
        if self.interest:
            super().stopWriting()

    def connectionLost(self, reason: Failure) -> None:
        if reason is not connectionDone or self.interest or self.producer is not None:
            super().connectionLost(reason)
        elif self.connected:  # the same, for what ends in order and nobody watches any more
            protocol, skt = self.protocol, self.socket
            self.connected, self.disconnected = 0, 1
            del self.protocol, self.socket, self.fileno
            try:  # noqa: SIM105 - each connection that ends comes here
                skt.close()
            except OSError:
                pass  # other code has closed it
            protocol.connectionLost(reason)

    def hangUp(self) -> None:
        """Close it at once, not in the reactor's next turn. Unsent bytes are dropped."""
        self.connectionLost(connectionDone)

    def getPeer(self) -> IPv4Address | IPv6Address:
        return _address(self._peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        return _address(self.socket.getsockname())


class Port(tcp.Port):
    """A listening socket on a Watch."""

    interest = 0
    # Workers share it, and a shutdown would end it for all of them.
    _shouldShutdown = False
    transport = Socket  # type: ignore[assignment]

    def doRead(self) -> None:
        """Accept clients. Twisted's own way, which prepares for a lack of descriptors each time, is
        taken only when there is one.
        """
        accepted = 0
        try:
            while accepted < self.numberAccepts:
                skt, sockaddr = self.socket.accept()
                accepted += 1
                self._serve(skt, sockaddr)
            self.numberAccepts += 20  # more may wait
        except BlockingIOError:
            self.numberAccepts = max(1, accepted)
        except OSError:
            super().doRead()

    def _serve(self, skt: socket.socket, sockaddr: tuple[Any, ...]) -> None:
        factory: Any = self.factory
        transport = None
        try:
            if len(sockaddr) > 2 and sockaddr[3]:  # a link-local client has a zone
                numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
                sockaddr = (socket.getnameinfo(sockaddr, numeric)[0], *sockaddr[1:])
            protocol = factory.buildProtocol(_address(sockaddr))
            if protocol is None:
                skt.close()
            else:
                transport = Socket(skt, protocol, sockaddr, self, reactor=self.reactor)
                protocol.makeConnection(transport)
        except Exception:
            _log.failure("a client was not served")
            if transport is None:
                skt.close()
            else:
                transport.abortConnection()

    def createInternetSocket(self) -> socket.socket:
        skt: socket.socket = super().createInternetSocket()
        try:
            tuneSocket(skt)  # accepted sockets inherit the options
        except OSError:
            skt.close()
            raise
        return skt


@implementer(IStreamServerEndpoint)
class PortEndpoint:
    """Listens on an address of this machine."""

    def __init__(
        self,
        reactor: Any,
        port: int,
        backlog: int,
        interface: str,
        descriptor: int | None = None,
    ) -> None:
        """
        @param reactor: one to which L{ptunnel.net.epoll.applies}.
        @param descriptor: a socket that listens there already; the endpoint takes ownership.
        """
        if descriptor is None:
            self._port = Port(port, None, backlog, interface, watchOf(reactor))  # type: ignore[arg-type]
        else:
            family = socket.AF_INET6 if ":" in interface else socket.AF_INET
            # As adoptStreamPort does, but for a Port on a Watch.
            self._port = Port._fromListeningDescriptor(watchOf(reactor), descriptor, family, None)
            os.close(descriptor)  # the Port has a duplicate; a second one would keep the port open

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """@return: fails with CannotListenError."""
        self._port.factory = protocolFactory  # type: ignore[assignment]
        done: Deferred[IListeningPort] = Deferred()
        try:
            self._port.startListening()
        except Exception:
            done.errback(Failure())
        else:
            done.callback(self._port)
        return done


@implementer(IStreamClientEndpoint)
class SocketEndpoint:
    """TCP to an address literal.

    `connect` fails with ConnectError and its kinds, among them TimeoutError at the deadline, and
    with the exception of a factory that raised. Cancelling it closes the socket.
    """

    def __init__(self, reactor: Any, host: str, port: int, timeout: float | None) -> None:
        """@param reactor: one to which L{ptunnel.net.epoll.applies}."""
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, numeric)[0]
        self._family: int = found[0]
        self._sockaddr: tuple[Any, ...] = found[4]
        self._address = _address(self._sockaddr)
        self._watch = watchOf(reactor)
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        dial = _Dial(self._watch, self._family, self._sockaddr, self._address, protocolFactory)
        if self._timeout is not None:
            dial.done.addTimeout(self._timeout, self._watch, _timedOut)  # type: ignore[arg-type]
        return dial.done


def tuneSocket(skt: socket.socket) -> None:
    """Send small messages without delay, and probe a silent peer, after the kernel's two hours as
    long as nobody sets another time.
    """
    skt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    skt.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _leadsThere(family: int, sockaddr: tuple[Any, ...]) -> bool:
    """Return whether this machine has a local address that can reach another address.

    Without one the error is EADDRNOTAVAIL, the same as when the ports are used up.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as skt:
            skt.connect(sockaddr)  # sends nothing
    except OSError as e:
        return e.errno not in (errno.EADDRNOTAVAIL, errno.ENETUNREACH)
    return True


def _timedOut(result: object, timeout: float) -> None:
    raise ConnectTimeout(string=f"no connection within {timeout:g} s")


def _show(sockaddr: tuple[Any, ...]) -> str:
    host, port = sockaddr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Dial:
    """A socket that is being connected."""

    interest = 0

    def __init__(
        self,
        watch: Watch,
        family: int,
        sockaddr: tuple[Any, ...],
        address: IPv4Address | IPv6Address,
        factory: IProtocolFactory,
    ) -> None:
        self.done: Deferred[IProtocol] = Deferred(self._cancelled)
        self._watch = watch
        self._sockaddr = sockaddr
        self._address = address
        self._factory = factory
        try:
            skt = self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as e:
            self.done.errback(getConnectError(e))
            return
        self.fileno = skt.fileno
        try:
            tuneSocket(skt)
            code = skt.connect_ex(sockaddr)
            if code in (0, errno.EINPROGRESS):
                watch.want(self, OUT)
            else:
                self._refused(code)
        except OSError as e:  # from setsockopt or epoll
            watch.forget(self)
            self._failed(getConnectError(e))

    def doWrite(self) -> None:
        """The connection attempt has ended: build the protocol, or fail."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._refused(code)
            return
        trace = traceOf(self._factory)
        if trace is not None:
            here = _show(self._socket.getsockname())
            trace(f"TCP: connected to {_show(self._sockaddr)} from {here}")
        try:
            protocol = self._factory.buildProtocol(self._address)
            if protocol is None:
                raise NoProtocol()
        except Exception:
            self._failed(Failure())
            return
        transport = Socket(self._socket, protocol, self._sockaddr, reactor=self._watch)
        self._watch.replace(self, transport)
        try:
            self._watch.want(transport, IN)
            protocol.makeConnection(transport)
        except Exception:
            why = Failure()
            transport.abortConnection()
            self.done.errback(why)
        else:
            self.done.callback(protocol)

    doRead = doWrite

    def connectionLost(self, reason: Failure) -> None:
        self._failed(reason)

    def _refused(self, code: int) -> None:
        if code == errno.EADDRNOTAVAIL and not _leadsThere(self._socket.family, self._sockaddr):
            code = errno.ENETUNREACH
        self._failed(getConnectError((code, os.strerror(code))))

    def _failed(self, reason: Failure | Exception) -> None:
        trace = traceOf(self._factory)
        if trace is not None:
            error = reason.value if isinstance(reason, Failure) else reason
            trace(f"TCP: not connected to {_show(self._sockaddr)}: {error}")
        self._close()
        self.done.errback(reason)

    def _close(self) -> None:
        self._watch.want(self, 0)
        self._socket.close()

    def _cancelled(self, done: Deferred[IProtocol]) -> None:
        self._close()
        done.errback(ConnectingCancelledError(self._address))
