"""Answers to a proxy's challenges. Knows no reactor; used by login, and by whoever has credentials.

credentials    Secret and Credentials
challenges     what the proxy asks, parsed
schemes        what every scheme has in common; Basic; the choice of one
digest         Digest
spnego         NTLM and Negotiate
"""

from ptunnel.auth.challenges import Challenge, ChallengeError, parseChallenges
from ptunnel.auth.credentials import Credentials, Secret
from ptunnel.auth.digest import Digest
from ptunnel.auth.schemes import Basic, Exchange, NoScheme, Scheme, choose, titlesOf
from ptunnel.auth.spnego import Negotiate, Ntlm

SCHEMES: tuple[type[Scheme], ...] = (Negotiate, Digest, Ntlm, Basic)
"""Strongest first."""

__all__ = [
    "SCHEMES",
    "Basic",
    "Challenge",
    "ChallengeError",
    "Credentials",
    "Exchange",
    "NoScheme",
    "Scheme",
    "Secret",
    "choose",
    "parseChallenges",
    "titlesOf",
]
