"""Listening Unix sockets: with the right mode from the start, and replacing only stale ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from functools import partial
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.ports.handed import HandedSocket
from ptunnel.twisted_private import reserveDescriptor

# The suffix of the name of a socket's lock.
LOCK = ".lock"


class Unusable(Exception):
    """The reason, in words, why no socket can listen at a path."""


class UnixPort(unix.Port):
    """The port of a Unix socket that already listens.

    Unlike Twisted's, it changes no mode and removes only its own files.
    """

    # Another process may share it.
    _shouldShutdown = False

    def __init__(
        self,
        skt: socket.socket,
        factory: IProtocolFactory,
        reactor: Any,
        files: _Files | None = None,
    ) -> None:
        """@param files: its own files, removed at the end; None: none."""
        super().__init__(skt.getsockname(), factory, reactor=reactor)
        self._listening = skt
        self._files = files

    def startListening(self) -> None:
        reserveDescriptor()
        cast(IProtocolFactory, self.factory).doStart()
        self.socket = self._listening
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    @property
    def lock(self) -> int | None:
        """The descriptor that holds the lock of its file; None: the file is not its own."""
        return None if self._files is None else self._files.lock

    def give(self) -> None:
        """Leave the file and its lock to another process that has the socket."""
        files, self._files = self._files, None
        if files is not None:
            os.close(files.lock)

    def own(self, path: str, lock: int, mode: int) -> None:
        """Take care of the file and its lock, which another process has left."""
        try:
            files = _Files(path, lock)
            os.chmod(path, mode)
        except OSError:  # somebody has removed it
            os.close(lock)
            return
        if self.connected:
            self._files = files
        else:  # it was closed meanwhile
            files.remove()

    def connectionLost(self, reason: Failure) -> None:
        files, self._files = self._files, None
        if files is not None:
            files.remove()  # while the open socket keeps its inode from being reused
        tcp.Port.connectionLost(self, reason)


class _Files:
    """The file of a socket, and the lock beside it."""

    def __init__(self, path: str, lock: int) -> None:
        """@param lock: the descriptor that holds the lock."""
        self._path = path
        self._socket = os.lstat(path)
        self.lock = lock

    def remove(self) -> None:
        """Remove both, unless others have taken their places, and release the lock."""
        _remove(self._path, self._socket)
        _release(self._path, self.lock)


@implementer(IStreamServerEndpoint)
class UnixEndpoint:
    """Listens at a path of the file system."""

    def __init__(
        self,
        reactor: Any,
        path: str,
        mode: int,
        backlog: int,
        handed: HandedSocket | None = None,
    ) -> None:
        """
        @param path: absolute.
        @param mode: the permission bits of the socket's file, whatever the umask.
        @param handed: a socket that listens there already.
        """
        self._handed = handed
        self._reactor = reactor
        self._path = path
        self._mode = mode
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """@return: fails with CannotListenError."""
        if self._handed is not None:
            how = self._reactor, self._path, protocolFactory, self._mode, self._handed
            return execute(adoptUnix, *how)
        return execute(
            listenUnix, self._reactor, self._path, protocolFactory, self._mode, self._backlog
        )


def listenUnix(
    reactor: Any, path: str, factory: IProtocolFactory, mode: int, backlog: int
) -> UnixPort:
    """Listen at a path.

    A stale socket at the path is replaced. Any other file stays.

    @param mode: the permission bits of the socket's file, whatever the umask.
    @raise CannotListenError: its C{socketError} is an OSError, or L{Unusable}.
    """
    try:
        skt, files = _listening(path, mode, backlog)
    except (OSError, Unusable) as e:
        raise CannotListenError(None, path, e) from None
    port = UnixPort(skt, factory, reactor, files)
    port.startListening()
    return port


def adoptUnix(
    reactor: Any, path: str, factory: IProtocolFactory, mode: int, handed: HandedSocket
) -> UnixPort:
    """Listen with a socket of another process, whose file becomes ours when it is released."""
    port = UnixPort(socket.socket(fileno=handed.descriptor), factory, reactor)
    port.startListening()
    if handed.lock is not None:
        handed.released = partial(port.own, path, handed.lock, mode)
    return port


def _listening(path: str, mode: int, backlog: int) -> tuple[socket.socket, _Files]:
    """Return a listening socket and its files."""
    with contextlib.ExitStack() as undoing:
        skt = undoing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        skt.setblocking(False)
        lock = _claim(path)
        undoing.callback(_release, path, lock)
        try:
            _bind(skt, path, mode)
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
            _removeStale(path)
            _bind(skt, path, mode)
        skt.listen(backlog)
        files = _Files(path, lock)
        undoing.pop_all()
        return skt, files


def _bind(skt: socket.socket, path: str, mode: int) -> None:
    """Bind. The file never has more permissions than the mode."""
    # The umask applies to all threads, so it is only tightened.
    before = os.umask(0o077)
    try:
        os.umask(before | (0o777 & ~mode))
        skt.bind(path)
    finally:
        os.umask(before)
    if stat.S_IMODE(os.lstat(path).st_mode) != mode:
        os.chmod(path, mode)


def _removeStale(path: str) -> None:
    """Remove a socket on which no process listens.

    @raise OSError: EADDRINUSE if one does.
    @raise Unusable: for any other file, which stays.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return  # it was removed meanwhile
    if not stat.S_ISSOCK(status.st_mode):
        raise Unusable(f"a {_kind(status.st_mode)} is there, and no socket; it stays as it is")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(path)
    if error == errno.ENOENT:
        return
    if error in (errno.EACCES, errno.EPERM):
        raise Unusable("a socket is there, of which we may not know whether it is in use")
    if error != errno.ECONNREFUSED:  # EAGAIN is a full queue, EPROTOTYPE another type of socket
        raise _inUse()
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as e:
        why = (e.strerror or "").lower()
        hint = "; mount its folder, not the socket itself" if e.errno == errno.EBUSY else ""
        raise Unusable(f"a dead socket is there, and cannot be removed: {why}{hint}") from None


def _claim(path: str) -> int:
    """Take the lock beside a socket. The kernel releases it when its holder ends.

    @return: the descriptor that holds the lock.
    @raise OSError: EADDRINUSE if another process holds it.
    @raise Unusable: if there can be no lock.
    """
    lock = path + LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            descriptor = os.open(lock, flags, 0o600)
        except OSError as e:
            if e.errno == errno.ENOENT:
                raise Unusable(f"{os.strerror(e.errno).lower()}: {os.path.dirname(path)}") from None
            if e.errno != errno.ELOOP:
                raise Unusable(f"{lock}: {os.strerror(e.errno or 0).lower()}") from None
            os.unlink(lock)  # Twisted's lock, a link to a process number, proves nothing
            continue
        if _lock(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its last holder has just removed it


def _lock(descriptor: int, lock: str) -> bool:
    """Lock an open file. @return: False if the file no longer has that name."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unusable(f"{lock} is not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _inUse() from None
        except OSError:
            pass  # a file system without locks: the socket alone decides
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(lock)):
                return True
        return False
    except BaseException:
        os.close(descriptor)
        raise


def _release(path: str, lock: int) -> None:
    """Release a lock and remove its file."""
    _remove(path + LOCK, os.fstat(lock))
    os.close(lock)


def _remove(path: str, own: os.stat_result) -> None:
    """Remove a file unless another has taken its place."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), own):
            os.unlink(path)


def _inUse() -> OSError:
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "file" if stat.S_ISREG(mode) else "device or pipe"
