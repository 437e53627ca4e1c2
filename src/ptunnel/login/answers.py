"""What one attempt sends to a proxy that asks who we are: credentials in turn, by a scheme that
serves.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, inlineCallbacks

from ptunnel import causes
from ptunnel.auth import Basic, NoScheme
from ptunnel.auth.challenges import Challenge, ChallengeError
from ptunnel.errors import CredentialsRefused, ProxyFailed, TunnelError
from ptunnel.login.exchanges import Exchanges, challengeFor
from ptunnel.login.login import Login
from ptunnel.login.trial import Trial
from ptunnel.login.verdicts import MAX_UNVERIFIED

# Answers to challenges within one attempt at a tunnel: Negotiate may need some legs, and a stale
# nonce one more. A proxy that asks on and on is broken or hostile.
MAX_ANSWERS = 6


class Answers:
    """Makes the values of Proxy-Authorization for one attempt. Each fails with a TunnelError if
    there is none, or none may be sent.
    """

    def __init__(self, login: Login, trial: Trial, exchanges: Exchanges) -> None:
        self._login = login
        self._trial = trial
        self._exchanges = exchanges
        self._count = 0

    @inlineCallbacks
    def first(self) -> Generator[Deferred[Any], Any, bytes | None]:
        """Return the value for the first request; None if a challenge has to come before it, or a
        connection.
        """
        login = self._login
        self._trial.checkBackOff()
        if login.wanted == Basic.name:
            yield self._trial.turn()
        scheme, why = login.known, "unasked, as the proxy accepted it before"
        if scheme is None and login.wanted == Basic.name:
            credentials = yield self._trial.read()
            scheme, why = Basic(credentials, login.host), "auth = basic"
        if scheme is None:
            return None
        self._exchanges.use(scheme, why, unasked=True)
        if scheme.bound:
            return None
        return cast("bytes | None", (yield self._exchanges.first()))

    @inlineCallbacks
    def open(self, channel: bytes | None) -> Generator[Deferred[Any], Any, bytes | None]:
        """Return the value of a bound scheme for the first request on a connection; or None."""
        self._exchanges.bind(channel)
        try:
            return cast("bytes | None", (yield self._exchanges.first()))
        except ChallengeError:  # a ticket has run out
            self._exchanges.drop()
            return None

    @inlineCallbacks
    def answer(
        self, values: Sequence[bytes], refusal: CredentialsRefused, channel: bytes | None
    ) -> Generator[Deferred[Any], Any, bytes]:
        """Return the answer to a challenge."""
        self._exchanges.bind(channel)
        self._count += 1
        if self._count > MAX_ANSWERS:
            raise self._failed(f"still answers 407 after {MAX_ANSWERS} attempts")
        challenges = self._parsed(values)
        try:
            header = yield self._goOn(challenges, refusal)
            return cast(bytes, header or (yield self._begin(challenges)))
        except NoScheme as e:
            raise refusal.explained(e.cause, self._exchanges.masked(str(e))) from None
        except ChallengeError as e:
            what = f"sent a challenge that cannot be answered: {self._exchanges.masked(str(e))}"
            raise self._failed(what, causes.SCHEME_NOT_SERVED) from None

    @inlineCallbacks
    def giveWay(
        self, error: TunnelError, isUnanswered: bool
    ) -> Generator[Deferred[Any], Any, bytes]:
        """Return the answer of another scheme, on another connection."""
        scheme, offers = self._exchanges.scheme, self._exchanges.offers.challenges
        self._exchanges.drop(error)
        if isUnanswered and scheme is not None:
            self._trial.unanswered(scheme)
        if not offers or self._login.unverified > MAX_UNVERIFIED:
            raise error
        try:
            return cast(bytes, (yield self._begin(offers)))
        except (NoScheme, ChallengeError):
            raise error from None

    @inlineCallbacks
    def _goOn(
        self, challenges: Sequence[Challenge], refusal: CredentialsRefused
    ) -> Generator[Deferred[Any], Any, bytes | None]:
        """Answer by the scheme in use. @return: None if another one has to begin."""
        exchanges = self._exchanges
        scheme, wasTold = exchanges.scheme, exchanges.told
        if scheme is None:
            return None
        challenge = challengeFor(scheme, challenges)
        if challenge is not None:
            header = yield exchanges.answer(challenge)
            if header is not None:
                return cast(bytes, header)
        if challenge is None and (exchanges.unasked or not wasTold):
            exchanges.drop()  # the proxy has come to ask for another one
        elif exchanges.scheme is not None:  # else it gives way to a weaker one
            exchanges.drop()
            yield self._trial.reject(scheme, refusal)
        return None

    @inlineCallbacks
    def _begin(self, challenges: Sequence[Challenge]) -> Generator[Deferred[Any], Any, bytes]:
        """Answer by the scheme that is known, or by one that was not tried yet."""
        login = self._login
        yield self._trial.turn()
        while (scheme := login.known) is not None:
            challenge = challengeFor(scheme, challenges)
            if challenge is not None:
                self._exchanges.use(scheme, "the proxy accepted it before")
                header = yield self._exchanges.answer(challenge)
                if header is not None:
                    return cast(bytes, header)
            login.forget(scheme)
            yield self._trial.turn()
        credentials = yield self._trial.read()
        return cast(bytes, (yield self._exchanges.answerBest(challenges, credentials)))

    def _parsed(self, values: Sequence[bytes]) -> list[Challenge]:
        try:
            return self._exchanges.offers.parse(values, self._exchanges.scheme)
        except ChallengeError as e:
            what = f"sent a malformed challenge: {self._exchanges.masked(str(e))}"
            raise self._broken(what) from None

    def _failed(self, what: str, cause: causes.Cause = causes.BROKEN) -> ProxyFailed:
        """Note and return a failure that others would meet too."""
        error = self._broken(what, cause)
        self._trial.failed(error)
        return error

    def _broken(self, what: str, cause: causes.Cause = causes.BROKEN) -> ProxyFailed:
        login = self._login
        return ProxyFailed(f"{login.who} {what}", hop=login.hop, cause=cause)
