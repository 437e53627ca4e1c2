"""Answers to a proxy's challenges. Knows no reactor; used by login, and by whoever has credentials.

credentials    Secret and Credentials
challenges     what the proxy asks, parsed
schemes        what every scheme has in common; Basic
digest         Digest
spnego         NTLM and Negotiate
choice         the strongest that the credentials serve
"""

from ptunnel.auth.challenges import Challenge, ChallengeError, parseChallenges
from ptunnel.auth.choice import SCHEMES, choose, titlesOf
from ptunnel.auth.credentials import Credentials, Secret
from ptunnel.auth.schemes import Basic, Exchange, NoScheme, Scheme

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
