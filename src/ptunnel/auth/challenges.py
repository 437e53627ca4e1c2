"""What a proxy wants to know: its Proxy-Authenticate fields, parsed (RFC 9110 section 11). Used by
the schemes and login.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

# Real challenges have some hundred bytes; Kerberos tokens of users in many groups have 48 KiB.
MAX_VALUE = 64 * 1024
# Real proxies offer up to five schemes, with up to ten parameters each.
MAX_CHALLENGES = 32
MAX_PARAMETERS = 32

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_PARAMETER = re.compile(
    r"""(?sx) ([!#$%&'*+.^_`|~0-9A-Za-z-]+) [ \t]*=[ \t]*
    (?: "((?:[^"\\]|\\.)*)" | ([^\s",=]+) ) (?=[ \t]*(?:,|$))"""
)
_SEPARATORS = re.compile(r"[ \t,]*")
_SPACE = re.compile(r"[ \t]*")


class ChallengeError(ValueError):
    """A challenge that cannot be answered; its text says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme that a proxy offers, or goes on with.

    @ivar scheme: in lower case.
    @ivar parameters: by name in lower case.
    @ivar token: what stands instead of parameters, as Negotiate has it; or "".
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token: str = ""


def parseChallenges(values: Sequence[bytes]) -> list[Challenge]:
    """The challenges of one 407, in order; those before and beside a malformed one count.

    @param values: of its Proxy-Authenticate fields, each of which may hold several.
    @return: Basic where there is no such field at all, as the oldest proxies meant it.
    @raise ChallengeError: where none is well-formed.
    """
    if not values:
        return [Challenge("basic")]
    found: list[Challenge] = []
    trouble = "it names no scheme"
    for value in values:
        try:
            _parse(value, found)
        except ChallengeError as e:
            trouble = str(e)
    if not found:
        raise ChallengeError(trouble)
    return found


def _parse(value: bytes, found: list[Challenge]) -> None:
    if len(value) > MAX_VALUE:
        raise ChallengeError(f"it has more than {MAX_VALUE} bytes")
    text = value.decode("utf-8", "surrogateescape")
    position = _skip(_SEPARATORS, text, 0)
    trouble = ""
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ChallengeError("it does not begin with the name of a scheme")
        scheme = match[0].lower()
        position = _skip(_SPACE, text, match.end())
        if position > match.end() and (token := _TOKEN68.match(text, position)) is not None:
            challenge, repeated = Challenge(scheme, token=token[0]), ""
            position = _skip(_SPACE, text, token.end())
        else:
            parameters, repeated, position = _parameters(text, position)
            challenge = Challenge(scheme, MappingProxyType(parameters))
        if position < len(text) and text[position] != ",":
            raise ChallengeError(f"its {match[0][:20]} challenge is malformed")
        if len(found) >= MAX_CHALLENGES:
            raise ChallengeError(f"it has more than {MAX_CHALLENGES} challenges")
        if repeated:  # which of the two counts is unclear, but not where the next challenge begins
            trouble = f"it has {repeated[:20]} twice"
        else:
            found.append(challenge)
        position = _skip(_SEPARATORS, text, position)
    if trouble:
        raise ChallengeError(trouble)


def _parameters(text: str, position: int) -> tuple[dict[str, str], str, int]:
    """The parameters of one challenge, the name of one that is repeated or "", and where they end:
    at a comma before the next scheme.
    """
    parameters: dict[str, str] = {}
    repeated = ""
    end = following = position
    while (match := _PARAMETER.match(text, following)) is not None:
        name, quoted, plain = match.groups()
        if name.lower() in parameters:
            repeated = name
        if len(parameters) >= MAX_PARAMETERS:
            raise ChallengeError(f"it has more than {MAX_PARAMETERS} parameters")
        parameters[name.lower()] = plain or re.sub(r"(?s)\\(.)", r"\1", quoted or "")
        end = _skip(_SPACE, text, match.end())
        following = _skip(_SEPARATORS, text, end)
    return parameters, repeated, end


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    assert match is not None
    return match.end()
