"""A PAC file by HTTPS (or HTTP), without a proxy."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin, urlsplit

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ptunnel._version import __version__
from ptunnel.causes import PAC_UNAVAILABLE
from ptunnel.config import MAX_FILE
from ptunnel.errors import PacFailed, TunnelError, Unreachable, reasonOf
from ptunnel.net.addresses import hostPort
from ptunnel.net.dial import tcpEndpoint
from ptunnel.pac.answers import quoted
from ptunnel.tls import TlsContext, TlsEndpoint, TlsSettings

# Seconds for all of it.
DEADLINE = 30.0
MAX_REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_HEADERS = Headers({"User-Agent": [f"ptunnel/{__version__}"], "Accept": ["*/*"]})


def fetch(reactor: Any, url: str, tls: TlsSettings) -> Deferred[bytes]:
    """
    @param tls: the settings of TLS, for https.
    @return: fires with the body. Fails with Unreachable, if there was no connection, or PacFailed.
        Cancelling it aborts.
    """
    agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, tls))
    fetching = _get(agent, url, MAX_REDIRECTS).addTimeout(DEADLINE, reactor)
    return fetching.addErrback(_explain, url)


def _get(agent: Any, url: str, left: int) -> Deferred[bytes]:
    asking: Deferred[Any] = agent.request(b"GET", url.encode("ascii"), _HEADERS)
    return asking.addCallback(_answered, agent, url, left)


def _answered(response: Any, agent: Any, url: str, left: int) -> Deferred[bytes]:
    if response.code == 200:
        body = _Body()
        response.deliverBody(body)
        return body.done
    said = f"the server answers {response.code} {response.phrase.decode('latin-1')}"
    (location,) = response.headers.getRawHeaders("location", [""])[:1]
    response.deliverBody(_Body(wanted=False))
    if response.code not in _MOVED or not location:
        return fail(_Wrong(said))
    there = urljoin(url, location)
    schemes = ("https",) if url.startswith("https:") else ("http", "https")
    if not there.isascii() or urlsplit(there).scheme not in schemes:
        return fail(_Wrong(f"it leads on to {quoted(there)}, which is not followed"))
    if not left:
        return fail(_Wrong(f"it leads on more than {MAX_REDIRECTS} times"))
    return _get(agent, there, left - 1)


class _Wrong(Exception):
    """What is wrong with an answer, in a few words."""


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, tls: TlsSettings) -> None:
        self._reactor = reactor
        self._context = TlsContext(tls)

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        host, port = uri.host.decode("ascii").strip("[]"), uri.port
        endpoint = tcpEndpoint(self._reactor, host, port, DEADLINE)
        if uri.scheme != b"https":
            return endpoint
        hop = hostPort(host, port)
        return TlsEndpoint(endpoint, self._context, host, hop=hop, target=True)


class _Body(Protocol):
    """@ivar done: fires with the body."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._wanted = wanted
        self._data = bytearray()

    def connectionMade(self) -> None:
        if not self._wanted:
            self._abort()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MAX_FILE and not self.done.called:
            self._abort()
            self.done.errback(_Wrong(f"it is larger than {MAX_FILE} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called and self._wanted:
            if reason.check(ResponseDone, PotentialDataLoss):
                self.done.callback(bytes(self._data))
            else:
                self.done.errback(_Wrong("its end is missing"))

    def _abort(self) -> None:
        transport: Any = self.transport
        (getattr(transport, "abortConnection", None) or transport.loseConnection)()


def _explain(reason: Failure, url: str) -> Failure:
    error: Any = reason.value
    where = f"cannot read the PAC file {printableUrl(url)}"
    hint = PAC_UNAVAILABLE.hint
    if isinstance(error, TunnelError) and not isinstance(error, Unreachable):
        hint, cause = error.hint, error.cause
        return Failure(PacFailed(f"{where}: {error.message}", hint=hint, cause=cause))
    if isinstance(error, (ConnectError, OSError)):
        why = error.message if isinstance(error, TunnelError) else reasonOf(error)
        return Failure(Unreachable(f"{where}: {why}", hint=hint, cause=PAC_UNAVAILABLE))
    if isinstance(error, TimeoutError) or _isCancelled(error):
        what = f"{where}: it did not come within {DEADLINE:g} s"
        return Failure(Unreachable(what, hint=hint, cause=PAC_UNAVAILABLE))
    why = str(error) if isinstance(error, _Wrong) else _broken(error)
    return Failure(PacFailed(f"{where}: {why}", hint=hint, cause=PAC_UNAVAILABLE))


def _isCancelled(error: Any) -> bool:
    """Return whether the deadline has ended the wait for an answer, as the web client says it."""
    return any(each.check(CancelledError) for each in getattr(error, "reasons", ()))


def _broken(error: Any) -> str:
    """Return what an answer that is not HTTP is in words; the reasons are Twisted's."""
    reasons = [type(each.value).__name__ for each in getattr(error, "reasons", ())]
    isEnd = not reasons or set(reasons) <= {"ConnectionDone", "ConnectionLost"}
    return "the server closed the connection without an answer" if isEnd else "no answer of HTTP"


def printableUrl(url: str) -> str:
    """Return a URL without what may be a secret behind its path."""
    return urlsplit(url)._replace(query="", fragment="").geturl()
