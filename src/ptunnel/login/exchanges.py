"""The exchanges of one authentication: one scheme at a time answers, until none is left."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, execute, inlineCallbacks

from ptunnel.auth import AuthMethod, Basic, Credentials, Exchange, NoScheme, Scheme
from ptunnel.auth.challenges import Challenge, ChallengeError, parseChallenges
from ptunnel.auth.choice import choose, whyChosen
from ptunnel.log import Trace
from ptunnel.login.login import Login

T = TypeVar("T")


class Offers:
    """What a proxy offers, and what has failed.

    @ivar challenges: the newest ones that begin an exchange.
    @ivar failed: by the name of each scheme that failed, why.
    """

    def __init__(self, wanted: AuthMethod) -> None:
        self.challenges: list[Challenge] = []
        self.failed: dict[str, Exception] = {}
        self._wanted = wanted

    def parse(self, values: Sequence[bytes], used: Scheme | None) -> list[Challenge]:
        """Return the challenges of a 407, and keep those that begin an exchange.

        @param values: the values of Proxy-Authenticate.
        @param used: the scheme of the exchange so far.
        @raise ChallengeError: if one is malformed.
        """
        if not values:
            # The oldest proxies meant Basic; nobody gets a password for saying nothing, unless it
            # has it already.
            isBasic = self._wanted == Basic.name or isinstance(used, Basic)
            return [Challenge(Basic.name)] if isBasic else []
        challenges = parseChallenges(values)
        begun = used.name if used is not None else ""
        starts = [c for c in challenges if c.scheme != begun or not c.token]
        self.challenges = starts or self.challenges
        return challenges

    def choose(
        self, challenges: Sequence[Challenge], credentials: Credentials | None
    ) -> tuple[type[Scheme], Challenge]:
        """Return the strongest scheme that has not failed, and its challenge.

        @raise NoScheme: if there is none.
        @raise Exception: why the first one failed, if one has.
        """
        try:
            return choose(challenges, credentials, self._wanted, self.failed)
        except NoScheme:
            if not self.failed:
                raise
            raise next(iter(self.failed.values())) from None


class Exchanges:
    """The scheme in use and its exchange.

    A scheme is in use from `use` to `drop`. A method that answers returns a Deferred, since a
    scheme may have to ask another server.

    @ivar scheme: the scheme in use; None before the first one and after `drop`.
    @ivar unasked: whether its exchange began without a challenge.
    """

    def __init__(
        self, login: Login, target: str, trace: Trace | None, method: str = "CONNECT"
    ) -> None:
        """@param target: as the request has it."""
        self.scheme: Scheme | None = None
        self.unasked = False
        self.offers = Offers(login.wanted)
        self._login = login
        self._target = target
        self._method = method
        self._trace = trace
        self._exchange: Exchange | None = None
        self._begun: list[Exchange] = []
        self._channel: bytes | None = None

    @property
    def continues(self) -> bool:
        """Whether the newest answer has to go on the connection that brought the challenge."""
        return self._exchange is not None and self._exchange.continues

    @property
    def midway(self) -> bool:
        """Whether more messages have to follow on the same connection."""
        return self._exchange is not None and self._exchange.midway

    @property
    def bound(self) -> bool:
        """Whether the scheme authenticates the connection, so it must be reused."""
        return self.scheme is not None and self.scheme.bound

    @property
    def told(self) -> bool:
        """Whether the proxy gets to know credentials by the newest answer."""
        return self._exchange is not None and self._exchange.told

    def secrets(self) -> tuple[bytes, ...]:
        """Return the secrets that went to the proxy, on whatever connection."""
        if not self._begun:
            return ()
        told = (secret for exchange in self._begun for secret in exchange.secrets())
        return tuple(dict.fromkeys(told))

    def masked(self, text: str) -> str:
        """Return a text, some of which may be the proxy's, without secrets and on one line."""
        from ptunnel.log.excerpts import oneLine

        return oneLine(text.encode("utf-8", "replace"), self.secrets())

    def bind(self, channel: bytes | None) -> None:
        """Bind the answers from now on to a connection.

        @param channel: the binding of its TLS; b"" if that has none; None for one in clear.
        """
        self._channel = channel
        if self._exchange is not None:
            self._exchange.channel = channel or b""

    def use(self, scheme: Scheme, why: str, *, unasked: bool = False) -> None:
        """Begin an exchange. @param why: for the trace."""
        self.scheme = scheme
        self.unasked = unasked
        self._exchange = scheme.begin(self._target, self._method)
        self._begun.append(self._exchange)
        if self._trace is not None:
            self._trace(f"auth: {scheme.title}: {self.masked(why)}")
        self.bind(self._channel)

    def drop(self, error: Exception | None = None) -> None:
        """Use the scheme no more. @param error: why it cannot be used again."""
        if self.scheme is not None:
            if error is not None:
                self.offers.failed[self.scheme.name] = error
            self._login.forget(self.scheme)
        self.scheme = self._exchange = None

    def first(self) -> Deferred[bytes | None]:
        """Return what the scheme in use sends before a challenge; None: nothing.

        @return: fails with ChallengeError if it can send nothing any more.
        """
        return self._run("first")

    @inlineCallbacks
    def answer(self, challenge: Challenge) -> Generator[Deferred[Any], Any, bytes | None]:
        """Let the scheme in use answer.

        @return: None if the challenge means a rejection; or if it cannot be answered, and then the
            scheme is not in use any more.
        """
        scheme = self.scheme
        assert scheme is not None
        try:
            return cast("bytes | None", (yield self._run("answer", challenge)))
        except ChallengeError as e:
            if self._trace is not None:
                self._trace(f"auth: {scheme.title} cannot answer: {self.masked(str(e))}")
            self.drop(e)
            return None

    @inlineCallbacks
    def answerBest(
        self, challenges: Sequence[Challenge], credentials: Credentials | None
    ) -> Generator[Deferred[Any], Any, bytes]:
        """Answer by the strongest scheme that has not failed yet and has an answer.

        @return: fails with NoScheme or ChallengeError if there is none.
        """
        while True:
            challenge = self._choose(challenges, credentials)
            header = yield self.answer(challenge)
            if header is not None:
                return cast(bytes, header)

    def accepted(self, info: bytes | None) -> None:
        """Note that the proxy let it pass. @param info: its Proxy-Authentication-Info."""
        if self._exchange is not None:
            self._exchange.accepted(info)

    def _choose(
        self, challenges: Sequence[Challenge], credentials: Credentials | None
    ) -> Challenge:
        """Use the strongest scheme. @return: the challenge for it."""
        login, offers = self._login, self.offers
        kind, challenge = offers.choose(challenges, credentials)
        if kind is Basic:
            login.permitBasic(self._channel is None)
        why = ""
        if self._trace is not None:
            why = whyChosen(kind, challenges, credentials, login.wanted, offers.failed)
        self.use(kind(credentials, login.host), why)
        return challenge

    def _run(self, method: str, *arguments: object) -> Deferred[bytes | None]:
        assert self.scheme is not None
        function = getattr(self._exchange, method)
        if self.scheme.blocking:
            return _inThread(self._login.clock, function, *arguments)
        return execute(function, *arguments)


def _inThread(reactor: Any, function: Callable[..., T], *arguments: object) -> Deferred[T]:
    """Call a function that may ask a Kerberos server. @return: its result."""
    from twisted.internet.threads import deferToThreadPool

    return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)


def challengeFor(scheme: Scheme, challenges: Sequence[Challenge]) -> Challenge | None:
    """Return the challenge that a scheme can answer, of several the best."""
    try:
        return choose(challenges, scheme.credentials, scheme.name)[1]
    except NoScheme:
        return None
