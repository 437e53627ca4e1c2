"""What the parent says to a worker: `ptunnel.workers.orders`."""

from __future__ import annotations

import os
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings
from ptunnel.workers.orders import (
    ABORT,
    ASK,
    DRAIN,
    RELOAD,
    Frames,
    Orders,
    closeAll,
    packed,
    receiveSockets,
    sendSockets,
)

SETTINGS = Settings((), {})
_orders: Any = st.one_of(
    st.sampled_from([(DRAIN, None), (ABORT, None)]),
    st.integers(0, 300).map(lambda count: (RELOAD, (SETTINGS, count))),
    st.integers(0, 300).map(lambda number: (ASK, (number, "method", ("a", True)))),
)


class OrdersTests(SynchronousTestCase):
    @given(st.lists(_orders), st.lists(st.integers(1, 40)))
    def test_howeverTheyArriveTheyAreTheSame(
        self, orders: list[tuple[bytes, Any]], cuts: list[int]
    ) -> None:
        data = b"".join(order if v is None else order + packed(v) for order, v in orders)
        parser, found = Orders(), []
        for size in cuts:
            found += parser.receive(data[:size])
            data = data[size:]
        found += parser.receive(data)
        self.assertEqual(found, orders)


class FramesTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=20) | st.integers()), st.lists(st.integers(1, 40)))
    def test_howeverTheyArriveTheValuesAreTheSame(
        self, values: list[bytes | int], cuts: list[int]
    ) -> None:
        data = b"".join(map(packed, values))
        frames, found = Frames(), []
        for size in cuts:
            found += frames.receive(data[:size])
            data = data[size:]
        self.assertEqual(found + frames.receive(data), values)


class SocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def test_theyArriveInOrderHoweverMany(self) -> None:
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
        pipes = os.pipe()
        self.addCleanup(closeAll, [*files, *pipes])
        sent = [files[0], pipes[0], files[1]] * 70
        sendSockets(self.ours, sent)
        sendSockets(self.ours, [pipes[1]])
        for expected in sent, [pipes[1]]:
            found = receiveSockets(self.theirs, len(expected))
            self.addCleanup(closeAll, found)
            same = [
                os.path.samestat(os.fstat(one), os.fstat(two))
                for one, two in zip(found, expected, strict=True)
            ]
            self.assertTrue(all(same))
            self.assertFalse(any(map(os.get_inheritable, found)))

    def test_fewerAreAnErrorAndNoneIsLeftOpen(self) -> None:
        sendSockets(self.ours, [0])
        self.ours.close()
        before = len(os.listdir("/proc/self/fd"))
        error = self.assertRaises(OSError, receiveSockets, self.theirs, 2)
        self.assertEqual(str(error), "1 of 2 sockets came")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
