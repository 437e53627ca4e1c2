"""The challenges of a proxy: its Proxy-Authenticate fields, parsed (RFC 9110 section 11)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ptunnel.text import printable

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
# A valid parameter; the comma after it may be missing.
_PARAMETER = re.compile(
    rf"""(?sx) ({_NAME}) [ \t]*=[ \t]*
    (?: "((?:[^"\\]|\\.)*)" | ([^\s",=]+) ) (?=[ \t]*(?:,|\Z)|[ \t]+{_NAME}[ \t]*=)"""
)
# A parameter without quotes, or with quotes inside its quotes, or without a closing one. It ends at
# a comma, at a quote that could be the last one, or before a known scheme.
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
    return printable(text)


class ChallengeError(ValueError):
    """A challenge that cannot be answered. The text says why, and contains no secret."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme that a proxy offers or continues.

    @ivar scheme: in lower case.
    @ivar parameters: by name in lower case.
    @ivar token: the token in place of parameters, as with Negotiate; or "".
    @ivar trouble: why its parameters are unreliable; "" if they are reliable.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token: str = ""
    trouble: str = ""


def parseChallenges(values: Sequence[bytes]) -> list[Challenge]:
    """Parse the challenges of one 407, in order, as far as possible. Some proxies omit quotes; that
    must not prevent an answer that does not need the parameter.

    @param values: the values of its Proxy-Authenticate fields; each may hold several challenges.
    @raise ChallengeError: if they name no scheme.
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
    """One Proxy-Authenticate field, and the position of the parser."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def read(self, found: list[Challenge]) -> bool:
        """Append the challenges to `found`.

        @return: False if some text belongs to no challenge.
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
        """Parse what follows the name of a scheme, up to the next one."""
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
        """Move behind the match of a pattern. @return: the new position."""
        match = pattern.match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        return self._position
