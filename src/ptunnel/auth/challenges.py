"""What a proxy wants to know: its Proxy-Authenticate fields, parsed (RFC 9110 section 11)."""

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

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"{_NAME}(?=[ \t,]|\Z)")
# Real names of schemes, parameters and algorithms are shorter.
_BRIEF = 40
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
# A parameter as it should be; the comma behind it may be missing.
_PARAMETER = re.compile(
    rf"""(?sx) ({_NAME}) [ \t]*=[ \t]*
    (?: "((?:[^"\\]|\\.)*)" | ([^\s",=]+) ) (?=[ \t]*(?:,|\Z)|[ \t]+{_NAME}[ \t]*=)"""
)
# Without quotes, or with quotes that have quotes within them or no end: it goes on to a comma, to
# a quote that could be the last one, or to a scheme that is known.
_SLOPPY = re.compile(
    rf"""(?sxi) ({_NAME}) [ \t]*=[ \t]*
    (?: "(.*?)
        (?: "(?=[ \t]*(?:,|\Z)) | (?=,[ \t]*(?:negotiate|digest|ntlm|basic)(?:[ \t,]|\Z)) | \Z)
      | ((?: [^\s,"][^ \t,]* (?: [ \t]+ (?!{_NAME}[ \t]*=) [^ \t,]+ )* )?) )"""
)
_SEPARATORS = re.compile(r"[ \t,]*")
_SPACE = re.compile(r"[ \t]*")
_JUNK = re.compile(r"[^,]*")


def brief(text: str) -> str:
    """A proxy's word as a failure shows it: whole or not at all, since of a secret that is sent
    back a part would pass the mask.
    """
    if len(text) > _BRIEF:
        return f"({len(text)} characters)"
    return "".join(c if c.isprintable() else "?" for c in text)


class ChallengeError(ValueError):
    """A challenge that cannot be answered; its text says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme that a proxy offers, or goes on with.

    @ivar scheme: in lower case.
    @ivar parameters: by name in lower case.
    @ivar token: what stands instead of parameters, as Negotiate has it; or "".
    @ivar trouble: why its parameters cannot be relied on; "" where they can.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token: str = ""
    trouble: str = ""


def parseChallenges(values: Sequence[bytes]) -> list[Challenge]:
    """The challenges of one 407, in order, as far as they can be made out. Some proxies do not
    quote what they should; that must not prevent an answer that does not need it.

    @param values: of its Proxy-Authenticate fields, each of which may hold several.
    @raise ChallengeError: where they name no scheme.
    """
    found: list[Challenge] = []
    trouble = "it names no scheme"
    for value in values:
        if len(value) > MAX_VALUE:
            trouble = f"it has more than {MAX_VALUE} bytes"
        elif not _Field(value.decode("utf-8", "surrogateescape")).read(found):
            trouble = "it does not begin with the name of a scheme"
    if not found:
        raise ChallengeError(trouble)
    return found[:MAX_CHALLENGES]


class _Field:
    """One Proxy-Authenticate field, and how far it was read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def read(self, found: list[Challenge]) -> bool:
        """Add the challenges to those that were found so far.

        @return: False where there is something that belongs to none.
        """
        isClean = True
        while self._skip(_SEPARATORS) < len(self._text) and len(found) < MAX_CHALLENGES:
            scheme = _SCHEME.match(self._text, self._position)
            if scheme is None:
                isClean = False
                self._skip(_JUNK)
            else:
                self._position = scheme.end()
                found.append(self._challenge(scheme[0].lower()))
        return isClean

    def _challenge(self, scheme: str) -> Challenge:
        """What follows the name of a scheme, up to the next one."""
        start = self._skip(_SPACE)
        token = _TOKEN68.match(self._text, start)
        if token is not None:
            self._position = token.end()
            return Challenge(scheme, token=token[0])
        parameters: dict[str, str] = {}
        trouble, malformed = "", f"its {brief(scheme.title())} challenge is malformed"
        while match := self._parameter():
            name, quoted, plain = match.groups()
            if quoted is not None and match.re is _SLOPPY:
                trouble = malformed  # where the value ends is a guess
            name, value = name.lower(), plain or re.sub(r"(?s)\\(.)", r"\1", quoted or "")
            if parameters.get(name, value) != value:
                trouble = f"it has {brief(name)} twice"
            if len(parameters) < MAX_PARAMETERS:
                parameters[name] = value
            else:
                trouble = f"it has more than {MAX_PARAMETERS} parameters"
            self._position = match.end()
            self._skip(_SEPARATORS)
        if self._position == start < len(self._text) and self._text[start] != ",":
            trouble = malformed
            self._skip(_JUNK)
        return Challenge(scheme, MappingProxyType(parameters), trouble=trouble)

    def _parameter(self) -> re.Match[str] | None:
        strict = _PARAMETER.match(self._text, self._position)
        return strict or _SLOPPY.match(self._text, self._position)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        """Go on behind what a pattern matches. @return: where that is."""
        match = pattern.match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        return self._position
