"""`cli.commands.stdio`: standard input and output, as pipes, to a target over loopback TCP."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import struct
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase

from ptunnel.cli.commands.stdio import relay
from ptunnel.errors import Unreachable
from ptunnel.relay.outcome import Ended
from tests.relay.test_splice import selfSigned
from tests.support.loopback import FakeEndpoint, Loopback, tcpPair


class Here:
    """An endpoint that leads to a connection which is there already."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        protocol = protocolFactory.buildProtocol(None)
        transport = self._recorder.transport
        protocol.makeConnection(transport)
        return succeed(protocol)


class StdioCase(TestCase):
    def setUp(self) -> None:
        self.open: set[int] = set()
        self.addCleanup(lambda: [os.close(fd) for fd in self.open])
        self.loopback = Loopback(self)  # closed before they are
        self.target, self.near = self.loopback.connection()

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self.open.update(ends)
        return ends

    def closeFD(self, fd: int) -> None:
        self.open.remove(fd)
        os.close(fd)

    def start(self, endpoint: Any = None) -> Deferred[Ended]:
        """The program has `self.keyboard` to write to and `self.screen` to read from."""
        self.stdin, self.keyboard = self.pipe()
        self.screen, self.stdout = self.pipe()
        return self.run_(endpoint)

    def run_(self, endpoint: Any = None) -> Deferred[Ended]:
        # Splice takes its clock from the reactor; with a Clock no timer outlives a test.
        reactor = _ReactorWithClock(self.loopback.reactor)
        self.left: list[bool] = []
        return relay(
            endpoint or Here(self.near),
            reactor,
            stdin=self.stdin,
            stdout=self.stdout,
            left=lambda: self.left.append(True),
        )

    async def shown(self, count: int) -> bytes:
        """What comes out, until so many bytes or the end."""
        os.set_blocking(self.screen, False)
        shown = b""
        while len(shown) < count:
            try:
                data = os.read(self.screen, 65536)
            except BlockingIOError:
                await self.loopback.turn()
                continue
            if not data:
                break
            shown += data
        return shown

    async def type_(self, data: bytes) -> None:
        os.set_blocking(self.keyboard, False)
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self.keyboard, data[:65536]) :]
            await self.loopback.turn()


class StdioTests(StdioCase):
    async def test_bytesFlowBothWays(self) -> None:
        self.start()
        os.write(self.keyboard, b"SSH-2.0-here")
        await self.target.gets(12)
        self.target.send(b"SSH-2.0-there")
        self.assertEqual(await self.shown(13), b"SSH-2.0-there")
        self.assertEqual(bytes(self.target.received), b"SSH-2.0-here")

    async def test_theEndOfInputIsPassedOnAndALateAnswerArrives(self) -> None:
        done = self.start()
        question, answer = os.urandom(300_000), os.urandom(300_000)
        await self.type_(question)
        self.closeFD(self.keyboard)
        await self.target.isEnded()
        self.assertEqual(hash_(bytes(self.target.received)), hash_(question))
        self.target.send(answer)
        self.target.end()
        self.assertEqual(hash_(await self.shown(1_000_000)), hash_(answer))
        self.assertEqual(await done, Ended(300_000, 300_000, "end", 0))

    async def test_theEndOfTheTargetClosesOutputWhileInputIsStillSent(self) -> None:
        done = self.start()
        self.target.send(b"bye")
        self.target.end()
        # Its own descriptor of the pipe is the test's, not the program's; the relay closes its own.
        self.assertEqual(await self.shown(1000), b"bye")
        await self.type_(b"still typing")
        await self.target.gets(12)
        self.closeFD(self.keyboard)
        await self.target.isLost()
        self.assertEqual(await done, Ended(12, 3, "end", 1))

    async def test_aReaderOfOutputThatGoesAwayEndsIt(self) -> None:
        done = self.start()
        self.target.send(b"hello")
        await self.shown(5)
        self.closeFD(self.screen)
        self.target.send(b"nobody is there")
        await self.target.isLost()
        ended = await done
        self.assertEqual((ended.cause, ended.first), ("reset", 0))

    async def test_aResetOfTheTargetEndsIt(self) -> None:
        done = self.start()
        self.target.send(b"hello")
        await self.shown(5)
        self.target.reset()
        self.assertEqual(await self.shown(1000), b"")
        self.assertEqual(await done, Ended(0, 5, "reset", 1))

    async def test_cancellingAbortsIt(self) -> None:
        done = self.start()
        done.cancel()
        with self.assertRaises(CancelledError):
            await done
        await self.target.isLost()

    async def test_aReaderThatDoesNotReadStopsTheTarget(self) -> None:
        self.start()
        data = os.urandom(8_000_000)
        self.target.send(data)
        for _ in range(200):
            await self.loopback.turn()
        self.assertTrue(self.target.transport.dataBuffer or self.target.transport._tempDataBuffer)
        self.assertEqual(hash_(await self.shown(len(data))), hash_(data))

    async def test_theDescriptorsAreBlockingAgainAfterwards(self) -> None:
        done = self.start()
        # Whoever else has the same pipes, such as the shell that started it.
        others = [os.dup(self.stdin), os.dup(self.stdout)]
        self.open.update(others)
        self.assertEqual([os.get_blocking(fd) for fd in others], [False, False])
        self.closeFD(self.keyboard)
        await self.target.isEnded()
        self.target.end()
        await done
        self.assertEqual([os.get_blocking(fd) for fd in others], [True, True])

    async def test_descriptorsThatDidNotBlockStaySo(self) -> None:
        self.stdin, self.keyboard = self.pipe()
        self.screen, self.stdout = self.pipe()
        other = os.dup(self.stdout)
        self.open.add(other)
        for fd in self.stdin, self.stdout:
            os.set_blocking(fd, False)
        done = self.run_()
        self.target.end()
        self.closeFD(self.keyboard)
        await done
        self.assertEqual([os.get_blocking(fd) for fd in (self.stdin, other)], [False, False])

    async def test_theyAreBlockingAgainAfterAResetToo(self) -> None:
        done = self.start()
        others = [os.dup(self.stdin), os.dup(self.stdout)]
        self.open.update(others)
        self.target.reset()
        await done
        self.assertEqual([os.get_blocking(fd) for fd in others], [True, True])

    async def test_inputFromAFileIsSentWhole(self) -> None:
        path = self.mktemp()
        data = os.urandom(500_000)
        with open(path, "wb") as file:
            file.write(data)
        self.stdin = os.open(path, os.O_RDONLY)
        self.open.add(self.stdin)
        self.screen, self.stdout = self.pipe()
        done = self.run_()
        await self.target.isEnded()
        self.assertEqual(hash_(bytes(self.target.received)), hash_(data))
        self.target.end()
        await done


class SocketTests(StdioCase):
    """One socket as both, as inetd, socat and libssh give it, or a socket as one of them."""

    def join(self, *, tcp: bool = False) -> Deferred[Ended]:
        """@return: of the relay; `self.client` is the other end of the socket."""
        self.client, near = tcpPair() if tcp else socket.socketpair()
        self.addCleanup(self.client.close)
        self.client.setblocking(False)
        self.stdin = near.detach()
        self.stdout = os.dup(self.stdin)
        self.open.update((self.stdin, self.stdout))
        return self.run_()

    async def got(self, count: int = 1000) -> bytes:
        """What the client gets, until so many bytes or the end."""
        got = b""
        while len(got) < count:
            try:
                data = self.client.recv(1000)
            except BlockingIOError:
                await self.loopback.turn()
                continue
            if not data:
                break
            got += data
        return got

    async def test_theClientSeesTheEndOfTheTargetAndMayStillSend(self) -> None:
        for tcp in False, True:
            self.target, self.near = self.loopback.connection()
            done = self.join(tcp=tcp)
            self.target.send(b"bye")
            self.target.end()
            self.assertEqual(await self.got(), b"bye")
            self.assertFalse(os.get_blocking(self.stdin), "a read would stop everything")
            self.client.send(b"still there")
            await self.target.gets(11)
            self.client.shutdown(socket.SHUT_WR)
            self.assertEqual(await done, Ended(11, 3, "end", 1))

    async def test_theTargetSeesTheEndOfTheClientWhichGetsALateAnswer(self) -> None:
        done = self.join()
        self.client.send(b"question")
        self.client.shutdown(socket.SHUT_WR)
        await self.target.isEnded()
        self.target.send(b"answer")
        self.target.end()
        self.assertEqual(await self.got(), b"answer")
        self.assertEqual(await done, Ended(8, 6, "end", 0))
        self.assertEqual(self.left, [])

    async def test_aClientThatHasGoneIsNoticedAndWhatItSentIsPassedOn(self) -> None:
        done = self.join()
        data = os.urandom(100_000)
        self.client.setblocking(True)
        self.client.sendall(data)
        self.client.close()
        await self.target.isEnded()
        self.assertEqual(hash_(bytes(self.target.received)), hash_(data))
        self.target.end()
        self.assertEqual((await done).cause, "end")
        self.assertEqual(self.left, [True])

    async def test_aClientThatGoesWhileItWaitsForAnAnswerIsNoticed(self) -> None:
        done = self.join()
        self.client.shutdown(socket.SHUT_WR)
        await self.target.isEnded()
        self.client.close()
        # What has lost its client drops what comes, so it can end although nobody takes it.
        self.target.send(bytes(1_000_000))
        self.target.end()
        self.assertEqual((await done).received, 0)

    async def test_aResetOfTheClientIsPassedOnAsOne(self) -> None:
        done = self.join(tcp=True)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        await self.target.isLost()
        assert self.target.lost is not None
        self.assertTrue(self.target.lost.check(error.ConnectionLost))
        ended = await done
        self.assertEqual((ended.cause, ended.first), ("reset", 0))

    async def test_aResetOfTheTargetIsNoEndToTheClient(self) -> None:
        done = self.join(tcp=True)
        self.target.send(b"half")
        self.assertEqual(await self.got(4), b"half")
        self.target.reset()
        ended = await done
        self.assertEqual((ended.cause, ended.first), ("reset", 1))
        for fd in self.stdin, self.stdout:  # as the process does when it ends
            self.closeFD(fd)
        with self.assertRaises(ConnectionResetError):
            await self.got()

    async def test_aReaderOfASocketThatHasGoneIsNoticedWhileNothingIsWritten(self) -> None:
        self.stdin, self.keyboard = self.pipe()
        reader, output = socket.socketpair()
        self.stdout = output.detach()
        self.open.add(self.stdout)
        done = self.run_()
        os.write(self.keyboard, b"hello")
        await self.target.gets(5)
        reader.close()
        await self.target.isLost()
        ended = await done
        self.assertEqual((ended.cause, ended.first), ("reset", 0))


class BrokenTests(StdioCase):
    """Input that cannot be read, and output that cannot be written."""

    async def test_aFullDeviceIsNamed(self) -> None:
        self.stdin, self.keyboard = self.pipe()
        self.stdout = os.open("/dev/full", os.O_WRONLY)
        self.open.add(self.stdout)
        done = self.run_()
        self.target.send(b"x")
        with self.assertRaises(OSError) as raised:
            await done
        message = "cannot write to standard output: no space left on device"
        self.assertEqual(str(raised.exception), message)
        await self.target.isLost()

    async def test_aFileThatHasGrownTooLargeIsNamed(self) -> None:
        self.stdin, self.keyboard = self.pipe()
        self.stdout = os.open(self.mktemp(), os.O_WRONLY | os.O_CREAT)
        self.open.add(self.stdout)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        done = self.run_()
        self.target.send(b"xyz")
        with self.assertRaises(OSError) as raised:
            await done
        message = "cannot write to standard output: file too large"
        self.assertEqual(str(raised.exception), message)

    async def test_inputThatCannotBeReadIsNoEnd(self) -> None:
        self.stdin = os.open(".", os.O_RDONLY)
        self.open.add(self.stdin)
        self.screen, self.stdout = self.pipe()
        done = self.run_()
        with self.assertRaises(OSError) as raised:
            await done
        self.assertEqual(str(raised.exception), "cannot read standard input: is a directory")
        await self.target.isLost()
        assert self.target.lost is not None
        self.assertTrue(self.target.lost.check(error.ConnectionLost))


class FailureTests(TestCase):
    async def test_itFailsAsTheEndpointDoesAndNothingIsReadOrChanged(self) -> None:
        stdin, keyboard = os.pipe()
        self.addCleanup(os.close, stdin)
        self.addCleanup(os.close, keyboard)
        os.write(keyboard, b"unread")

        class Nowhere:
            def connect(self, protocolFactory: Any) -> Deferred[Any]:
                return fail(Unreachable("cannot reach the proxy"))

        reactor: Any = MemoryReactorClock()
        with self.assertRaises(Unreachable):
            await relay(Nowhere(), reactor, stdin=stdin, stdout=keyboard)  # type: ignore[arg-type]
        self.assertTrue(os.get_blocking(stdin) and os.get_blocking(keyboard))
        self.assertEqual(os.read(stdin, 100), b"unread")

    async def test_nothingIsReadBeforeTheConnectionStands(self) -> None:
        stdin, keyboard = os.pipe()
        self.addCleanup(os.close, stdin)
        self.addCleanup(os.close, keyboard)
        os.write(keyboard, b"early")
        connecting: Deferred[Any] = Deferred()

        class Slow:
            def connect(self, protocolFactory: Any) -> Deferred[Any]:
                return connecting

        reactor: Any = MemoryReactorClock()
        done = relay(Slow(), reactor, stdin=stdin, stdout=keyboard)  # type: ignore[arg-type]
        self.assertEqual(os.read(stdin, 100), b"early")
        connecting.errback(error.ConnectionRefusedError())
        with self.assertRaises(error.ConnectionRefusedError):
            await done

    async def test_aReaderWhoLeavesBeforeTheConnectionStandsEndsIt(self) -> None:
        from twisted.internet import reactor

        stdin, keyboard = os.pipe()
        screen, stdout = os.pipe()
        for descriptor in stdin, keyboard, stdout:
            self.addCleanup(os.close, descriptor)
        endpoint = FakeEndpoint()
        done = relay(endpoint, reactor, stdin=stdin, stdout=stdout)
        os.close(screen)
        with self.assertRaises(error.ConnectingCancelledError):
            await done
        self.assertEqual(endpoint.cancelled, 1)

    async def test_aTargetThatHasGoneIsNotWaitedForWhileInputIsOpen(self) -> None:
        loopback = Loopback(self)
        target, there = loopback.connection(tls=selfSigned())
        stdin, keyboard = os.pipe()
        screen, stdout = os.pipe()
        for descriptor in stdin, keyboard, screen, stdout:
            self.addCleanup(os.close, descriptor)
        done = relay(Here(there), loopback.reactor, stdin=stdin, stdout=stdout)
        target.send(b"banner")
        target.transport.loseConnection()
        self.assertEqual((await done).cause, "end")  # within the time that a test has
        self.assertEqual(os.read(screen, 100), b"banner")

    async def test_aDescriptorThatIsNotOpenFailsItAndClosesTheConnection(self) -> None:
        loopback = Loopback(self)
        peer, near = loopback.connection()
        with self.assertRaises(OSError):
            await relay(Here(near), loopback.reactor, stdin=1 << 20, stdout=1 << 20)
        await peer.isLost()


def hash_(data: bytes) -> str:
    """Short to print where it differs."""
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}"


class _ReactorWithClock:
    """The reactor, but for its time, which stands still."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        clock = Clock()
        self.seconds = clock.seconds
        # Twisted's own calls, such as that which closes a descriptor, are due at once.
        self.callLater = lambda delay, *call, **kwargs: (clock if delay else reactor).callLater(
            delay, *call, **kwargs
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
