"""Answers to a proxy's challenges, sans-IO.

credentials    Secret and Credentials
challenges     the challenges of a proxy, parsed
schemes        the interface of a scheme; Basic
digest         Digest
spnego         NTLM and Negotiate
choice         the strongest scheme that the credentials serve
"""

from ptunnel.auth.challenges import Challenge, ChallengeError, parseChallenges
from ptunnel.auth.choice import SCHEMES, choose, titlesOf, whyChosen
from ptunnel.auth.credentials import Credentials, Secret
from ptunnel.auth.schemes import AUTH_METHODS, AuthMethod, Basic, Exchange, NoScheme, Scheme

__all__ = [
    "AUTH_METHODS",
    "SCHEMES",
    "AuthMethod",
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
    "whyChosen",
]
