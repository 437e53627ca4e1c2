"""`relay.legs.kernel`: which bytes stay in the kernel, and that none is lost, over loopback."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket
import stat
import struct
import threading
import time
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.demo.littleproxy import LittleProxy
from ptunnel.log import Log
from ptunnel.net import epoll
from ptunnel.net.dial import tcpEndpoint
from ptunnel.net.sockets import PortEndpoint
from ptunnel.relay.legs import kernel, pipes
from ptunnel.relay.terms import Terms
from ptunnel.session.tunnel import TunnelFactory
from ptunnel.timing.deadlines import Sweep
from tests.relay.test_splice import BUFFER, digest, stream
from tests.support.loopback import Loopback
from tests.support.spliced import spliced


class KernelTests(TestCase):
    if not epoll.AVAILABLE:
        skip = "there is no epoll, or no os.splice"

    def setUp(self) -> None:
        self.loopback = Loopback(self)
        self.calls = 0
        really = os.splice

        def splice(*args: Any, **kwargs: Any) -> int:
            self.calls += 1
            return really(*args, **kwargs)

        self.patch(os, "splice", splice)

    async def test_bulkGoesThroughThePipeAndSmallMessagesDoNot(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        _, done = spliced(a.transport, b.transport, Sweep(Clock()))
        for number in range(1, 100):
            client.send(b".")
            await target.gets(number)
        self.assertEqual(self.calls, 0)
        client.send(stream(1, 20_000_000))
        client.end()
        await target.isEnded()
        self.assertGreater(self.calls, 0)
        self.assertEqual(digest(target.received[99:]), digest(stream(1, 20_000_000)))
        target.end()
        await done
        self.assertEqual((pipes.Pipe.used, pipes.Pipe.free), (0, []))

    async def test_closeSendsWhatAPipeHoldsThoughItsSourceHasGone(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.rawConnection(BUFFER)
        splice, done = spliced(a.transport, b.transport, Sweep(Clock()))
        client.send(bytes(30_000_000))
        received = 0
        leg = splice.legs[0]
        for _ in range(10_000):  # read now and then, so that it becomes bulk and then holds
            if leg._pipe is not None and leg._pipe.filled:  # type: ignore[attr-defined]
                break
            try:
                received += len(target.recv(BUFFER))
            except BlockingIOError:
                await self.loopback.turn()
        self.assertGreater(leg._pipe.filled, 0)  # type: ignore[attr-defined]
        passedOn = leg.received
        splice.close()
        client.end()
        while not leg.lost:
            await self.loopback.turn()
        while True:
            try:
                data = target.recv(BUFFER)
            except BlockingIOError:
                await self.loopback.turn()
                continue
            if not data:
                break
            received += len(data)
        self.assertEqual(received, passedOn)
        target.close()
        await done
        self.assertEqual((pipes.Pipe.used, pipes.Pipe.free), (0, []))

    async def test_aPeerThatIsGoneAsItIsJoinedIsAReset(self) -> None:
        for index in 0, 1:
            client, a = self.loopback.connection()
            target, b = self.loopback.rawConnection(BUFFER)
            b.transport.write(bytes(3_000_000))  # more than the kernel takes
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            target.close()
            transports = (b.transport, a.transport) if index == 0 else (a.transport, b.transport)
            _, done = spliced(*transports, Sweep(Clock()))
            await client.isEnded()
            ended = await done
            self.assertEqual((ended.cause, ended.first), ("reset", index))

    async def carries(self, size: int = 8_000_000) -> None:
        """A bulk transfer arrives whole, and leaves no pipe behind."""
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        _, done = spliced(a.transport, b.transport, Sweep(Clock()))
        client.send(stream(2, size))
        client.end()
        await target.isEnded()
        self.assertEqual(digest(target.received), digest(stream(2, size)))
        target.end()
        self.assertEqual((await done).sent, size)
        self.assertEqual((pipes.Pipe.used, pipes.Pipe.free), (0, []))

    async def test_withoutDescriptorsForPipesBuffersDo(self) -> None:
        def pipe2(flags: int) -> tuple[int, int]:
            raise OSError(errno.EMFILE, "too many open files")

        self.patch(os, "pipe2", pipe2)
        await self.carries()
        self.assertEqual(self.calls, 0)

    async def test_aKernelThatCannotSpliceFromASocketIsLeftAlone(self) -> None:
        def splice(*args: Any, **kwargs: Any) -> int:
            self.calls += 1
            raise OSError(errno.EINVAL, "invalid argument")

        self.patch(os, "splice", splice)
        await self.carries()
        self.assertEqual(self.calls, 1)
        await self.carries()  # these two may be others
        self.assertEqual(self.calls, 2)

    async def test_aSandboxThatForbidsItIsAskedOnceForTheProcess(self) -> None:
        for number in errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP:
            with self.subTest(errno.errorcode[number]):
                self.patch(kernel.KernelLeg, "spliceFails", False)
                self.calls = 0

                def splice(*args: Any, error: int = number, **kwargs: Any) -> int:
                    self.calls += 1
                    raise OSError(error, os.strerror(error))

                self.patch(os, "splice", splice)
                await self.carries()
                await self.carries()
                self.assertEqual(self.calls, 1)

    async def test_aReaderThatGoesOnReadingGetsAllHoweverSlow(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.rawConnection(BUFFER)
        clock = Clock()
        _, done = spliced(a.transport, b.transport, Sweep(clock), Terms(40.0, 40.0))
        out, received = stream(5, 3_000_000), bytearray()
        client.send(out)
        client.end()
        while len(received) < len(out):
            await self.loopback.turn()
            with contextlib.suppress(BlockingIOError):
                data = target.recv(100_000)
                self.assertTrue(data, f"ended after {len(received)} bytes")
                received += data
                clock.pump([1] * 20)
        self.assertEqual(digest(received), digest(out))
        target.close()
        self.assertEqual((await done).sent, len(out))

    async def test_aKernelThatCannotSpliceToASocketLosesNothingOfThePipe(self) -> None:
        self.patch(kernel.KernelLeg, "spliceFails", False)
        really = os.splice
        refused = 0

        def splice(source: int, sink: int, count: int, **kwargs: Any) -> int:
            nonlocal refused
            if stat.S_ISFIFO(os.fstat(source).st_mode):
                refused += 1
                raise OSError(errno.EPERM, "operation not permitted")
            return really(source, sink, count, **kwargs)

        self.patch(os, "splice", splice)
        await self.carries()
        self.assertEqual(refused, 1)

    async def test_aResetInBulkLeavesNoPipeBehind(self) -> None:
        for resets in 0, 1:
            client, a = self.loopback.connection()
            target, b = self.loopback.connection()
            clock = Clock()
            _, done = spliced(a.transport, b.transport, Sweep(clock))
            client.send(bytes(50_000_000))
            await target.gets(10_000_000)
            self.assertGreater(pipes.Pipe.used, 0)
            (client, target)[resets].transport.abortConnection()
            while not done.called:  # it is passed on behind what is still to be sent
                clock.advance(1)
                await self.loopback.turn()
            self.assertEqual((await done).cause, "reset")
            self.assertEqual((pipes.Pipe.used, pipes.Pipe.free), (0, []))

    async def test_aBulkDirectionThatFallsSilentGivesItsPipeBack(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        clock = Clock()
        spliced(a.transport, b.transport, Sweep(clock))
        client.send(bytes(20_000_000))
        await target.gets(20_000_000)
        clock.pump([1] * 3)
        self.assertEqual((pipes.Pipe.used, pipes.Pipe.free), (0, []))

    async def test_whatIsNotToBeSplicedByTheKernelIsNot(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        spliced(a.transport, b.transport, Sweep(Clock()), Terms(inKernel=False))
        client.send(bytes(20_000_000))
        await target.gets(20_000_000)
        self.assertEqual(self.calls, 0)

    async def test_whatATransportStillHoldsGoesFirstAndTheRestThroughTheKernel(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        first, then = stream(3, 300_000), stream(4, 8_000_000)
        b.transport.write(first)
        spliced(a.transport, b.transport, Sweep(Clock()))
        client.send(then)
        await target.gets(len(first + then))
        self.assertEqual(digest(target.received), digest(first + then))
        self.assertGreater(self.calls, 0)


class TunnelTests(TestCase):
    """The whole way: a tunnel through a proxy, in this process, and clients in threads."""

    timeout = 240
    if not epoll.AVAILABLE:
        skip = "there is no epoll, or no os.splice"

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.spliced = 0
        really = pipes.Pipe.fill

        def fill(pipe: Any, source: int) -> int:
            count = really(pipe, source)
            self.spliced += count
            return count

        self.patch(pipes.Pipe, "fill", fill)
        self.target = Target()
        self.addCleanup(self.target.stop)
        proxy = LittleProxy()
        proxyPort = proxy.listen(reactor)
        self.addCleanup(proxy.stop)
        way = ConnectEndpoint(
            tcpEndpoint(reactor, "127.0.0.1", proxyPort),
            "127.0.0.1",
            self.target.port,
        )
        self.tunnel = TunnelFactory(way, log=Log("none"))
        endpoint = PortEndpoint(reactor, 0, 1024, "127.0.0.1")
        port: Any = self.successResultOf(endpoint.listen(self.tunnel))
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def connected(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), 60)
        self.addCleanup(sock.close)
        return sock

    @inlineCallbacks
    def test_aGibibyteWithPausesOnBothSidesArrivesWholeThroughTheKernel(self) -> Any:
        size, chunk = 1 << 30, bytes(range(256)) * 4096

        def carry() -> tuple[str, str]:
            client, chance = self.connected(), random.Random(7)
            client.sendall(b"sink")
            sent, left = hashlib.sha256(), size
            while left:
                piece = chunk[: min(left, chance.randrange(1, len(chunk)))]
                sent.update(piece)
                client.sendall(piece)
                left -= len(piece)
                if not chance.randrange(20):
                    time.sleep(chance.random() / 100)
            client.shutdown(socket.SHUT_WR)
            return sent.hexdigest(), client.makefile().read()

        sent, received = yield deferToThread(carry)
        self.assertEqual(received, sent)
        self.assertGreater(self.spliced, size // 2)

    @inlineCallbacks
    def test_tenThousandConnectionsLeaveNoDescriptorBehind(self) -> Any:
        def some(count: int) -> None:
            for number in range(count):
                with socket.create_connection(("127.0.0.1", self.port), 60) as client:
                    if number % 20:
                        client.sendall(b"echo")
                        assert client.recv(4) == b"echo"
                    else:
                        client.sendall(b"flow")
                        taken = 0
                        while taken < 2_000_000:
                            taken += len(client.recv(65536))
                        client.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )

        yield deferToThread(some, 20)
        yield self.tunnel.drain()
        yield self.target.idle()
        before = sorted(os.listdir("/proc/self/fd"))
        yield gatherResults([deferToThread(some, 2500) for _ in range(4)])
        yield self.tunnel.drain()
        yield self.target.idle()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))
        self.assertEqual((pipes.Pipe.used, pipes.Pipe.free), (0, []))


class Target:
    """A server of threads: its client's first four bytes say what it does."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def idle(self) -> Any:
        """Fires when it serves nobody any more."""
        return deferToThread(lambda: [thread.join(30) for thread in self._threads])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads = [t for t in self._threads if t.is_alive()]
                thread.start()
                self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            what = client.recv(4, socket.MSG_WAITALL)
            if what == b"echo":
                client.sendall(what)
                client.recv(1)
            elif what == b"flow":
                while True:
                    client.sendall(bytes(65536))
            elif what == b"sink":
                got, chance = hashlib.sha256(), random.Random(8)
                while data := client.recv(1 << 20):
                    got.update(data)
                    if not chance.randrange(50):
                        time.sleep(chance.random() / 100)
                client.sendall(got.hexdigest().encode())
