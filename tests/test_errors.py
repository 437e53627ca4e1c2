"""The tree of failures, and what Twisted's are in a few words: `ptunnel.errors`."""

from __future__ import annotations

import ast
import builtins
import errno
import socket
from pathlib import Path

from OpenSSL import SSL
from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes, errors
from ptunnel.errors import (
    ConfigError,
    CredentialsRefused,
    ListenError,
    LocalFailure,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    PtunnelError,
    RouteFailed,
    TargetUnreachable,
    TunnelError,
    Unreachable,
    cannotReach,
    isShortage,
    noAnswer,
    reasonOf,
)


class TreeTests(SynchronousTestCase):
    def test_everyFailureIsAPtunnelError(self) -> None:
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
        ours = [kind for kind in kinds if kind.__module__ == "ptunnel.errors"]
        self.assertGreater(len(ours), 9)
        for kind in ours:
            self.assertTrue(issubclass(kind, PtunnelError), kind)
            self.assertIn(kind.__name__, errors.__doc__ or "")

    def test_aConnectionThatCouldNotBeMadeIsTwistedsConnectError(self) -> None:
        for kind in (Unreachable, ProxyFailed, ProxyRefused, RouteFailed):
            self.assertTrue(issubclass(kind, TunnelError))
            self.assertTrue(issubclass(kind, error.ConnectError))
        for kind in (ConfigError, ListenError):
            self.assertFalse(issubclass(kind, error.ConnectError))

    def test_whatAProxyAnsweredIsNeverUnreachable(self) -> None:
        for kind in (ProxyFailed, ProxyTimeout, ProxyRefused, TargetUnreachable):
            self.assertFalse(issubclass(kind, Unreachable))

    def test_theKindsOfRefusalAreRefusals(self) -> None:
        self.assertTrue(issubclass(CredentialsRefused, ProxyRefused))
        self.assertTrue(issubclass(TargetUnreachable, ProxyRefused))
        self.assertTrue(issubclass(ProxyTimeout, ProxyFailed))


class FixedTests(SynchronousTestCase):
    """A failure does not change once it is made."""

    def test_nobodyAssignsToAFailure(self) -> None:
        fields = {"message", "hint", "cause", "body", "status", "reason", "reached", "validFrom"}
        for path in Path(errors.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    owner = node.value.id if isinstance(node.value, ast.Name) else ""
                    isOther = node.attr in fields and owner != "self"
                    self.assertFalse(isOther, f"{path.name}:{node.lineno}")

    def test_anotherExplanationMakesAnotherRefusal(self) -> None:
        refusal = CredentialsRefused(
            "no", status=407, reason="Who", body="page", hop="p:1", cause=causes.CREDENTIALS_MISSING
        )
        other = refusal.explained(causes.SCHEME_NOT_SERVED, "try NTLM")
        self.assertIs(type(other), CredentialsRefused)
        self.assertEqual(
            (other.message, other.status, other.reason, other.body, other.hop),
            ("no", 407, "Who", "page", "p:1"),
        )
        self.assertEqual((other.cause, other.hint), (causes.SCHEME_NOT_SERVED, "try NTLM"))
        self.assertEqual((refusal.cause, refusal.hint), (causes.CREDENTIALS_MISSING, ""))

    def test_aRefusalThatIsRepeatedReachesNoProxy(self) -> None:
        self.assertFalse(CredentialsRefused("no", status=407, reached=False).reached)
        self.assertTrue(CredentialsRefused("no", status=407).reached)


class TextTests(SynchronousTestCase):
    def test_aFailureIsItsMessageAndItsHint(self) -> None:
        self.assertEqual(str(Unreachable("cannot reach it")), "cannot reach it")
        self.assertEqual(str(Unreachable("cannot reach it", hint="plug")), "cannot reach it (plug)")

    def test_aFailureCarriesItsParts(self) -> None:
        failure = ProxyRefused("no", status=403, reason="No", body="page", hop="a:1", hint="ask")
        self.assertEqual((failure.message, failure.hop, failure.hint), ("no", "a:1", "ask"))
        self.assertEqual((failure.status, failure.reason, failure.body), (403, "No", "page"))

    def test_aRefusalQuotesItsBody(self) -> None:
        failure = ProxyRefused("no", status=403, body="page", hint="ask")
        self.assertEqual(str(failure), 'no (ask): "page"')

    def test_theReprShowsTheMessage(self) -> None:
        self.assertEqual(repr(Unreachable("cannot reach it")), "Unreachable('cannot reach it')")
        self.assertIsNone(Unreachable("cannot reach it").osError)

    def test_aRouteFailedListsItsFailures(self) -> None:
        failures = [Unreachable("one", hint="plug"), ProxyFailed("two")]
        failure = RouteFailed(failures)
        self.assertEqual(failure.failures, tuple(failures))
        self.assertEqual(str(failure), "one (plug); two")


class ReasonTests(SynchronousTestCase):
    def test_theSystemsErrorsAreInTheSystemsWords(self) -> None:
        for failure, words in (
            (error.ConnectionRefusedError(errno.ECONNREFUSED), "connection refused"),
            (error.NoRouteError(errno.ENETUNREACH), "network is unreachable"),
            (error.TCPTimedOutError(errno.ETIMEDOUT), "connection timed out"),
            (error.ConnectBindError(errno.EMFILE), "too many open files"),
            (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
        ):
            self.assertEqual(reasonOf(failure), words)

    def test_aTimeoutTimedOut(self) -> None:
        for failure in (
            error.TimeoutError(),
            error.TimeoutError(string="no connection within 30 s"),
            builtins.TimeoutError(),
            builtins.TimeoutError("timed out"),
        ):
            self.assertEqual(reasonOf(failure), "timed out")

    def test_aNameThatDoesNotResolveSaysSo(self) -> None:
        for failure in (
            error.DNSLookupError("no results for hostname lookup: a"),
            error.UnknownHostError(),
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ):
            self.assertEqual(reasonOf(failure), "the name does not resolve")

    def test_ourOwnFailuresAreInTheirOwnWords(self) -> None:
        self.assertEqual(reasonOf(Unreachable("gone", hint="plug")), "gone (plug)")

    def test_anythingElseIsInItsOwnWordsOnOneLine(self) -> None:
        for failure, words in (
            (
                error.ConnectionLost(),
                "Connection to the other side was lost in a non-clean fashion",
            ),
            (error.ConnectionDone(), "Connection was closed cleanly"),
            (RuntimeError("a\n  b\tc."), "a b c"),
        ):
            self.assertEqual(reasonOf(failure), words)

    def test_aTLSErrorIsInOpenSSLsWords(self) -> None:
        failure = SSL.Error([("SSL routines", "", "certificate verify failed")])
        self.assertEqual(reasonOf(failure), "TLS: certificate verify failed")
        self.assertEqual(reasonOf(SSL.Error([])), "TLS: failed")

    def test_anErrorWithoutWordsIsItsName(self) -> None:
        self.assertEqual(reasonOf(ZeroDivisionError()), "ZeroDivisionError")
        self.assertEqual(reasonOf(SSL.Error()), "Error")
        self.assertEqual(reasonOf(SSL.ZeroReturnError()), "ZeroReturnError")
        self.assertEqual(reasonOf(None), "None")


class ConnectionTests(SynchronousTestCase):
    """A connection over TCP that could not be made."""

    def test_itSaysWhereAndWhyAndNamesItsCause(self) -> None:
        refused = error.ConnectionRefusedError(errno.ECONNREFUSED)
        for failure, why, cause in (
            (refused, "connection refused", causes.REFUSED),
            (error.TCPTimedOutError(errno.ETIMEDOUT), "connection timed out", causes.NO_ANSWER),
            (error.TimeoutError(string="x"), "timed out", causes.NO_ANSWER),
            (error.NoRouteError(errno.ENETUNREACH), "network is unreachable", causes.NO_ROUTE),
            (OSError(errno.EHOSTUNREACH, "x"), "no route to host", causes.NO_ROUTE),
            (error.DNSLookupError(), "the name does not resolve", causes.PROXY_NAME),
            (socket.gaierror(-2, "x"), "the name does not resolve", causes.PROXY_NAME),
        ):
            made = cannotReach(failure, "p:1")
            self.assertEqual(str(made), f"cannot reach the proxy p:1: {why}")
            self.assertEqual((made.hop, made.cause), ("p:1", cause), failure)

    def test_aTargetIsNoProxy(self) -> None:
        made = cannotReach(error.DNSLookupError(), "t:1", target=True)
        self.assertEqual(str(made), "cannot reach t:1: the name does not resolve")
        self.assertEqual((made.hop, made.cause), ("t:1", causes.TARGET_NAME))

    def test_aProxyMayBeWithoutAName(self) -> None:
        refused = error.ConnectionRefusedError(errno.ECONNREFUSED)
        made = cannotReach(refused, "")
        self.assertEqual(str(made), "cannot reach the proxy: connection refused")

    def test_whatIsNotKnownHasNoCause(self) -> None:
        for failure in ZeroDivisionError("odd"), error.ConnectBindError(errno.EIO):
            self.assertEqual(cannotReach(failure, "p:1").cause, None)

    def test_aDeadlineSaysHowLongItWas(self) -> None:
        for hop, target, who in (
            ("p:1", False, "the proxy p:1"),
            ("", False, "the proxy"),
            ("t:1", True, "t:1"),
        ):
            made = noAnswer(hop, 2.5, target=target)
            self.assertEqual(str(made), f"cannot reach {who}: timed out after 2.5 s")
            self.assertEqual((made.hop, made.cause), (hop, causes.NO_ANSWER))


class ShortageTests(SynchronousTestCase):
    def test_whatThisMachineHasRunOutOfIsNoFaultOfTheHop(self) -> None:
        for number in (
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOBUFS,
            errno.ENOMEM,
            errno.EADDRNOTAVAIL,
            errno.EAGAIN,
            errno.ENOSPC,
        ):
            for made in OSError(number, ""), error.getConnectError((number, "")):
                failure = cannotReach(made, "p:1")
                self.assertIsInstance(failure, LocalFailure)
                self.assertEqual(failure.cause, causes.OWN_SHORTAGE)
                self.assertIn("this machine cannot connect to the proxy p:1: ", failure.message)
                self.assertIn("this machine has run out, not the proxy: ", failure.hint)
                self.assertTrue(isShortage(made))

    def test_theLimitIsNamed(self) -> None:
        for number, limit in (
            (errno.EMFILE, "ulimit -n"),
            (errno.ENFILE, "fs.file-max"),
            (errno.EADDRNOTAVAIL, "ip_local_port_range"),
            (errno.ENOSPC, "max_user_watches"),
        ):
            self.assertIn(limit, str(cannotReach(OSError(number, ""), "p:1")))

    def test_whatItForbidsIsNoneEither(self) -> None:
        for number in errno.EPERM, errno.EACCES:
            failure = cannotReach(OSError(number, ""), "t:1", target=True)
            self.assertIsInstance(failure, LocalFailure)
            self.assertEqual(failure.cause, causes.OWN_RULES)
            self.assertFalse(isShortage(OSError(number, "")))

    def test_whatTheNetworkSaysIsUnreachable(self) -> None:
        for number in errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET:
            self.assertIsInstance(cannotReach(OSError(number, ""), "p:1"), Unreachable)


class UnixTests(SynchronousTestCase):
    def test_aTargetThatIsAUnixSocket(self) -> None:
        for made, words in (
            (OSError(errno.ENOENT, ""), "no such file or directory"),
            (OSError(errno.EACCES, ""), "permission denied"),
            (error.getConnectError(OSError(errno.ECONNREFUSED, "")), "connection refused"),
            (error.ConnectError(string="closed"), "its queue of clients is full"),
            (error.TimeoutError(), "timed out"),
        ):
            failure = cannotReach(made, "unix:/run/a", target=True)
            self.assertIsInstance(failure, Unreachable)
            self.assertEqual(failure.cause, causes.NO_SOCKET)
            self.assertTrue(str(failure).startswith(f"cannot reach unix:/run/a: {words}"), failure)
        shortage = cannotReach(OSError(errno.EMFILE, ""), "unix:/run/a", target=True)
        self.assertIsInstance(shortage, LocalFailure)
