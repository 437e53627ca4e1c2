"""TLS to a hop: an endpoint over any other, and the files that it needs. Used by config and
service, and by programs that import ptunnel.

A hop may be a proxy or the target. OpenSSL and Twisted's TLS are imported where a connection is
made or a file is checked, because most programs that import this do neither.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionClosed,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.errors import CertificateRefused, PtunnelError, TunnelError, Unreachable, reasonOf
from ptunnel.sweep import clockOf
from ptunnel.transports import abort, setReceiver

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from OpenSSL.SSL import Connection, Context

# X509_V_FLAG_PARTIAL_CHAIN, for which older versions of pyOpenSSL have no name.
_PARTIAL_CHAIN = 0x80000

# How many of a certificate's names a message shows; there are certificates with hundreds.
_SHOWN = 4

_Refusal = tuple[str, str]
"""What is wrong with a certificate, and a hint or ""."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How TLS is spoken to one hop.

    @ivar caFile: PEM file of the only certificates that are trusted, authorities' or the hop's
        own; None: the system's authorities (SSL_CERT_FILE counts).
    @ivar certFile: PEM file of the client certificate and its chain, if there is one.
    @ivar keyFile: PEM file of its key; None: in certFile too.
    @ivar serverName: the name that is asked for and must be in the certificate, or an address;
        None: the hop's host.
    @ivar verify: whether the hop's certificate must be right. Without that anybody can pose as it.
    @ivar alpn: names of the protocols to offer, best first (RFC 7301).
    """

    caFile: str | None = None
    certFile: str | None = None
    keyFile: str | None = None
    serverName: str | None = None
    verify: bool = True
    alpn: tuple[str, ...] = ()


class TlsFileError(PtunnelError):
    """A file of certificates or a key that is of no use.

    @ivar field: "caFile", "certFile" or "keyFile".
    @ivar path: the file.
    @ivar message: what is wrong with it, without the path.
    """

    def __init__(self, field: str, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.field = field
        self.path = path
        self.message = message


def check(settings: TlsSettings) -> None:
    """Load all files. @raise TlsFileError: for the first that is of no use."""
    _load(settings)


def _load(settings: TlsSettings) -> Context:
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle tunnel holds none
    if settings.caFile is None:
        context.set_default_verify_paths()
    else:
        _use("caFile", settings.caFile, context.load_verify_locations)
        # What stands in the file is trusted, be it an intermediate or the hop's own certificate.
        cast(Any, context.get_cert_store()).set_flags(_PARTIAL_CHAIN)
    if settings.certFile is not None:
        _use("certFile", settings.certFile, context.use_certificate_chain_file)
        field = "certFile" if settings.keyFile is None else "keyFile"
        _useKey(context, field, settings.keyFile or settings.certFile)
    return context


def _read(field: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise TlsFileError(field, path, "there is no such file") from None
    except (OSError, ValueError) as e:
        raise TlsFileError(field, path, f"it cannot be read: {reasonOf(e)}") from None


def _use(field: str, path: str, load: Callable[[str], object]) -> None:
    """Let OpenSSL load certificates."""
    from OpenSSL import SSL

    _read(field, path)
    try:
        load(path)
    except SSL.Error as e:
        words = _words(e)
        if {"no start line", "no certificate or crl found"} & set(words):
            raise TlsFileError(field, path, "no certificate in it") from None
        message = f"no certificate that can be used in it ({', '.join(words)})"
        raise TlsFileError(field, path, message) from None


def _useKey(context: Context, field: str, path: str) -> None:
    from OpenSSL import SSL, crypto

    def refuse(*_: object) -> bytes:
        message = (
            "the key is encrypted, and nobody is there to be asked: remove its passphrase "
            "(openssl pkey -in OLD -out NEW)"
        )
        raise TlsFileError(field, path, message)

    # Not by use_privatekey_file, which asks for a passphrase on the terminal.
    try:
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, _read(field, path), refuse)
    except crypto.Error:
        raise TlsFileError(field, path, "no private key in it") from None
    try:
        try:  # newer versions of pyOpenSSL prefer the one, older ones know only the other
            context.use_privatekey(cast(Any, key.to_cryptography_key()))
        except TypeError:
            context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error:
        raise TlsFileError(field, path, "the key does not fit the certificate") from None


def _words(error: BaseException) -> list[str]:
    """OpenSSL's own, of an error's queue of library, function and reason."""
    queue = error.args[0] if error.args else None
    return [str(entry[-1]) for entry in queue if entry[-1]] if isinstance(queue, list) else []


class _Log(Protocol):
    """The part of L{ptunnel.log.Log} that is wanted here."""

    def warning(self, subject: str, text: str) -> None: ...


class TlsContext:
    """The files of some settings as OpenSSL has them; read again when they change.

    One may serve any number of endpoints and connections.
    """

    def __init__(
        self, settings: TlsSettings, *, log: _Log | None = None, subject: str = ""
    ) -> None:
        """Nothing is read yet.

        @param log: is told of files that have changed and are of no use.
        @param subject: the proxy or tunnel that such a line is about.
        """
        self.settings = settings
        self._log = log
        self._subject = subject
        self._loaded: Context | None = None
        self._seen: list[tuple[int, int, int] | None] = []

    def current(self) -> Context:
        """The context of the files as they are now; of files that are of no use, as they were.

        @raise TlsFileError: for files that never were of use.
        """
        seen = self._look()
        if self._loaded is None or seen != self._seen:
            try:
                self._loaded = _load(self.settings)
            except TlsFileError as e:
                if self._loaded is None:
                    raise
                if self._log is not None:
                    self._log.warning(self._subject, f"going on with the old certificates: {e}")
            self._seen = seen
        return self._loaded

    def _look(self) -> list[tuple[int, int, int] | None]:
        settings = self.settings
        seen: list[tuple[int, int, int] | None] = []
        for path in filter(None, (settings.caFile, settings.certFile, settings.keyFile)):
            try:
                found = os.stat(path)
            except (OSError, ValueError):
                seen.append(None)
            else:
                seen.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return seen


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """A TLS connection over that of another endpoint.

    `connect` gives a Deferred that fires with the inner protocol when the handshake is done and
    the protocol is connected. It fails with

     - L{CertificateRefused} when the hop's certificate is wrong, or it does not want ours,
     - L{Unreachable} when TLS fails otherwise, or when our own files are of no use,
     - ConnectingCancelledError when it is cancelled,
     - whatever the other endpoint failed with or the factory raised, or NoProtocol when it built
       none.

    Whichever it is, the connection is then aborted. Since TLS 1.3 a server looks at a client's
    certificate when the client thinks that the handshake is done: its refusal reaches the inner
    protocol's connectionLost, and L{tlsFailure} has words for it.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        settings: TlsSettings | TlsContext,
        host: str,
        *,
        hop: str = "",
        timeout: float | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param endpoint: how the hop is reached.
        @param settings: a TlsContext where several endpoints are to share what was read.
        @param host: the hop's name (ASCII) or address literal, without brackets.
        @param hop: what failures call the hop, as a rule its `host:port`; "": the host.
        @param timeout: seconds for the handshake, once there is a connection; None: no limit,
            where whoever is above has one deadline for all.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a name that is not ASCII.
        """
        self._endpoint = endpoint
        self._context = settings if isinstance(settings, TlsContext) else TlsContext(settings)
        self.hop = hop or host
        self.timeout = timeout
        self.clock = reactor
        self.name = (self._context.settings.serverName or host).partition("%")[0].rstrip(".")
        self.address = HostnameAddress(self.name.encode("ascii"), 0)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        attempt = _Attempt(self, protocolFactory)
        try:
            context = self._context.current()
        except TlsFileError as e:
            attempt.fail(_unreachable(self.hop, str(e)))
        else:
            creator = _Creator(context, self._context.settings, self.name, self.hop)
            attempt.start(self._endpoint, creator)
        return attempt.result


class _Attempt(protocol.Factory):
    """One attempt: the factory of what listens to the handshake.

    @ivar result: what `connect` gave out.
    @ivar over: it has succeeded or failed.
    """

    noisy = False
    over = False

    def __init__(self, hop: TlsEndpoint, inner: IProtocolFactory) -> None:
        self.hop = hop.hop
        self._timeout = hop.timeout
        self._clock = hop.clock
        self._timer: IDelayedCall | None = None
        self.inner = inner
        self._address = hop.address
        self._connecting: Deferred[Any] | None = None
        self._listener: _Listener | None = None
        self.result: Deferred[IProtocol] = Deferred(self._cancelled)

    def start(self, endpoint: IStreamClientEndpoint, creator: _Creator) -> None:
        from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

        factory = TLSMemoryBIOFactory(creator, True, self)
        # The one that newer versions take instead holds small writes back until the reactor's
        # next turn, to join them. What a relay writes are whole reads already.
        factory.protocol = TLSMemoryBIOProtocol
        try:
            connecting = endpoint.connect(factory)
        except Exception:
            self.fail(Failure())
            return
        if not self.over:
            self._connecting = connecting
        connecting.addErrback(self.fail)

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Listener:
        self._listener = _Listener(self, addr)
        if self._timeout is not None and not self.over:
            self._timer = clockOf(self._clock).callLater(self._timeout, self._expired)
        return self._listener

    def succeed(self, inner: IProtocol) -> None:
        if self._finish():
            self.result.callback(inner)

    def fail(self, reason: Failure | Exception) -> None:
        connecting, listener = self._connecting, self._listener
        if self._finish():
            if listener is not None and listener.connected:
                abort(listener.transport)
            if connecting is not None and not connecting.called:
                connecting.cancel()
            self.result.errback(reason)

    def _finish(self) -> bool:
        """@return: whether it was not over yet."""
        before, self.over = self.over, True
        self._connecting = self._listener = None
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return not before

    def _expired(self) -> None:
        self.fail(_unreachable(self.hop, f"no handshake within {self._timeout:g} s"))

    def _cancelled(self, result: Deferred[IProtocol]) -> None:
        self.fail(ConnectingCancelledError(self._address))


@implementer(IHandshakeListener)
class _Listener(protocol.Protocol):
    """Waits for the end of the handshake; then the TLS transport has the inner protocol for its
    own, and gives it directly whatever came behind the handshake."""

    def __init__(self, attempt: _Attempt, address: IAddress | None) -> None:
        self._attempt = attempt
        self._address = address

    def connectionMade(self) -> None:
        if self._attempt.over:
            abort(self.transport)  # it was cancelled, and connected all the same

    def handshakeCompleted(self) -> None:
        attempt = self._attempt
        if attempt.over:
            return
        try:
            inner = attempt.inner.buildProtocol(cast(IAddress, self._address))
            if inner is None:
                raise NoProtocol()
            transport = cast(ITransport, self.transport)
            setReceiver(transport, inner)
            inner.makeConnection(transport)
        except Exception:
            attempt.fail(Failure())
        else:
            attempt.succeed(inner)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.connected = 0
        error = cast(BaseException, reason.value)
        if not isinstance(error, TunnelError):
            error = tlsFailure(error, self._attempt.hop)
        self._attempt.fail(error)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes OpenSSL's connections, which judge the hop's certificate.

    They do so while the handshake goes on: nothing that only the right hop may see, not even a
    client certificate, goes out before.
    """

    def __init__(self, context: Context, settings: TlsSettings, name: str, hop: str) -> None:
        self._context = context
        self._settings = settings
        self._name = name
        self._hop = hop

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Connection:
        from OpenSSL import SSL

        connection = SSL.Connection(self._context, None)
        if not _isAddress(self._name):  # RFC 6066 section 3
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._settings.alpn:
            connection.set_alpn_protos([name.encode("ascii") for name in self._settings.alpn])
        if self._settings.verify:

            def verify(_: Connection, certificate: X509, number: int, depth: int, ok: int) -> bool:
                try:
                    refusal = self._judge(certificate, number, depth)
                except Exception as e:  # nothing can be raised through OpenSSL
                    refusal = f"its certificate makes no sense: {_plain(reasonOf(e))}", ""
                if refusal is not None:
                    tlsProtocol.failVerification(Failure(_refused(self._hop, *refusal)))
                return refusal is None

            connection.set_verify(SSL.VERIFY_PEER, verify)
        return connection

    def _judge(self, certificate: X509, number: int, depth: int) -> _Refusal | None:
        """@param depth: 0 for the hop's own certificate, 1 for its issuer's, and so on.
        @param number: OpenSSL's for what is wrong (x509_vfy.h), 0 for nothing.
        """
        if number:
            return _inWords(certificate, number, depth)
        return None if depth else _misnamed(certificate, self._name)


def _isAddress(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _inWords(certificate: X509, number: int, depth: int) -> _Refusal:
    parsed = certificate.to_cryptography()
    issuer = _titleOf(parsed.issuer)
    whose = "its certificate"
    if depth:
        whose = f'the certificate of its authority "{_titleOf(parsed.subject)}"'
    if number == 9:
        since = f"{whose} is not valid before {_time(certificate.get_notBefore())}"
        return since, "is this machine's clock right?"
    if number == 10:
        return f"{whose} expired on {_time(certificate.get_notAfter())}", ""
    if number == 18:
        own = "its certificate is self-signed: no authority vouches for it"
        return own, "if it is the right one, set ca-file to a copy of it"
    if number in {20, 21} and depth == 0:
        return (
            f'its certificate is from "{issuer}", which is not known here, and no certificate '
            "that leads to a known authority came with it",
            "either its chain is incomplete and must be mended there, or ca-file must name a file "
            "with that authority's certificate",
        )
    if number in {2, 19, 20, 21}:
        return (
            f'its certificate is from an authority that is not known here, "{issuer}"',
            "if it is the right one, set ca-file to a file with its certificate",
        )
    return f"{whose} {_OTHERS.get(number, f'is refused with error {number} of OpenSSL')}", ""


# OpenSSL has words for them, but pyOpenSSL no way to them.
_OTHERS = {
    7: "has a wrong signature",
    22: "has a chain that is too long",
    23: "has been revoked",
    24: "is not an authority's",
    25: "is not an authority's for so long a chain",
    26: "is not one for a server",
    27: "is not trusted",
    28: "is rejected",
    47: "is for names that its authority may not vouch for",
    66: "has a key that is too weak",
    67: "has a key that is too weak",
    68: "has a signature that is too weak",
    79: "is not an authority's",
}


def _misnamed(certificate: X509, name: str) -> _Refusal | None:
    from service_identity import CertificateError, VerificationError
    from service_identity.cryptography import (
        verify_certificate_hostname,
        verify_certificate_ip_address,
    )

    verify = verify_certificate_ip_address if _isAddress(name) else verify_certificate_hostname
    try:
        verify(certificate.to_cryptography(), name)
    except (CertificateError, VerificationError):
        names = namesOf(certificate)
        if not names:
            return "its certificate names no host (a common name alone does not count)", ""
        shown = ", ".join(_plain(n) for n in names[:_SHOWN])
        if len(names) > _SHOWN:
            shown += f" and {len(names) - _SHOWN} more"
        return (
            f"its certificate is for {shown}, not for {name}",
            "if it is the right one, set server-name to one of its names",
        )
    return None


def namesOf(certificate: X509) -> tuple[str, ...]:
    """The host names and addresses that a certificate is for, as it has them."""
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName

    try:
        extensions = certificate.to_cryptography().extensions
        found = extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found if isinstance(name, (DNSName, IPAddress)))


def _titleOf(name: Any) -> str:
    """What a person would call an authority."""
    from cryptography.x509.oid import NameOID

    for oid in NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME:
        for attribute in name.get_attributes_for_oid(oid):
            return _plain(str(attribute.value))
    return _plain(name.rfc4514_string())


def _plain(text: str) -> str:
    """Foreign text, fit for one line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:100]


def _moment(time: bytes | None) -> datetime | None:
    if time is None:
        return None
    return datetime.strptime(time.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _time(time: bytes | None) -> str:
    return f"{_moment(time):%Y-%m-%d %H:%M} UTC"


def _refused(hop: str, what: str, hint: str = "") -> CertificateRefused:
    return CertificateRefused(f"cannot reach {hop} over TLS: {what}", hop=hop, hint=hint)


def _unreachable(hop: str, what: str, hint: str = "") -> Unreachable:
    return Unreachable(f"cannot reach {hop} over TLS: {what}", hop=hop, hint=hint)


# What follows "alert" in OpenSSL's words when it is about a client's certificate (RFC 8446
# section 6.2). Before TLS 1.3 many servers say "bad certificate" when they got none.
_ABOUT_OURS = {
    "access denied",
    "bad certificate",
    "certificate expired",
    "certificate revoked",
    "certificate unknown",
    "unknown ca",
    "unsupported certificate",
}

# Other words of OpenSSL's, and what they mean.
_FAILURES: dict[str, _Refusal] = {
    "wrong version number": ("it does not speak TLS", "is it a plain HTTP proxy, http:// ?"),
    "packet length too long": ("it does not speak TLS", "is it a plain HTTP proxy, http:// ?"),
    "protocol version": ("it speaks no version of TLS that is safe, 1.2 or later", ""),
    "unsupported protocol": ("it speaks no version of TLS that is safe, 1.2 or later", ""),
    "handshake failure": (
        'it broke the handshake off ("handshake failure")',
        "it may want a client certificate, client-cert, or ciphers that are not offered",
    ),
    "unrecognized name": ("it does not know the name that it is asked for", "server-name"),
    "no application protocol": ("it speaks none of the protocols that are offered to it", ""),
}


def tlsFailure(error: BaseException, hop: str = "") -> TunnelError:
    """What a broken TLS connection means, in words.

    @param error: what a transport was lost with: OpenSSL's, or, in the handshake, ConnectionLost.
    @param hop: who is at the other end.
    @return: CertificateRefused when it is about a client certificate, else Unreachable.
    """
    if isinstance(error, ConnectionClosed):
        closed = "the connection was closed in the middle of the handshake"
        return _unreachable(hop, closed, "does it speak TLS?")
    words = _words(error)
    for word in words:
        # "tlsv1 alert unknown ca", "tlsv1 unrecognized name", "wrong version number"
        what = word.rpartition(" alert ")[2].removeprefix("tlsv1 ")
        if what == "certificate required":
            return _refused(hop, "it wants a client certificate", "set client-cert")
        if what in _ABOUT_OURS and " alert " in word:
            refusal = f'it refuses our client certificate, or that there is none ("{what}")'
            return _refused(hop, refusal, "see client-cert")
        if what in _FAILURES:
            return _unreachable(hop, *_FAILURES[what])
    return _unreachable(hop, ", ".join(words) or reasonOf(error))


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a TLS connection, and how it is spoken to.

    @ivar version: "TLSv1.3", for example.
    @ivar cipher: OpenSSL's name of it.
    @ivar names: the host names and addresses that its certificate is for.
    @ivar notAfter: until when that is valid.
    """

    version: str
    cipher: str
    names: tuple[str, ...]
    notAfter: datetime | None


def peerOf(transport: ITransport) -> Peer:
    """@param transport: one that TLS is spoken over, its handshake done."""
    connection: Connection = cast(Any, transport).getHandle()
    certificate = connection.get_peer_certificate()
    return Peer(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        names=() if certificate is None else namesOf(certificate),
        notAfter=None if certificate is None else _moment(certificate.get_notAfter()),
    )
