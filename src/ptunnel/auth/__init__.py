"""Answers to a proxy's challenges, sans-IO.

credentials    Secret and Credentials
challenges     the challenges of a proxy, parsed
schemes        the interface of a scheme; Basic
digest         Digest
spnego         NTLM and Negotiate
choice         the strongest scheme that the credentials serve

Most proxies ask for nothing, so what reads and answers challenges is imported from its own modules,
with the first challenge.
"""

from ptunnel.auth.credentials import Credentials, Secret
from ptunnel.auth.schemes import AUTH_METHODS, AuthMethod, Basic, Exchange, NoScheme, Scheme

__all__ = [
    "AUTH_METHODS",
    "AuthMethod",
    "Basic",
    "Credentials",
    "Exchange",
    "NoScheme",
    "Scheme",
    "Secret",
]
