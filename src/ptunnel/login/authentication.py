"""What one tunnel says to a proxy that asks who we are: an exchange, as its login allows it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, execute, inlineCallbacks

from ptunnel import causes
from ptunnel.auth import (
    Basic,
    Challenge,
    ChallengeError,
    Credentials,
    Exchange,
    NoScheme,
    Scheme,
    choose,
    parseChallenges,
    whyChosen,
)
from ptunnel.errors import (
    CredentialsRefused,
    CredentialsUnavailable,
    ProxyFailed,
    ProxyRefused,
    TunnelError,
)
from ptunnel.log import Trace
from ptunnel.login.login import Login
from ptunnel.login.verdicts import MAX_UNVERIFIED

T = TypeVar("T")

# Answers to challenges within one attempt at a tunnel: Negotiate may need some legs, and a stale
# nonce one more. A proxy that asks on and on is broken or hostile.
MAX_ANSWERS = 6


class Authentication:
    """One attempt at a tunnel, as far as authentication goes: `first`, then `answer` as often as
    the proxy asks, with `sent` whenever an answer goes out; then `accepted`, `refused` or `leave`.

    @ivar waiting: whether it waits for how another one's attempt ends.
    @ivar opens: whether the first request is to carry what only `open` says.
    @ivar sticky: whether the newest answer belongs on the connection that brought the challenge.
    @ivar credentials: those that it tries, as soon as they are known.
    """

    def __init__(self, login: Login, target: str, trace: Trace | None = None) -> None:
        """@param trace: gets a line for each scheme that is chosen, and why; None: none."""
        self._trace = trace
        self._login = login
        self._target = target
        self._scheme: Scheme | None = None
        self._exchange: Exchange | None = None
        self._begun: list[Exchange] = []
        self._unasked = self._reread = self._told = False
        self.waiting = self.opens = False
        self._answers = 0
        self._cannot: dict[str, Exception] = {}
        self._offers: list[Challenge] = []
        self._channel: bytes | None = None
        self._fresh: Credentials | None = None
        self.credentials: Credentials | None = None

    @property
    def sticky(self) -> bool:
        return self._exchange is not None and self._exchange.continues

    @property
    def midway(self) -> bool:
        """Whether what was sent is the beginning of an exchange on one connection."""
        return self._exchange is not None and self._exchange.midway

    @property
    def bound(self) -> bool:
        """Whether the scheme authenticates the connection, so it must be reused."""
        return self._scheme is not None and self._scheme.bound

    def secrets(self) -> tuple[bytes, ...]:
        """What the proxy was told, on whatever connection, and nobody else is to see."""
        if not self._begun:
            return ()
        told = (secret for exchange in self._begun for secret in exchange.secrets())
        return tuple(dict.fromkeys(told))

    @inlineCallbacks
    def first(self) -> Generator[Deferred[Any], Any, bytes | None]:
        """The value of Proxy-Authorization for the first request, or None.

        @return: a Deferred; it fails with L{CredentialsRefused} or L{CredentialsUnavailable}, when
            they were just rejected or missing.
        """
        login = self._login
        login.checkBackOff(self._target)
        if login.wanted == "basic":
            yield self._turn()
        scheme = login.known
        if scheme is None and login.wanted == "basic":
            credentials = yield self._read()
            login.admit(credentials, self._target)
            self.credentials = credentials
            scheme = Basic(credentials, login.host)
        if scheme is None:
            return None
        self._unasked = True
        known = scheme is login.known
        self._use(scheme, "unasked, as the proxy accepted it before" if known else "auth = basic")
        if scheme.bound:
            self.opens = True
            return None
        return cast("bytes | None", (yield self._ask("first")))

    @inlineCallbacks
    def open(self, channel: bytes | None) -> Generator[Deferred[Any], Any, bytes | None]:
        """The value of Proxy-Authorization for the first request on a connection that stands.

        @param channel: as in L{answer}.
        """
        self.opens = False
        scheme = self._scheme
        assert scheme is not None
        self._bind(channel)
        try:
            return cast("bytes | None", (yield self._ask("first")))
        except ChallengeError:  # a ticket has run out
            self._login.forget(scheme)
            self._scheme = self._exchange = None
            return None

    def sent(self) -> None:
        """The newest answer has gone out."""
        self._told = self._told or (self._exchange is not None and self._exchange.told)

    @inlineCallbacks
    def answer(
        self,
        values: Sequence[bytes],
        refusal: CredentialsRefused,
        channel: bytes | None = None,
    ) -> Generator[Deferred[Any], Any, bytes]:
        """The value of Proxy-Authorization for the next request.

        @param values: those of Proxy-Authenticate in a 407.
        @param refusal: the failure that it is where it cannot be answered.
        @param channel: what binds the answer to the TLS connection with the proxy, b"" where
            nothing does; None where the connection is in clear.
        @return: a Deferred; it fails with L{CredentialsRefused}, L{CredentialsUnavailable} or
            L{ProxyFailed}.
        """
        login = self._login
        self._bind(channel)
        self._told = False  # this is the verdict
        self._answers += 1
        if self._answers > MAX_ANSWERS:
            error = self._broken(f"goes on asking who we are, after {MAX_ANSWERS} answers")
            if login.turns.isTrying(self):
                login.failed(self, error)
            raise error
        challenges = self._asked(values)
        try:
            exchange, scheme = self._exchange, self._scheme
            if exchange is not None and scheme is not None:
                challenge = _of(scheme, challenges)
                if challenge is not None:
                    header = yield self._try(challenge)
                    if header is not None:
                        return cast(bytes, header)
                if challenge is None and (self._unasked or not exchange.told):
                    self._drop()  # the proxy has come to ask for another one
                elif self._scheme is not None:  # else it gives way to a weaker one
                    yield self._rejected(refusal)
            return cast(bytes, (yield self._begin(challenges)))
        except NoScheme as e:
            raise refusal.explained(e.cause, self._shown(e)) from None
        except ChallengeError as e:
            what = f"sent a challenge that cannot be answered: {self._shown(e)}"
            error = self._broken(what, causes.SCHEME_NOT_SERVED)
            if login.turns.isTrying(self):
                login.failed(self, error)
            raise error from None

    def _asked(self, values: Sequence[bytes]) -> list[Challenge]:
        """The challenges of a 407; those that begin an exchange are remembered."""
        if not values:
            # The oldest proxies meant Basic; nobody gets a password for saying nothing, unless it
            # has it already.
            isBasic = self._login.wanted == Basic.name or isinstance(self._scheme, Basic)
            return [Challenge(Basic.name)] if isBasic else []
        try:
            challenges = parseChallenges(values)
        except ChallengeError as e:
            raise self._broken(f"sent a malformed challenge: {self._shown(e)}") from None
        begun = self._scheme.name if self._scheme is not None else ""
        offers = [c for c in challenges if c.scheme != begun or not c.token]
        self._offers = offers or self._offers
        return challenges

    @inlineCallbacks
    def giveWay(self, error: TunnelError) -> Generator[Deferred[Any], Any, bytes]:
        """The connection has ended that the exchange was bound to: what another scheme says on a
        new one.

        @param error: the failure where there is no other.
        @return: as L{answer}.
        """
        login, scheme = self._login, self._scheme
        assert scheme is not None
        self._cannot[scheme.name] = error
        self._drop()
        if self._told:
            self._told = False
            login.unanswered(self, self._target, scheme.credentials)
        if not self._offers or login.unverified > MAX_UNVERIFIED:
            raise error
        try:
            return cast(bytes, (yield self._begin(self._offers)))
        except (NoScheme, ChallengeError):
            raise error from None

    def accepted(self, info: bytes | None = None) -> None:
        """The proxy let it pass.

        @param info: the value of Proxy-Authentication-Info (RFC 7615).
        """
        self._told = False
        if self._exchange is not None and self._scheme is not None:
            self._exchange.accepted(info)
            self._login.succeeded(self, self._scheme)
        self.leave()

    def refused(self, refusal: ProxyRefused) -> None:
        """Note that the proxy refused the target. If it had challenged us, it has accepted the
        credentials.
        """
        asked = self._exchange is not None and not self._exchange.midway and not self._unasked
        if asked and not isinstance(refusal, CredentialsRefused):
            self.accepted()
        self._told = False
        self.leave()

    def stepAside(self) -> None:
        """Let others try, since the answer is long in coming. Idempotent."""
        self._login.turns.stepAside(self)

    def leave(self) -> None:
        """End the authentication, whatever its outcome. Idempotent."""
        login = self._login
        if self._told and self._scheme is not None and login.turns.isTrying(self):
            login.unanswered(self, self._target, self._scheme.credentials)
        self._told = False
        login.turns.leave(self)

    @inlineCallbacks
    def _turn(self) -> Generator[Deferred[None], None, None]:
        """Wait until a scheme is known, or this attempt may try."""
        login = self._login
        login.checkBackOff(self._target)
        while login.known is None and not login.mayTry(self):
            self.waiting = True
            if self._trace is not None:
                self._trace("auth: waits, as another connection tries the credentials")
            yield login.turns.wait()
            self.waiting = False
            login.checkBackOff(self._target)
        if login.known is None:
            login.turns.begin(self)

    @inlineCallbacks
    def _begin(self, challenges: Sequence[Challenge]) -> Generator[Deferred[Any], Any, bytes]:
        """Answer with a scheme that was not tried yet."""
        login = self._login
        self._unasked = False
        yield self._turn()
        while (scheme := login.known) is not None:
            challenge = _of(scheme, challenges)
            if challenge is not None:
                self._use(scheme, "the proxy accepted it before")
                header = yield self._try(challenge)
                if header is not None:
                    return cast(bytes, header)
            login.forget(scheme)
            yield self._turn()
        credentials, self._fresh = self._fresh or (yield self._read()), None
        login.admit(credentials, self._target)
        self.credentials = credentials
        while True:
            try:
                kind, challenge = choose(challenges, credentials, login.wanted, self._cannot)
            except NoScheme:
                if not self._cannot:
                    raise
                raise next(iter(self._cannot.values())) from None
            if kind is Basic:
                login.permitBasic(self._channel is None)
            why = ""
            if self._trace is not None:
                why = whyChosen(kind, challenges, credentials, login.wanted, self._cannot)
            self._use(kind(credentials, login.host), why)
            header = yield self._try(challenge)
            if header is not None:
                return cast(bytes, header)

    @inlineCallbacks
    def _try(self, challenge: Challenge) -> Generator[Deferred[Any], Any, bytes | None]:
        """Answer with the scheme in use. Where that cannot be done, it is not in use any more, and
        a weaker one may be.
        """
        scheme = self._scheme
        assert scheme is not None
        try:
            return cast("bytes | None", (yield self._ask("answer", challenge)))
        except ChallengeError as e:
            self._cannot[scheme.name] = e
            if self._trace is not None:
                self._trace(f"auth: {scheme.title} cannot answer: {self._shown(e)}")
            self._drop()
            return None

    def _drop(self) -> None:
        """Use the scheme no more."""
        if self._scheme is not None:
            self._login.forget(self._scheme)
        self._scheme = self._exchange = None

    @inlineCallbacks
    def _rejected(self, refusal: CredentialsRefused) -> Generator[Deferred[Any], Any, None]:
        """Go on only where there are other credentials than those that were rejected."""
        login, scheme = self._login, self._scheme
        assert scheme is not None
        self._drop()
        self._told = False
        if login.known is not None:
            return
        if not self._reread and login.reader is not None:
            self._reread = True
            try:
                self._fresh = yield login.read()
            except CredentialsUnavailable:
                self._fresh = scheme.credentials  # there are no newer ones
            if self._fresh != scheme.credentials or login.known is not None:
                return
        login.failed(self, refusal, scheme.credentials)
        raise refusal

    @inlineCallbacks
    def _read(self) -> Generator[Deferred[Any], Any, Credentials | None]:
        try:
            return cast("Credentials | None", (yield self._login.read()))
        except CredentialsUnavailable as e:
            self._login.failed(self, e)
            raise

    def _use(self, scheme: Scheme, why: str) -> None:
        self._scheme = scheme
        self._exchange = scheme.begin(self._target)
        self._begun.append(self._exchange)
        if self._trace is not None:
            self._trace(f"auth: {scheme.title}: {self._masked(why)}")
        self._bind(self._channel)

    def _bind(self, channel: bytes | None) -> None:
        self._channel = channel
        if self._exchange is not None:
            self._exchange.channel = channel or b""

    def _ask(self, method: str, *arguments: object) -> Deferred[bytes | None]:
        assert self._scheme is not None
        function = getattr(self._exchange, method)
        if self._scheme.blocking:
            return inThread(self._login.clock, function, *arguments)
        return execute(function, *arguments)

    def _shown(self, error: NoScheme | ChallengeError) -> str:
        """What is wrong with a challenge, in words of which some are the proxy's."""
        return self._masked(str(error))

    def _masked(self, text: str) -> str:
        from ptunnel.log.excerpts import oneLine

        return oneLine(text.encode("utf-8", "replace"), self.secrets())

    def _broken(self, what: str, cause: causes.Cause = causes.BROKEN) -> ProxyFailed:
        login = self._login
        return ProxyFailed(f"{login.who} {what}", hop=login.hop, cause=cause)


def inThread(reactor: Any, function: Callable[..., T], *arguments: object) -> Deferred[T]:
    """Call a function that may ask a Kerberos server. @return: its result."""
    from twisted.internet.threads import deferToThreadPool

    return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)


def _of(scheme: Scheme, challenges: Sequence[Challenge]) -> Challenge | None:
    """The challenge that a scheme can answer, of several the best."""
    try:
        return choose(challenges, scheme.credentials, scheme.name)[1]
    except NoScheme:
        return None
