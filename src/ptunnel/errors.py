"""Every failure that ptunnel knows, in one tree.

    PtunnelError
     +-- ConfigError                a mistake in options, config file or environment: exit 2
     +-- ListenError                a local port that cannot be bound: exit 1
     +-- TunnelError                a connection that could not be made (twisted's ConnectError)
          +-- Unreachable           no connection to the hop (DNS, TCP, TLS): try another proxy,
          |                         or, where that is allowed, none
          +-- LocalFailure          this machine is out of descriptors, ports or memory, or forbids
          |                         the connection: the hop is not at fault, so try no other way
          +-- CertificateRefused    the hop was reached, but its TLS certificate is none that can
          |                         be trusted, or it wanted one of ours
          +-- CredentialsUnavailable    the password file, command or ticket could not be had
          +-- ProxyFailed           the hop was reached but does not speak as a proxy must:
          |    |                    garbage, an end of file, silence
          |    +-- ProxyTimeout     it did not answer in time
          +-- ProxyRefused          it answered, with another status than 2xx
          |    +-- CredentialsRefused   407: it wants credentials, or other ones
          |    +-- TargetUnreachable    500 and its like: the proxy is well, the target is not
          +-- TargetFailed          the target was reached, but does not come to TLS as it should
          +-- RouteFailed           each of several ways was tried; holds the failure of each

A TunnelError says in one line what failed, where, and, where that is known, why.
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

    @ivar message: what happened, in one line and without the hint.
    @ivar hop: the proxy (or the target, of a direct connection) as `host:port`, or "".
    @ivar hint: what the likely cause is and what to do, or "".
    @ivar cause: one of L{ptunnel.causes}, None where the message alone says it. Its C{id} is what
        machines know it by.

    A failure does not change once it is made.
    """

    reached = True
    """Whether the hop had been reached; of an Unreachable nobody asks."""

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
    """This machine or process could not make the connection, whatever the hop is like."""

    reached = False


class CertificateRefused(TunnelError):
    """The hop showed a TLS certificate that cannot be trusted, or wanted one and got none.

    @ivar validFrom: the beginning of its validity, where that is in the future; else None.
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
    """The credentials for a proxy could not be had: nothing of them was sent."""

    reached = False


class ProxyFailed(TunnelError):
    """The hop was reached, but its answer to CONNECT is none that HTTP knows, or is missing."""


class ProxyTimeout(ProxyFailed):
    """The hop was reached, but its answer to CONNECT did not come in time."""


class ProxyRefused(TunnelError):
    """The proxy answered CONNECT with another status than 2xx.

    @ivar status: the status code, 300 to 999.
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
        """The same refusal with another cause and hint."""
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
    """407: the proxy wants credentials and has none, or does not accept those that it got."""


class TargetUnreachable(ProxyRefused):
    """500, 502 to 504, 404: the proxy could not resolve the target's name, or not reach it."""


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
# What this machine or process may run out of as it connects, and what then helps.
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
    """Why a connection failed, in a few words, from what Twisted or the system raised."""
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
    """What a connection over TCP that could not be made is to be called.

    @param error: what Twisted or the system raised.
    @param hop: where it was to lead, as `host:port`; "": to the proxy.
    @param target: whether that is the target, of a direct connection, and no proxy.
    """
    number = _numberOf(error) or 0
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
    """The failure of a connection that was not made in time.

    @param hop: where it was to lead, as `host:port`; "": to the proxy.
    @param seconds: the time that it had.
    @param target: whether that is the target, of a direct connection, and no proxy.
    """
    return _unreachable(hop, target, f"timed out after {seconds:g} s", causes.NO_ANSWER)


def isShortage(error: BaseException | None) -> bool:
    """Whether it is for want of descriptors, ports or memory of this machine's own."""
    return _numberOf(error) in _SHORTAGES


def isLocal(error: BaseException | None) -> bool:
    """Whether it says something of this machine, and nothing of the hop."""
    return isShortage(error) or _numberOf(error) in _FORBIDDEN


def remedyOf(error: BaseException | None) -> str:
    """What helps against a shortage of this machine's own, or ""."""
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
    """The system's number of an error, where it has one."""
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return number if isinstance(number, int) else None
