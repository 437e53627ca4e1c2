"""Who we are at one proxy: the scheme that it accepts, and which attempt may try credentials.

A proxy is asked without credentials first, and gets what its challenge wants; the scheme that it
accepted is remembered, so that the next tunnel saves that round trip. As long as nothing has been
accepted, one tunnel at a time tries, and all others that were challenged wait for how that ends:
rejected credentials are sent once and not again for a back-off, since attempts lock accounts.

A proxy says soon that it rejects credentials, as a rule; what takes longer is its way to the
target. So a second tunnel may try beside a first one that waits, but no third: an answer that has
not come may be a rejection that is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from ptunnel.auth import AuthMethod, Basic, Credentials, NoScheme, Scheme
from ptunnel.errors import TunnelError
from ptunnel.login.turns import Trier, Turns
from ptunnel.login.verdicts import MAX_UNVERIFIED, Verdicts
from ptunnel.timing.deadlines import clockOf


class CredentialsReader(Protocol):
    """Where credentials come from."""

    def read(self) -> Deferred[Credentials]:
        """@return: fails with L{CredentialsUnavailable}."""

    def changed(self) -> bool:
        """Whether `read` would now give other credentials than the last time."""


class Given:
    """Credentials that are known already."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def read(self) -> Deferred[Credentials]:
        return succeed(self._credentials)

    def changed(self) -> bool:
        return False


class Login:
    """One proxy's authentication, shared by all connections through it.

    @ivar turns: the attempts that try credentials or wait.
    @ivar verdicts: the last failure. @ivar accepted: the scheme that it accepted; None: none yet.
    @ivar letsPass: whether the last request of somebody unknown was not challenged.
    """

    letsPass = False

    def __init__(
        self,
        credentials: Credentials | CredentialsReader | None,
        *,
        scheme: AuthMethod = "auto",
        host: str = "",
        hop: str = "",
        warn: Callable[[str], None] | None = None,
        reactor: Any = None,
    ) -> None:
        """
        @param credentials: or where they can be read when they are needed; None: there are none,
            and a Kerberos ticket may serve.
        @param scheme: "auto", or the only one that is to be used: "basic", which is sent unasked,
            "digest", "ntlm" or "negotiate".
        @param host: the proxy's name, for which a Kerberos ticket is asked.
        @param hop: what failures call the proxy; "": as the first ConnectEndpoint calls it.
        @param warn: called once, with a line, when the password goes out in clear because the proxy
            asks for it so.
        @param reactor: clock and threads; None: the reactor.
        """
        self.reader = Given(credentials) if isinstance(credentials, Credentials) else credentials
        self.wanted = scheme
        self.host, self.hop = host, hop
        self.turns = Turns()
        self.verdicts = Verdicts()
        self.accepted: Scheme | None = None
        self._stronger = ""
        self._warn = warn
        self._reactor = reactor

    @property
    def who(self) -> str:
        """What failures call the proxy, with the article."""
        return f"the proxy {self.hop}" if self.hop else "the proxy"

    @property
    def clock(self) -> IReactorTime:
        """The clock, which is the reactor in a program."""
        return clockOf(self._reactor)

    @property
    def speaksFirst(self) -> bool:
        """Whether an attempt has something to send, or a failure to report, before a challenge."""
        known = self.accepted is not None or self.verdicts.trouble is not None
        return known or self.wanted == "basic"

    @property
    def known(self) -> Scheme | None:
        """The scheme that the proxy accepted; None if its credentials are not the newest."""
        return None if self.accepted is None or self._changed() else self.accepted

    @property
    def unverified(self) -> int:
        """How many attempts are under way, or have ended without an answer."""
        return self.turns.count + self.verdicts.unanswered

    def checkBackOff(self, target: str) -> None:
        """Forget the last failure if its back-off is over.

        @param target: `host:port`.
        @raise TunnelError: while it lasts, and the credentials have not changed.
        """
        verdicts, now = self.verdicts, self.clock.seconds()
        verdicts.lapse(now, target)
        if verdicts.trouble is not None and not self._changed():
            raise verdicts.delayed(now, target)

    def read(self) -> Deferred[Credentials | None]:
        """Read the credentials, and forget a scheme that was accepted with older ones.

        @return: fires with None if there are none, or fails with L{CredentialsUnavailable}.
        """
        reader = self.reader
        if self._changed():
            self.accepted = None
        return succeed(None) if reader is None else cast("Deferred[Any]", reader.read())

    def admit(self, credentials: Credentials | None, target: str) -> None:
        """End the back-off, as these credentials, which were just read, are new.

        @raise TunnelError: if they are the ones that were rejected.
        """
        self.verdicts.admit(self.clock.seconds(), target, credentials)

    def mayTry(self, one: Trier) -> bool:
        """Whether an attempt may send credentials now, and need not wait for another one."""
        turns = self.turns
        if turns.isTrying(one):
            return True
        # The attempts so far say nothing about newer credentials.
        return turns.isFree and (self.unverified < MAX_UNVERIFIED or self._changed())

    def succeeded(self, one: Trier, scheme: Scheme) -> None:
        """The proxy has accepted the credentials."""
        if scheme.name != Basic.name:
            self._stronger = scheme.title
        if self.turns.othersThan(one) <= {scheme.credentials}:  # else another one tries newer ones
            self.accepted = scheme
        self.verdicts.accept(scheme.credentials)
        self.turns.leave(one)

    def failed(self, one: Trier, trouble: TunnelError, rejected: Credentials | None = None) -> None:
        """The credentials were rejected, or could not be had, or cannot be given.

        @param rejected: the credentials that were rejected, or that the proxy did not answer.
        """
        self.verdicts.fail(self.clock.seconds(), trouble, rejected)
        self.turns.leave(one)

    def unanswered(self, one: Trier, target: str, credentials: Credentials | None) -> None:
        """An attempt has ended without an answer to its credentials."""
        trouble = self.verdicts.miss(target, self.who, self.hop)
        if trouble is not None:
            self.failed(one, trouble, credentials)

    def permitBasic(self, inClear: bool) -> None:
        """Let Basic be sent, as the proxy asks for it; warn once if it can be read on the way.

        @raise NoScheme: if it must not be sent so.
        """
        if not inClear or self.wanted == Basic.name:
            return
        if self._stronger:
            raise NoScheme(
                f"it asks for Basic, though it accepted {self._stronger} before; auth = basic "
                "would send user name and password, in clear"
            )
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(f"{self.who} asks for Basic: user name and password go to it in clear")

    def forget(self, scheme: Scheme) -> None:
        """Forget that the proxy accepted this scheme."""
        if self.accepted is scheme:
            self.accepted = None

    def _changed(self) -> bool:
        return self.reader is not None and self.reader.changed()
