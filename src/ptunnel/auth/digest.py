"""Digest access authentication (RFC 7616)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence

from ptunnel.auth.challenges import Challenge, ChallengeError, brief, parseChallenges
from ptunnel.auth.credentials import Credentials
from ptunnel.auth.schemes import Exchange, Scheme

# Strongest first; each with "-sess" too.
_HASHES = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
_AVAILABLE = {
    name: python for name, python in _HASHES.items() if python in hashlib.algorithms_available
}
# A nonce may expire while an answer is on its way, but not repeatedly.
MAX_STALE = 2
# Nonces have some 50 bytes. Each request sends it back, and its head must stay small.
MAX_NONCE = 4096
# Connections that are challenged at the same time have a nonce each; older nonces do not return.
MAX_COUNTED = 64


def digestResponse(
    credentials: Credentials,
    challenge: Challenge,
    method: str,
    uri: str,
    nc: str,
    cnonce: str,
) -> str:
    """Return the `response` parameter (RFC 7616 section 3.4.1).

    @param nc: eight hexadecimal digits.
    @param cnonce: the client's nonce.
    @raise ChallengeError: for an algorithm or qop that is not supported.
    """
    algorithm, session = _algorithm(challenge)

    def hashed(*parts: str) -> str:
        return hashlib.new(
            _AVAILABLE[algorithm], ":".join(parts).encode("utf-8", "surrogateescape")
        ).hexdigest()

    parameters = challenge.parameters
    nonce = parameters["nonce"]
    secret = hashed(credentials.username, parameters["realm"], credentials.password.reveal())
    if session:
        secret = hashed(secret, nonce, cnonce)
    request = hashed(method, uri)
    if _qop(challenge):
        return hashed(secret, nonce, nc, cnonce, "auth", request)
    return hashed(secret, nonce, request)


def _algorithm(challenge: Challenge) -> tuple[str, bool]:
    """Return the name of its algorithm, and whether it is the variant with "-sess"."""
    name = challenge.parameters.get("algorithm", "MD5").upper()
    base = name.removesuffix("-SESS")
    if base not in _AVAILABLE:
        raise ChallengeError(f'its Digest algorithm "{brief(name)}" is not supported')
    return base, base != name


def _qop(challenge: Challenge) -> bool:
    """Return whether qop=auth is used. Without qop the answer is that of RFC 2069."""
    qop = challenge.parameters.get("qop")
    if qop is None:
        return False
    if "auth" not in re.split(r"[\s,]+", qop.strip().lower()):
        raise ChallengeError(f'its Digest wants qop="{brief(qop)}", and only auth is supported')
    return True


def _check(challenge: Challenge) -> None:
    """@raise ChallengeError: if it cannot be answered."""
    if challenge.trouble:
        raise ChallengeError(challenge.trouble)
    for name in "realm", "nonce", "opaque":
        value = challenge.parameters.get(name, "")
        if name != "opaque" and name not in challenge.parameters:
            raise ChallengeError(f"its Digest challenge has no {name}")
        if len(value) > MAX_NONCE:
            raise ChallengeError(f"its Digest challenge has a {name} of {len(value)} bytes")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise ChallengeError(f"its Digest challenge has control characters in its {name}")
    _algorithm(challenge)
    _qop(challenge)


class Digest(Scheme):
    """A hash of user name, password, a nonce of the proxy's, and the request."""

    name = "digest"
    title = "Digest"

    def __init__(
        self,
        credentials: Credentials | None,
        proxyHost: str = "",
        makeNonce: Callable[[], str] = lambda: os.urandom(16).hex(),
    ) -> None:
        super().__init__(credentials, proxyHost)
        self.makeNonce = makeNonce
        self.challenge: Challenge | None = None
        self._counts: dict[str, int] = {}

    @classmethod
    def best(cls, challenges: Sequence[Challenge]) -> Challenge:
        """Return the challenge with the strongest algorithm, of those that can be answered."""
        best, least = challenges[0], len(_AVAILABLE)
        for challenge in challenges:
            try:
                _check(challenge)
            except ChallengeError:
                continue
            rank = list(_AVAILABLE).index(_algorithm(challenge)[0])
            if rank < least:
                best, least = challenge, rank
        return best

    def begin(self, target: str, method: str = "CONNECT") -> Exchange:
        return _DigestExchange(self, target, method)

    def use(self, challenge: Challenge) -> None:
        """Use the nonce of this challenge from now on."""
        self.challenge = challenge

    def counted(self, nonce: str) -> str:
        """Count a use of this nonce and return the count. Starting at 1 again would be a replay."""
        count = self._counts.pop(nonce, 0) + 1
        self._counts[nonce] = count
        if len(self._counts) > MAX_COUNTED:
            del self._counts[next(iter(self._counts))]
        return f"{count:08x}"


class _DigestExchange(Exchange):
    def __init__(self, scheme: Digest, target: str, method: str) -> None:
        super().__init__(scheme)
        self._digest = scheme
        self._target = target
        self._method = method
        self._answered = False
        self._nonce: str | None = None  # the last one sent; "" is a nonce too
        self._stale = 0

    def first(self) -> bytes | None:
        return None if self._digest.challenge is None else self._header(self._digest.challenge)

    def answer(self, challenge: Challenge) -> bytes | None:
        _check(challenge)
        if self._nonce is not None:
            # A proxy may have forgotten the nonce of a first request, without saying stale.
            forgotten = not self._answered and challenge.parameters["nonce"] != self._nonce
            if challenge.parameters.get("stale", "").lower() == "true":
                self._stale += 1
                forgotten = self._stale <= MAX_STALE
            if not forgotten:
                return None
        self._answered = True
        self._digest.use(challenge)
        return self._header(challenge)

    def accepted(self, info: bytes | None = None) -> None:
        current = self._digest.challenge
        if info is None or current is None:
            return
        told = parseChallenges([b"Digest " + info])[0]
        nonce = told.parameters.get("nextnonce")
        if nonce is not None and not told.trouble:
            following = {**current.parameters, "nonce": nonce}
            self._digest.use(Challenge(current.scheme, following))

    def _header(self, challenge: Challenge) -> bytes:
        credentials = self._digest.credentials
        assert credentials is not None
        _check(challenge)
        parameters = challenge.parameters
        self._nonce = parameters["nonce"]
        nc, cnonce = self._digest.counted(self._nonce), self._digest.makeNonce()
        response = digestResponse(credentials, challenge, self._method, self._target, nc, cnonce)
        username, isHashed = _username(credentials, challenge)
        fields = [*username, ("realm", _quoted(parameters["realm"]))]
        fields += [("nonce", _quoted(self._nonce)), ("uri", _quoted(self._target))]
        if "algorithm" in parameters:
            fields.append(("algorithm", parameters["algorithm"]))
        fields.append(("response", _quoted(response)))
        if "opaque" in parameters:
            fields.append(("opaque", _quoted(parameters["opaque"])))
        if _qop(challenge):
            fields += [("qop", "auth"), ("nc", nc), ("cnonce", _quoted(cnonce))]
        elif _algorithm(challenge)[1]:
            fields.append(("cnonce", _quoted(cnonce)))
        if isHashed:
            fields.append(("userhash", "true"))
        text = "Digest " + ", ".join(f"{name}={value}" for name, value in fields)
        header = text.encode("utf-8", "surrogateescape")
        self._sent.append(response.encode())
        return header


def _username(credentials: Credentials, challenge: Challenge) -> tuple[list[tuple[str, str]], bool]:
    """Return the user name's field, and whether it is hashed (RFC 7616 sections 3.4.2, 3.4.4)."""
    parameters, name = challenge.parameters, credentials.username
    if parameters.get("userhash", "").lower() == "true":
        both = f"{name}:{parameters['realm']}".encode("utf-8", "surrogateescape")
        return [
            ("username", f'"{hashlib.new(_AVAILABLE[_algorithm(challenge)[0]], both).hexdigest()}"')
        ], True
    return [("username", _quoted(name))], False


def _quoted(text: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'
