"""Who we are at one proxy: what it accepted, what it rejected, and until when it is left alone.

A proxy is asked without credentials first, and gets what its challenge wants; the scheme that it
accepted is remembered, so that the next tunnel saves that round trip. As long as nothing has been
accepted, one tunnel at a time tries, and all others that were challenged wait for how that ends:
rejected credentials are sent once and not again for a back-off, since attempts lock accounts.

A proxy says soon that it rejects credentials, as a rule; what takes longer is its way to the
target. So a second tunnel may try beside a first one that waits, but no third: an answer that has
not come may be a rejection that is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred, execute, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime

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
)
from ptunnel.errors import (
    CredentialsRefused,
    CredentialsUnavailable,
    ProxyFailed,
    ProxyRefused,
    TunnelError,
)
from ptunnel.handshake import Challenged
from ptunnel.sweep import clockOf

T = TypeVar("T")

# Seconds without a further attempt after credentials were rejected, doubled each time. Accounts are
# locked after some five attempts within half an hour, as a rule.
REJECTED_BACK_OFF = (60.0, 3600.0)
# The same after they could not be had: nobody is locked for it, but a command may be costly.
MISSING_BACK_OFF = (1.0, 10.0)
# How many attempts may be under way, or have ended without an answer, at the same time.
MAX_UNVERIFIED = 2
# Answers to challenges within one attempt at a tunnel: Negotiate may need some legs, and a stale
# nonce one more. A proxy that asks on and on is broken or hostile.
MAX_ANSWERS = 6


class CredentialsReader(Protocol):
    """Where credentials come from."""

    def read(self) -> Deferred[Credentials]:
        """@return: fails with L{CredentialsUnavailable}."""

    def changed(self) -> bool:
        """Whether `read` would now give others than it gave last."""


class Given:
    """Credentials that are known already."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def read(self) -> Deferred[Credentials]:
        return succeed(self._credentials)

    def changed(self) -> bool:
        return False


class Login:
    """One proxy's authentication, shared by all connections through it."""

    def __init__(
        self,
        credentials: Credentials | CredentialsReader | None,
        *,
        scheme: str = "auto",
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
        self.host = host
        self.hop = hop
        self._accepted: Scheme | None = None
        self._stronger = ""
        self._warn = warn
        self._prober: Visit | None = None
        self._trying: list[Visit] = []
        self._unanswered = 0
        self._silent: set[str] = set()
        self._reactor = reactor
        self._waiting: list[Deferred[None]] = []
        self._trouble: TunnelError | None = None
        self._rejected: Credentials | None = None
        self._isLasting = False
        self._until = 0.0
        self._backOff = 0.0

    @property
    def who(self) -> str:
        """What failures call the proxy, with the article."""
        return f"the proxy {self.hop}" if self.hop else "the proxy"

    def visit(self, target: str) -> Visit:
        """One attempt at a tunnel. @param target: `host:port`, as CONNECT writes it."""
        return Visit(self, target)

    def speaksFirst(self) -> bool:
        """Whether a visit has anything to say, or to wait for, before the proxy asks."""
        known = self._accepted is not None or self._trouble is not None
        return known or self.wanted == "basic"

    def check(self, target: str) -> None:
        """@raise TunnelError: while the last failure's back-off lasts, and nothing has changed."""
        if self._trouble is None:
            return
        if self._clock().seconds() >= self._endFor(target):
            self._trouble = None
            self._unanswered = min(self._unanswered, MAX_UNVERIFIED - 1)
        elif not self._changed():
            raise self._delayed(self._trouble, target)

    def _endFor(self, target: str) -> float:
        """The end of the back-off. An attempt without an answer may have waited for its target
        only, so that those for other targets go first.
        """
        return self._until + (self._backOff if target in self._silent else 0.0)

    def admit(self, credentials: Credentials | None, target: str) -> None:
        """Whether these, which were just read, may be sent.

        @raise TunnelError: where they are those that were rejected, wherever they come from now.
        """
        if self._trouble is None:
            return
        if self._isLasting and credentials == self._rejected:
            raise self._delayed(self._trouble, target)
        self._trouble = None
        self._until = self._backOff = 0.0
        self._forgetAttempts()

    def _forgetAttempts(self) -> None:
        self._unanswered = 0
        self._silent.clear()

    def _delayed(self, trouble: TunnelError, target: str) -> TunnelError:
        """The last failure, as one who comes later is told it."""
        if not self._isLasting:
            return trouble.with_traceback(None)
        left = self._endFor(target) - self._clock().seconds()
        message = f"{trouble.message}; they are not sent again for {left:.0f} s"
        said = {"hop": self.hop, "hint": trouble.hint, "cause": trouble.cause}
        if not isinstance(trouble, CredentialsRefused):
            return CredentialsUnavailable(message, **said)
        delayed = CredentialsRefused(message, status=trouble.status, reason=trouble.reason, **said)
        delayed.reached = False
        return delayed

    def known(self) -> Scheme | None:
        """The scheme that was accepted, as long as its credentials are the newest."""
        if self._accepted is not None and self._changed():
            self._accepted = None
        return self._accepted

    def claim(self, visit: Visit) -> bool:
        """Let this visit try, if nobody else is to be waited for.

        @return: whether it may.
        """
        if visit in self._trying:
            return True
        # What was tried so far says nothing about newer credentials.
        if self._prober is not None or not (self.unverified < MAX_UNVERIFIED or self._changed()):
            return False
        self._prober = visit
        self._trying.append(visit)
        return True

    @property
    def unverified(self) -> int:
        """How many attempts are under way, or have ended without an answer."""
        return len(self._trying) + self._unanswered

    def wait(self) -> Deferred[None]:
        """@return: fires when things have changed."""
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def succeeded(self, visit: Visit, scheme: Scheme) -> None:
        """The proxy has accepted the credentials."""
        if scheme.name != Basic.name:
            self._stronger = scheme.title
        tried = {other.credentials for other in self._trying if other is not visit}
        if tried <= {scheme.credentials}:  # else somebody tries newer ones
            self._accepted = scheme
        if self._rejected in (None, scheme.credentials):
            self._trouble = None
            self._until = self._backOff = 0.0
            self._forgetAttempts()
        self.left(visit)

    def failed(
        self, visit: Visit, trouble: TunnelError, rejected: Credentials | None = None
    ) -> None:
        """The credentials were rejected, or could not be had, or cannot be given.

        @param rejected: those that were rejected, or for which the proxy had no answer.
        """
        now = self._clock().seconds()
        isLasting = isinstance(trouble, CredentialsRefused) or rejected is not None
        outweighs = isLasting and not self._isLasting
        if now >= self._until or outweighs:  # of several that were under way at once, one counts
            least, most = REJECTED_BACK_OFF if isLasting else MISSING_BACK_OFF
            self._trouble, self._isLasting = trouble, isLasting
            self._rejected = rejected
            self._backOff = min(max(2 * self._backOff, least), most)
            self._until = now + self._backOff
        self.left(visit)

    def unanswered(self, visit: Visit, target: str, credentials: Credentials | None) -> None:
        """An attempt has ended, and nobody knows what the proxy thinks of it."""
        self._unanswered += 1
        self._silent.add(target)
        if self._unanswered < MAX_UNVERIFIED:
            return
        trouble = CredentialsUnavailable(
            f"{self.who} did not say whether it accepts the credentials, which were tried "
            f"{MAX_UNVERIFIED} times",
            hop=self.hop,
            hint=causes.CREDENTIALS_REJECTED.hint,
            cause=causes.SILENT.id,
        )
        self.failed(visit, trouble, credentials)

    def stepAside(self, visit: Visit) -> None:
        """A visit goes on trying, but others need not wait for it any more."""
        if self._prober is visit:
            self._prober = None
            self._wake()

    def left(self, visit: Visit) -> None:
        """A visit tries no more: those that waited for it look again."""
        if visit in self._trying:
            self._trying.remove(visit)
            if self._prober is visit:
                self._prober = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def isTrying(self, visit: Visit) -> bool:
        """Whether this visit is one that others wait for."""
        return visit in self._trying

    def show(self, inClear: bool) -> None:
        """Prepare for Basic, which the proxy asks for: everybody between can read it in clear.

        @raise NoScheme: where it must not be sent so.
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
        """This one is not accepted any more."""
        if self._accepted is scheme:
            self._accepted = None

    def inThread(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Call what may ask a Kerberos server, and wait for it."""
        from twisted.internet.threads import deferToThreadPool

        reactor: Any = self._clock()
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)

    def _changed(self) -> bool:
        return self.reader is not None and self.reader.changed()

    def _clock(self) -> IReactorTime:
        return clockOf(self._reactor)


class Visit:
    """One attempt at a tunnel, as far as authentication goes: `first`, then `answer` as often as
    the proxy asks, with `sent` whenever an answer goes out; then `accepted`, `refused` or `leave`.

    @ivar waiting: whether it waits for how another one's attempt ends.
    @ivar opens: whether the first request is to carry what only `open` says.
    @ivar sticky: whether the newest answer belongs on the connection that brought the challenge.
    @ivar credentials: those that it tries, as soon as they are known.
    """

    def __init__(self, login: Login, target: str) -> None:
        self._login = login
        self._target = target
        self._scheme: Scheme | None = None
        self._exchange: Exchange | None = None
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
        """Whether it is a connection that is authenticated, and must be kept for that."""
        return self._scheme is not None and self._scheme.bound

    def secrets(self) -> tuple[bytes, ...]:
        """What the proxy was told, and nobody else is to see."""
        return self._exchange.secrets() if self._exchange is not None else ()

    @inlineCallbacks
    def first(self) -> Generator[Deferred[Any], Any, bytes | None]:
        """The value of Proxy-Authorization for the first request, or None.

        @return: a Deferred; it fails with L{CredentialsRefused} or L{CredentialsUnavailable}, when
            they were just rejected or missing.
        """
        login = self._login
        login.check(self._target)
        if login.wanted == "basic":
            yield self._turn()
        scheme = login.known()
        if scheme is None and login.wanted == "basic":
            credentials = yield self._read()
            login.admit(credentials, self._target)
            self.credentials = credentials
            scheme = Basic(credentials, login.host)
        if scheme is None:
            return None
        self._unasked = True
        self._use(scheme)
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
        self, challenged: Challenged, channel: bytes | None = None
    ) -> Generator[Deferred[Any], Any, bytes]:
        """The value of Proxy-Authorization for the next request.

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
            if login.isTrying(self):
                login.failed(self, error)
            raise error
        challenges = self._asked(challenged)
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
                    yield self._rejected(challenged.refusal)
            return cast(bytes, (yield self._begin(challenges)))
        except NoScheme as e:
            challenged.refusal.hint, challenged.refusal.cause = str(e), e.cause.id
            raise challenged.refusal from None
        except ChallengeError as e:
            what = f"sent a challenge that cannot be answered: {e}"
            error = self._broken(what, causes.SCHEME_NOT_SERVED)
            if login.isTrying(self):
                login.failed(self, error)
            raise error from None

    def _asked(self, challenged: Challenged) -> list[Challenge]:
        """The challenges of a 407; those that begin an exchange are remembered."""
        if not challenged.values:
            # The oldest proxies meant Basic; nobody gets a password for saying nothing, unless it
            # has it already.
            isBasic = self._login.wanted == Basic.name or isinstance(self._scheme, Basic)
            return [Challenge(Basic.name)] if isBasic else []
        try:
            challenges = parseChallenges(challenged.values)
        except ChallengeError as e:
            raise self._broken(f"sent a malformed challenge: {e}") from None
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
        """The proxy refused the target. Whom it had asked before, it knows now."""
        asked = self._exchange is not None and not self._exchange.midway and not self._unasked
        if asked and not isinstance(refusal, CredentialsRefused):
            self.accepted()
        self._told = False
        self.leave()

    def stepAside(self) -> None:
        """Let others try, since the answer is long in coming. Idempotent."""
        self._login.stepAside(self)

    def leave(self) -> None:
        """End the visit, whatever its outcome. Idempotent."""
        login = self._login
        if self._told and self._scheme is not None and login.isTrying(self):
            login.unanswered(self, self._target, self._scheme.credentials)
        self._told = False
        login.left(self)

    @inlineCallbacks
    def _turn(self) -> Generator[Deferred[None], None, None]:
        """Wait until a scheme is known, or this visit may try."""
        login = self._login
        login.check(self._target)
        while login.known() is None and not login.claim(self):
            self.waiting = True
            yield login.wait()
            self.waiting = False
            login.check(self._target)

    @inlineCallbacks
    def _begin(self, challenges: Sequence[Challenge]) -> Generator[Deferred[Any], Any, bytes]:
        """Answer with a scheme that was not tried yet."""
        login = self._login
        self._unasked = False
        yield self._turn()
        while (scheme := login.known()) is not None:
            challenge = _of(scheme, challenges)
            if challenge is not None:
                self._use(scheme)
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
                login.show(self._channel is None)
            self._use(kind(credentials, login.host))
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
        if login.known() is not None:
            return
        if not self._reread and login.reader is not None:
            self._reread = True
            try:
                self._fresh = yield login.reader.read()
            except CredentialsUnavailable:
                self._fresh = scheme.credentials  # there are no newer ones
            if self._fresh != scheme.credentials or login.known() is not None:
                return
        login.failed(self, refusal, scheme.credentials)
        raise refusal

    @inlineCallbacks
    def _read(self) -> Generator[Deferred[Credentials], Credentials, Credentials | None]:
        if self._login.reader is None:
            return None
        try:
            return (yield self._login.reader.read())
        except CredentialsUnavailable as e:
            self._login.failed(self, e)
            raise

    def _use(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._exchange = scheme.begin(self._target)
        self._bind(self._channel)

    def _bind(self, channel: bytes | None) -> None:
        self._channel = channel
        if self._exchange is not None:
            self._exchange.channel = channel or b""

    def _ask(self, method: str, *arguments: object) -> Deferred[bytes | None]:
        assert self._scheme is not None
        function = getattr(self._exchange, method)
        if self._scheme.blocking:
            return self._login.inThread(function, *arguments)
        return execute(function, *arguments)

    def _broken(self, what: str, cause: causes.Cause = causes.BROKEN) -> ProxyFailed:
        login = self._login
        return ProxyFailed(f"{login.who} {what}", hop=login.hop, cause=cause.id)


def _of(scheme: Scheme, challenges: Sequence[Challenge]) -> Challenge | None:
    """The challenge that a scheme can answer, of several the best."""
    try:
        return choose(challenges, scheme.credentials, scheme.name)[1]
    except NoScheme:
        return None
