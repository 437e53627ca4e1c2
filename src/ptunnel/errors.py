"""Every failure that ptunnel knows, in one tree.

    PtunnelError
     +-- ConfigError                a mistake in options, config file or environment: exit 2
     +-- ListenError                a local port that cannot be bound: exit 1
     +-- TunnelError                a connection that could not be made (twisted's ConnectError)
          +-- Unreachable           no connection to the hop (DNS, TCP, TLS): try another proxy,
          |                         or no proxy, if that is allowed
          +-- LocalFailure          this machine is out of descriptors, ports or memory, or forbids
          |                         the connection: the hop is not at fault, so try no other way
          +-- NotServed             a door does not serve what its client asks for, or does not
          |                         let it in
          +-- CertificateRefused    the hop was reached, but its TLS certificate cannot be trusted,
          |                         or it refused ours
          +-- PacFailed             the PAC file says nothing that can be used; no hop was asked
          +-- CredentialsUnavailable    the password file, command or ticket cannot be used
          +-- ProxyFailed           the hop was reached, but gave no valid answer: garbage, an end
          |    |                    of file, silence
          |    +-- ProxyTimeout     it did not answer in time
          +-- ProxyRefused          it answered, with another status than 2xx, or refuses by SOCKS
          |    +-- CredentialsRefused   407: it asks for credentials, or for other ones
          |    +-- TargetUnreachable    500 and the like: the proxy works, the target does not
          +-- TargetFailed          the target was reached, but its upgrade to TLS failed
          +-- RouteFailed           each of several ways was tried; holds the failure of each

The message of a TunnelError is one line: what failed, where, and why, if that is known.
"""

from __future__ import annotations

import builtins
import errno
import os
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    TimeoutError,
    UnknownHostError,
)

from ptunnel import causes
from ptunnel.causes import Cause

if TYPE_CHECKING:
    from typing_extensions import Self


class PtunnelError(Exception):
    """Any failure that ptunnel reports as one line."""


class ConfigError(PtunnelError):
    """A mistake in options, config file or environment; nothing has been started."""


class ListenError(PtunnelError):
    """A local address that cannot be listened on."""


class TunnelError(PtunnelError, ConnectError):
    """A connection that could not be made.

    @ivar message: the failure, in one line and without the hint.
    @ivar hop: the proxy (or the target of a direct connection) as `host:port`, or "".
    @ivar hint: the likely cause and its remedy, or "".
    @ivar cause: one of L{ptunnel.causes}, whose C{id} is for machines; None: the message says all.

    A failure does not change once it is made.
    """

    reached = True
    """Whether the hop had been reached. Not meaningful for Unreachable."""

    def __init__(
        self, message: str, *, hop: str = "", hint: str = "", cause: Cause | None = None
    ) -> None:
        super().__init__(string=message)
        self.message = message
        self.hop = hop
        self.hint = hint
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Unreachable(TunnelError):
    """No connection to the hop: it did not resolve, refused, timed out or failed its TLS."""


class LocalFailure(TunnelError):
    """This machine or process could not make the connection; the hop is not at fault."""

    reached = False


class NotServed(TunnelError):
    """A door does not serve what its client asks for, or does not let it in."""

    reached = False


class CertificateRefused(TunnelError):
    """The hop's TLS certificate cannot be trusted, or the hop did not get one that it accepts.

    @ivar validFrom: the beginning of its validity, if that is in the future; else None.
    """

    def __init__(
        self,
        message: str,
        *,
        hop: str = "",
        hint: str = "",
        cause: Cause | None = None,
        validFrom: datetime | None = None,
    ) -> None:
        super().__init__(message, hop=hop, hint=hint, cause=cause)
        self.validFrom = validFrom


class CredentialsUnavailable(TunnelError):
    """The credentials for a proxy could not be read; none were sent."""

    reached = False


class PacFailed(TunnelError):
    """A PAC file could not be read or run, or its answer cannot be used."""

    reached = False


class ProxyFailed(TunnelError):
    """The hop was reached, but its answer is missing or not valid HTTP (or SOCKS)."""


class ProxyTimeout(ProxyFailed):
    """The hop was reached, but its answer to CONNECT did not come in time."""


class ProxyRefused(TunnelError):
    """The proxy answered CONNECT with another status than 2xx, or a SOCKS proxy refuses.

    @ivar status: the status code, 300 to 999; the reply code of SOCKS, 1 to 255; or 0, where there
        was neither.
    @ivar reason: the reason phrase, without control characters.
    @ivar body: the beginning of the body as text, on one line, at most 512 characters.
    @ivar reached: False where an earlier refusal is repeated without asking the proxy again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str = "",
        body: str = "",
        hop: str = "",
        hint: str = "",
        cause: Cause | None = None,
        reached: bool = True,
    ) -> None:
        super().__init__(message, hop=hop, hint=hint, cause=cause)
        self.reached = reached
        self.status = status
        self.reason = reason
        self.body = body

    def explained(self, cause: Cause, hint: str) -> Self:
        """Return the same refusal with another cause and hint."""
        return type(self)(
            self.message,
            status=self.status,
            reason=self.reason,
            body=self.body,
            hop=self.hop,
            hint=hint,
            cause=cause,
            reached=self.reached,
        )

    def __str__(self) -> str:
        return f'{super().__str__()}: "{self.body}"' if self.body else super().__str__()


class CredentialsRefused(ProxyRefused):
    """407, or the same by SOCKS: the proxy asks for credentials, or rejects those that it got."""


class TargetUnreachable(ProxyRefused):
    """500, 502 to 504, 404, or SOCKS: the proxy could not resolve the target's name, or not reach
    it. With `socks5://` the name is resolved here, and the proxy was not asked.
    """


class TargetFailed(TunnelError):
    """The target was reached, but refuses STARTTLS, or does not speak its protocol."""


class RouteFailed(TunnelError):
    """Each of several ways failed.

    @ivar failures: the failure of each way, in the order in which they were tried.
    """

    def __init__(self, failures: Sequence[TunnelError]) -> None:
        super().__init__("; ".join(map(str, failures)))
        self.failures = tuple(failures)


_TIMEOUTS = (TimeoutError, builtins.TimeoutError)
_NO_NAME = (DNSLookupError, UnknownHostError, socket.gaierror)

_IN_WORDS: dict[tuple[type[BaseException], ...], str] = {
    _TIMEOUTS: "timed out",
    (ConnectingCancelledError,): "cancelled",
    _NO_NAME: "the name does not resolve",
}

_BY_NUMBER = {
    errno.ECONNREFUSED: causes.REFUSED,
    errno.ETIMEDOUT: causes.NO_ANSWER,
    errno.EHOSTUNREACH: causes.NO_ROUTE,
    errno.ENETUNREACH: causes.NO_ROUTE,
}

_MEMORY = "it has no memory left for sockets"
_PORTS = (
    "it has no local port left for connections to that address; "
    "see net.ipv4.ip_local_port_range, and how many are open (ss -s)"
)
# Resources that this machine or process may run out of, each with its remedy.
_SHORTAGES = {
    errno.EMFILE: "the process has all the open files that it may have; "
    "raise RLIMIT_NOFILE (LimitNOFILE, ulimit -n), or lower max-connections",
    errno.ENFILE: "it has all the open files that it may have; raise fs.file-max",
    errno.ENOBUFS: _MEMORY,
    errno.ENOMEM: _MEMORY,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.EAGAIN: "it has no ports, threads or memory left; "
    "see net.ipv4.ip_local_port_range, RLIMIT_NPROC and TasksMax",
    errno.ENOSPC: "it may watch no more sockets; raise fs.epoll.max_user_watches",
}
_FORBIDDEN = (errno.EPERM, errno.EACCES)


def reasonOf(error: BaseException | None) -> str:
    """Return a few words for an error of Twisted or the system: why a connection failed."""
    if isinstance(error, TunnelError):
        return str(error)
    for kinds, words in _IN_WORDS.items():
        if isinstance(error, kinds):
            return words
    number = _numberOf(error)
    if number is not None:
        return os.strerror(number).lower()
    queue = error.args[0] if error is not None and error.args else None
    if isinstance(queue, list):  # OpenSSL's: library, function, reason
        return "TLS: " + (", ".join(str(entry[-1]) for entry in queue) or "failed")
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def cannotReach(
    error: BaseException, hop: str, *, target: bool = False
) -> Unreachable | LocalFailure:
    """Return the error for a connection that could not be made.

    @param error: the error of Twisted or the system.
    @param hop: the other end, as `host:port`; "": the proxy; as `unix:path` it is a Unix socket.
    @param target: whether that is the target of a direct connection and not a proxy.
    """
    number = _numberOf(error) or 0
    if hop.startswith("unix:") and (number in _FORBIDDEN or number not in _SHORTAGES):
        # Twisted takes the kernel's EAGAIN for a connection under way, and then sees it closed.
        isFull = type(error) is ConnectError and not number
        why = "its queue of clients is full" if isFull else reasonOf(error)
        return _unreachable(hop, target, why, causes.NO_SOCKET)
    if number in _FORBIDDEN or number in _SHORTAGES:
        return _localFailure(hop, target, number)
    cause: Cause | None
    if isinstance(error, _TIMEOUTS):
        cause = causes.NO_ANSWER
    elif isinstance(error, _NO_NAME):
        cause = causes.TARGET_NAME if target else causes.PROXY_NAME
    else:
        cause = _BY_NUMBER.get(number)
    return _unreachable(hop, target, reasonOf(error), cause)


def noAnswer(hop: str, seconds: float, *, target: bool = False) -> Unreachable:
    """Return the error for a connection that was not made in time.

    @param hop: the other end, as `host:port`; "": the proxy.
    @param seconds: the time that it had.
    @param target: whether that is the target of a direct connection and not a proxy.
    """
    return _unreachable(hop, target, f"timed out after {seconds:g} s", causes.NO_ANSWER)


def isShortage(error: BaseException | None) -> bool:
    """Return whether this machine lacks descriptors, ports or memory."""
    return _numberOf(error) in _SHORTAGES


def isLocal(error: BaseException | None) -> bool:
    """Return whether an error is about this machine and not about the hop."""
    return isShortage(error) or _numberOf(error) in _FORBIDDEN


def remedyOf(error: BaseException | None) -> str:
    """Return the remedy for a shortage of this machine; "" for other errors."""
    return _SHORTAGES.get(_numberOf(error) or 0, "")


def _unreachable(hop: str, target: bool, why: str, cause: Cause | None) -> Unreachable:
    who = _who(hop, target)
    return Unreachable(f"cannot reach {who}: {why}", hop=hop, cause=cause)


def _localFailure(hop: str, target: bool, number: int) -> LocalFailure:
    cause, hint = causes.OWN_RULES, causes.OWN_RULES.hint
    if number in _SHORTAGES:
        cause = causes.OWN_SHORTAGE
        hint = cause.hint.format(remedy=_SHORTAGES[number])
    what = f"this machine cannot connect to {_who(hop, target)}: {os.strerror(number).lower()}"
    return LocalFailure(what, hop=hop, hint=hint, cause=cause)


def _who(hop: str, target: bool) -> str:
    return hop if target else f"the proxy {hop}".rstrip()


def _numberOf(error: BaseException | None) -> int | None:
    """Return the system's number of an error; None if it has none."""
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return number if isinstance(number, int) else None
