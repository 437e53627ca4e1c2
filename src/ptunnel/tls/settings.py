"""The settings of TLS to a hop, and their files, which are read again when they change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from OpenSSL import SSL, crypto

from ptunnel.errors import PtunnelError, reasonOf
from ptunnel.filestamp import Stamp, stampOf
from ptunnel.tls.failures import wordsOf

# SSL_OP_NO_RENEGOTIATION, for which older versions of pyOpenSSL have no name.
_NO_RENEGOTIATION = 0x40000000
# X509_V_FLAG_PARTIAL_CHAIN, for which older versions of pyOpenSSL have no name.
_PARTIAL_CHAIN = 0x80000


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The settings of TLS to one hop.

    @ivar caFile: PEM file of the trusted certificates, authorities' or the hop's own; None: the
        system's authorities, which SSL_CERT_FILE may name.
    @ivar certFile: PEM file of the client certificate and its chain; None: there is none.
    @ivar keyFile: PEM file of its key; None: certFile has the key too.
    @ivar serverName: the name or address to ask for, which must be in the certificate; None: the
        hop's host.
    @ivar verify: whether the hop's certificate is verified. Otherwise anybody can pose as the hop.
    @ivar alpn: names of the protocols to offer, best first (RFC 7301).
    """

    caFile: str | None = None
    certFile: str | None = None
    keyFile: str | None = None
    serverName: str | None = None
    verify: bool = True
    alpn: tuple[str, ...] = ()


class TlsFileError(PtunnelError):
    """A file of certificates or a key that cannot be used.

    @ivar field: "caFile", "certFile" or "keyFile".
    @ivar path: the file.
    @ivar message: the fault, without the path.
    """

    def __init__(self, field: str, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.field = field
        self.path = path
        self.message = message


def check(settings: TlsSettings) -> None:
    """Load all files. @raise TlsFileError: for the first that cannot be used."""
    _load(settings)


def _load(settings: TlsSettings) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # Renegotiation (TLS 1.2) would let a server ask for more in the middle of the data.
    context.set_options(SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle tunnel holds no buffer
    if settings.caFile is None:
        context.set_default_verify_paths()
    else:
        _use("caFile", settings.caFile, context.load_verify_locations)
        # Each certificate in the file is trusted, even an intermediate or the hop's own.
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
    _read(field, path)
    try:
        load(path)
    except SSL.Error as e:
        words = wordsOf(e)
        if {"no start line", "no certificate or crl found"} & set(words):
            raise TlsFileError(field, path, "no certificate in it") from None
        message = f"no certificate that can be used in it ({', '.join(words)})"
        raise TlsFileError(field, path, message) from None


def _useKey(context: SSL.Context, field: str, path: str) -> None:
    def refuse(*_: object) -> bytes:
        message = (
            "the key is encrypted, and nobody is there to be asked: remove its passphrase "
            "(openssl pkey -in OLD -out NEW)"
        )
        raise TlsFileError(field, path, message)

    # use_privatekey_file would ask for a passphrase on the terminal.
    try:
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, _read(field, path), refuse)
    except crypto.Error:
        raise TlsFileError(field, path, "no private key in it") from None
    try:
        try:  # newer versions of pyOpenSSL prefer this; older ones accept only the other
            context.use_privatekey(cast(Any, key.to_cryptography_key()))
        except TypeError:
            context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error:
        raise TlsFileError(field, path, "the key does not fit the certificate") from None


class _Log(Protocol):
    """The part of L{ptunnel.log.Log} that is needed here."""

    def warning(self, subject: str, text: str) -> None: ...


class TlsContext:
    """OpenSSL's context for some settings. Its files are loaded again when they change.

    Any number of endpoints and connections may share one.
    """

    def __init__(
        self, settings: TlsSettings, *, log: _Log | None = None, subject: str = ""
    ) -> None:
        """Nothing is read yet.

        @param log: gets a warning about changed files that cannot be used.
        @param subject: the proxy or tunnel of such a warning.
        """
        self.settings = settings
        self._log = log
        self._subject = subject
        self._loaded: SSL.Context | None = None
        self._seen: list[Stamp | None] | None = None

    def renew(self) -> None:
        """Load the files again for the next connection, whether they seem to have changed or not;
        the system's authorities too.
        """
        self._seen = None

    def current(self) -> SSL.Context:
        """Return the context with the present files; if these cannot be used, with the last ones.

        @raise TlsFileError: if there were none that could be used.
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

    def _look(self) -> list[Stamp | None]:
        settings = self.settings
        paths = settings.caFile, settings.certFile, settings.keyFile
        return [stampOf(path) for path in paths if path]
