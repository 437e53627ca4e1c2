"""The reply codes of SOCKS5 (RFC 1928 section 6): what each means as a failure, and which one a
client gets for a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.errors import (
    CredentialsRefused,
    NotServed,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    RouteFailed,
    TargetUnreachable,
)
from ptunnel.socks import wire

WORDS = {
    wire.GRANTED: "granted",
    wire.GENERAL: "general failure",
    wire.NOT_ALLOWED: "not allowed by its rules",
    wire.NET_UNREACHABLE: "network unreachable",
    wire.HOST_UNREACHABLE: "host unreachable",
    wire.REFUSED: "connection refused",
    wire.TTL_EXPIRED: "TTL expired",
    wire.NO_COMMAND: "command not supported",
    wire.NO_ADDRESS_TYPE: "address type not supported",
}
# First bytes of servers that are none of SOCKS5.
_OTHERS: tuple[tuple[bytes, str, Cause], ...] = (
    (b"HTTP", "answers as an HTTP server", causes.SPEAKS_HTTP),
    (b"\x15", "does not answer as a SOCKS5 proxy", causes.SPEAKS_TLS),
    (b"SSH-", "does not answer as a SOCKS5 proxy", causes.SSH_SERVER),
)
# The others say that the target was not reached. Tor has more of that kind, from 0xF0 on.
_REFUSALS = frozenset([wire.NOT_ALLOWED, wire.NO_COMMAND])


GREETING, LOGIN = "the SOCKS5 greeting", "user name and password"
"""What a proxy answers before the request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as its failures need it.

    @ivar target: `host:port`.
    @ivar hop: the proxy's name in failures, or "".
    """

    target: str
    hop: str = ""

    @property
    def who(self) -> str:
        """The proxy, with the article."""
        return f"the proxy {self.hop}" if self.hop else "the proxy"

    def failed(self, what: str, cause: Cause = causes.BROKEN_SOCKS) -> ProxyFailed:
        """The failure of an answer that is missing, or not valid.

        @param what: what the proxy did, in words that follow its name.
        """
        return ProxyFailed(f"{self.who} {what}", hop=self.hop, hint=cause.hint, cause=cause)

    def ended(self, upon: str, *, begun: bool) -> ProxyFailed:
        """The failure of a connection that has ended in place of an answer.

        @param upon: what it would have answered: GREETING, LOGIN, or the request in words.
        @param begun: whether a part of the answer came.
        """
        if begun:
            return self.failed("closed the connection in the middle of its answer")
        if upon == GREETING:
            return self.failed("closed the connection without an answer", causes.NO_SOCKS)
        return self.failed(f"closed the connection upon {upon}")

    def late(self, upon: str, seconds: float) -> ProxyTimeout:
        """The failure of an answer that was not complete within so many seconds.

        @param upon: as in L{ended}.
        """
        known = {GREETING: causes.NO_SOCKS, LOGIN: causes.BROKEN_SOCKS}
        cause = known.get(upon, causes.SILENT)
        hint = cause.hint
        if cause is causes.SILENT:
            hint = "it may wait for a target that does not answer"
        message = f"{self.who} did not answer {upon} within {seconds:g} s"
        return ProxyTimeout(message, hop=self.hop, hint=hint, cause=cause)

    def noSocks(self, first: bytes) -> ProxyFailed:
        """The failure of a server that does not speak SOCKS5. @param first: its first bytes."""
        for begin, what, cause in _OTHERS:
            if first.startswith(begin) or begin.startswith(first):
                return self.failed(what, cause)
        return self.failed("does not answer as a SOCKS5 proxy", causes.NO_SOCKS)

    def noMethod(self, hasLogin: bool) -> CredentialsRefused:
        """The failure where the proxy accepts none of the ways to log in.

        @param hasLogin: whether it was offered user name and password.
        """
        if not hasLogin:
            return self._noLogin("wants credentials", causes.CREDENTIALS_MISSING)
        what = "accepts neither user name and password nor no authentication"
        return self._noLogin(what, causes.SCHEME_NOT_SERVED)

    def rejection(self, what: str) -> CredentialsRefused:
        """The failure of credentials. @param what: what the proxy did with them."""
        return self._noLogin(what, causes.CREDENTIALS_REJECTED)

    def _noLogin(self, what: str, cause: Cause) -> CredentialsRefused:
        return CredentialsRefused(
            f"{self.who} {what}", status=0, hop=self.hop, hint=cause.hint, cause=cause
        )

    def refusal(self, code: int) -> ProxyRefused:
        """The failure that a reply code stands for. @param code: any but GRANTED."""
        words = f"SOCKS reply {code}"
        if code in WORDS:
            words += f", {WORDS[code]}"
        kind: type[ProxyRefused] = TargetUnreachable
        what, cause, hint = f"cannot reach {self.target}", causes.TARGET_DOWN, ""
        if code in _REFUSALS:
            kind, cause = ProxyRefused, causes.TARGET_REFUSED
            what = f"refuses {self.target}"
        elif code == wire.NO_ADDRESS_TYPE:
            cause = causes.ADDRESS_TYPE
            hint = cause.hint
        message = f"{self.who} {what}: {words}"
        return kind(
            message, status=code, reason=WORDS.get(code, ""), hop=self.hop, hint=hint, cause=cause
        )


_BY_CAUSE = {
    causes.TARGET_NAME: wire.HOST_UNREACHABLE,
    causes.TARGET_DOWN: wire.HOST_UNREACHABLE,
    causes.NO_ANSWER: wire.HOST_UNREACHABLE,
    causes.NO_ROUTE: wire.NET_UNREACHABLE,
    causes.REFUSED: wire.REFUSED,
    causes.ADDRESS_TYPE: wire.NO_ADDRESS_TYPE,
    causes.TARGET_REFUSED: wire.NOT_ALLOWED,
    causes.PORT_REFUSED: wire.NOT_ALLOWED,
    causes.TARGET_FORBIDDEN: wire.NOT_ALLOWED,
}
# What happens on the way to a proxy says nothing about the target.
_OF_TARGETS = (NotServed, ProxyRefused)


def replyFor(error: BaseException, *, direct: bool = False) -> int:
    """Return the code that tells a client of a failure.

    @param error: of several ways, the one that says most about the target counts.
    @param direct: whether there was no proxy, so an Unreachable is about the target.
    """
    if isinstance(error, RouteFailed):
        codes = [replyFor(each) for each in error.failures]
        return next((code for code in codes if code != wire.GENERAL), wire.GENERAL)
    if isinstance(error, ProxyRefused) and error.status in range(wire.GENERAL, 9):
        return error.status  # it came from a SOCKS proxy
    cause = getattr(error, "cause", None)
    isOfTarget = direct or isinstance(error, _OF_TARGETS) or cause is causes.TARGET_NAME
    return _BY_CAUSE.get(cause, wire.GENERAL) if isOfTarget and cause else wire.GENERAL
