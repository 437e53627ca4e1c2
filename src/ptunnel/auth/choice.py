"""The choice of a scheme among those that a proxy offers."""

from __future__ import annotations

from collections.abc import Container, Sequence

from ptunnel import causes
from ptunnel.auth.challenges import Challenge, brief
from ptunnel.auth.credentials import Credentials
from ptunnel.auth.digest import Digest
from ptunnel.auth.schemes import AuthMethod, Basic, NoScheme, Scheme
from ptunnel.auth.spnego import Negotiate, Ntlm

SCHEMES: tuple[type[Scheme], ...] = (Negotiate, Digest, Ntlm, Basic)
"""Strongest first."""


def titlesOf(challenges: Sequence[Challenge]) -> tuple[str, ...]:
    """Return the titles of the schemes of some challenges, each once; eight at most, for a line."""
    titles: dict[str, str] = {kind.name: kind.title for kind in SCHEMES}
    return tuple(dict.fromkeys(titles.get(c.scheme, brief(c.scheme.title())) for c in challenges))[
        :8
    ]


def whyChosen(
    kind: type[Scheme],
    challenges: Sequence[Challenge],
    credentials: Credentials | None,
    wanted: str = "auto",
    without: Container[str] = (),
) -> str:
    """Why L{choose} took this scheme, for a trace. The arguments are those of L{choose}."""
    if wanted != "auto":
        return f"auth = {wanted}"
    why = [f"the strongest usable of {', '.join(titlesOf(challenges))}"]
    for stronger in SCHEMES[: SCHEMES.index(kind)]:
        offered = [challenge for challenge in challenges if challenge.scheme == stronger.name]
        if offered:
            failed = stronger.name in without
            lack = "it has failed" if failed else stronger.lacks(credentials, offered)
            why.append(f"not {stronger.title}: {lack}")
    return "; ".join(why)


def choose(
    challenges: Sequence[Challenge],
    credentials: Credentials | None,
    wanted: AuthMethod = "auto",
    without: Container[str] = (),
) -> tuple[type[Scheme], Challenge]:
    """Return the strongest scheme that the proxy offers and the credentials serve (RFC 7616 section
    5.4), and its challenge.

    @param wanted: the name of the only scheme that may be used, or "auto".
    @param without: the names of schemes that were tried and failed.
    @raise NoScheme: if there is none.
    """
    advice: list[str] = []
    for kind in SCHEMES:
        offered = [challenge for challenge in challenges if challenge.scheme == kind.name]
        if not offered or kind.name in without or wanted not in ("auto", kind.name):
            continue
        lack = kind.lacks(credentials, offered)
        if not lack:
            return kind, kind.best(offered)
        advice.append(lack)
    if not challenges and credentials is None:
        raise NoScheme(
            f"it does not say how; {causes.CREDENTIALS_MISSING.hint}", causes.CREDENTIALS_MISSING
        )
    if not challenges:
        raise NoScheme("it does not say how; auth = basic would send user name and password")
    offer = f"it offers {', '.join(titlesOf(challenges))}"
    if advice:
        cause = causes.CREDENTIALS_MISSING if credentials is None else causes.SCHEME_NOT_SERVED
        raise NoScheme(f"{offer}; {' or '.join(dict.fromkeys(advice))}", cause)
    if wanted == "auto":
        raise NoScheme(f"{offer}, which is not known here")
    raise NoScheme(f"{offer}, and auth = {wanted}")
