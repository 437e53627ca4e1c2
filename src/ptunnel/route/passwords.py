"""Credentials, read from where the password is kept, at the time when they are needed.

The process list shows a command to all users of the machine, but not its output. No failure shows
the output either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.auth import Credentials, Secret
from ptunnel.config import (
    MAX_FILE,
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    makeCredentials,
    oneLine,
    readPassword,
)
from ptunnel.errors import ConfigError, CredentialsUnavailable
from ptunnel.filestamp import Stamp, stampOf
from ptunnel.text import flat, printable

# Seconds for a command: enough to ask a server or unlock a store, and less than the deadline of the
# connection that waits for it (connect-timeout, 30).
COMMAND_DEADLINE = 10.0
# How many characters of a command's standard error a log line has at most.
MAX_COMPLAINT = 200
# How many bytes of it are kept to find the last line.
_MAX_STDERR = 4096

# The shell leads a process group, so that its children can be ended with it. reactor.spawnProcess
# does that only with a terminal, and from outside it is possible only before the shell runs. Python
# ignores SIGPIPE; `... | head -1` must not inherit that.
_LEAD = (
    "import os, signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.setsid(); "
    "os.execv('/bin/sh', ['/bin/sh', '-c', sys.argv[1]])"
)


class PasswordReader:
    """Reads the credentials for one proxy from their source."""

    def __init__(self, reactor: Any, source: PasswordSource, username: str, where: str) -> None:
        """
        @param reactor: IReactorProcess, IReactorTime and IReactorThreads.
        @param where: the name of the proxy in failures, such as `the proxy proxy.example:3128`.
        """
        self._reactor = reactor
        self._source = source
        self._username = username
        self._where = where
        self._seen: Stamp | None = None
        self._isOld = False
        self._last: Credentials | None = None
        self._asking: list[Deferred[str]] = []

    def read(self) -> Deferred[Credentials]:
        """
        @return: the credentials. Fails with L{CredentialsUnavailable} where they cannot be read or
            cannot be sent. Cancelling it kills a command; a query of a keyring goes on, and its
            result is ignored.
        """
        self._seen, self._isOld = self._stamp(), False
        return self._fetch().addCallback(self._credentials).addErrback(self._unavailable)

    def changed(self) -> bool:
        """Return True if the file changed since the last read, or if the source of the password is
        to be asked again (L{renew}).
        """
        return self._isOld or self._stamp() != self._seen

    def renew(self) -> None:
        """Read the password again at the next attempt, unless it is known to be the same. (A change
        calls for a new login, which a proxy that has accepted the same password need not have.)
        """
        last, source = self._last, self._source
        if last is None or isinstance(source, Secret):
            return
        try:
            self._isOld = isinstance(source, PasswordCommand | PasswordKeyring) or (
                makeCredentials(self._username, _known(source)) != last
            )
        except (ConfigError, _Missing):  # the next attempt says so
            self._isOld = True

    def _stamp(self) -> Stamp | None:
        return stampOf(self._source.path) if isinstance(self._source, PasswordFile) else None

    def _fetch(self) -> Deferred[Any]:
        source = self._source
        if isinstance(source, PasswordCommand):
            return _run(self._reactor, source.command)
        if isinstance(source, PasswordKeyring):
            return self._ask(source.service)
        return execute(_known, source)

    def _credentials(self, password: Secret | str) -> Credentials:
        self._last = makeCredentials(self._username, password)
        return self._last

    def _unavailable(self, reason: Failure) -> Failure:
        reason.trap(_Missing, ConfigError)
        source = self._source
        origin = ""
        if isinstance(source, PasswordFile):
            origin = f'password-file "{printable(source.path)}": '
        elif isinstance(source, PasswordEnv):
            origin = f'password-env "{source.variable}": '
        elif isinstance(source, PasswordCommand):
            origin = "password-command: "
        elif isinstance(source, PasswordKeyring):
            origin = f'password-keyring "{printable(source.service)}": '
        hint = getattr(reason.value, "hint", "")
        message = f"no password for {self._where}: {origin}{reason.value}"
        cause = causes.CREDENTIALS_UNAVAILABLE
        return Failure(CredentialsUnavailable(message, hint=hint, cause=cause))

    def _ask(self, service: str) -> Deferred[str]:
        # It may block until a user unlocks it. The reactor has few threads, and others use them, so
        # one thread asks on behalf of all tunnels that wait.
        answer: Deferred[str] = Deferred()
        self._asking.append(answer)
        if len(self._asking) == 1:
            pool = self._reactor.getThreadPool()
            asked: Deferred[Any] = deferToThreadPool(
                self._reactor, pool, _lookUp, service, self._username
            )
            asked.addBoth(self._answered)
        return answer

    def _answered(self, result: Any) -> None:
        waiting, self._asking = self._asking, []
        for answer in waiting:
            answer.callback(result)


class _Missing(Exception):
    """There is no password; the text says why."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def _known(source: Secret | PasswordFile | PasswordEnv) -> Secret | str:
    if isinstance(source, PasswordFile):
        return readPassword(source.path).text
    if isinstance(source, PasswordEnv):
        text = os.environ.get(source.variable)
        if not text:
            raise _Missing("the variable is unset or empty")
        return text
    return source


def _lookUp(service: str, username: str) -> str:
    """Return the password from the keyring. This may block without limit."""
    try:
        keyring, errors = import_module("keyring"), import_module("keyring.errors")
    except ImportError:
        raise _Missing("keyring is not installed", "pip install 'ptunnel[keyring]'") from None
    try:
        password: str | None = keyring.get_password(service, username)
    except errors.KeyringLocked:
        raise _Missing("the keyring is locked") from None
    except errors.NoKeyringError:
        raise _Missing("this machine has no keyring") from None
    except Exception as e:  # from any backend; the text may hold the password
        raise _Missing(f"the keyring failed: {type(e).__name__}") from None
    if not password:
        raise _Missing(f'it has no password for "{printable(username)}"')
    return password


def _run(reactor: Any, command: str) -> Deferred[str]:
    """Return the line that a shell command prints. Cancelling kills it and its children."""
    protocol = _Command(reactor)
    arguments = [sys.executable, "-I", "-S", "-c", _LEAD, command]
    try:
        reactor.spawnProcess(protocol, sys.executable, arguments, env=None)
    except OSError as e:
        return fail(_Missing(f"cannot be started: {e.strerror}"))
    return protocol.done


class _Command(ProcessProtocol):
    """
    @ivar done: fires once, when the command has ended, has taken too long, or printed too much.
    """

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.done: Deferred[str] = Deferred(lambda _: self._kill())
        self._output = bytearray()
        self._complaint = b""
        self._lives = False
        self._reactor = reactor
        self._timer: Any = None

    def connectionMade(self) -> None:
        self._lives = True
        self._timer = self._reactor.callLater(COMMAND_DEADLINE, self._expire)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._output += data
        if len(self._output) > MAX_FILE:
            self._giveUp(f"prints more than {MAX_FILE} bytes")

    def errReceived(self, data: bytes) -> None:
        self._complaint = (self._complaint + data)[-_MAX_STDERR:]

    def processExited(self, reason: Failure) -> None:
        self._lives = False  # another process may get its number

    def processEnded(self, reason: Failure) -> None:
        if self._timer.active():
            self._timer.cancel()
        if self.done.called:
            return
        try:
            text = self._password(reason.value)
        except (_Missing, ConfigError):
            self.done.errback()
        else:
            self.done.callback(text)

    def _password(self, end: Any) -> str:
        # Bytes that are not UTF-8 become characters that Credentials rejects.
        text = self._output.decode("utf-8", "surrogateescape")
        if end.signal:
            raise _Missing(f"died of signal {end.signal}{self._lastWords(text)}")
        if end.exitCode:
            raise _Missing(f"exit code {end.exitCode}{self._lastWords(text)}")
        line = oneLine(text)
        if not line:
            raise _Missing(f"printed nothing{self._lastWords(text)}")
        return line

    def _lastWords(self, printed: str) -> str:
        """Return the last line of standard error, without any part of the output."""
        from ptunnel.log.excerpts import masked

        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1].strip() if lines else ""
        secrets = [line.strip() for line in printed.split("\n") if line.strip()]
        for secret in secrets:
            last = last.replace(secret, "***")
        if len(self._complaint) == _MAX_STDERR and len(lines) == 1:
            # The cut may have left the end of a secret at its start.
            last = last[max(map(len, secrets), default=0) :]
        last = masked(last.encode(), [s.encode("utf-8", "surrogateescape") for s in secrets])
        last = flat(last)[:MAX_COMPLAINT]
        return f": {last}" if last else ""

    def _expire(self) -> None:
        self._giveUp(f"did not end within {COMMAND_DEADLINE:g} s")

    def _giveUp(self, reason: str) -> None:
        if not self.done.called:
            self._kill()
            self.done.errback(_Missing(reason))

    def _kill(self) -> None:
        """Kill it and its children. Children left behind by a shell that has exited cannot be found
        any more.
        """
        if self._timer.active():
            self._timer.cancel()
        if self._lives:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.transport.pid, signal.SIGKILL)
            # It may not lead its own group yet.
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
        self.transport.loseConnection()
