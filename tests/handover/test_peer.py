"""Who is at the other end: `ptunnel.handover.peer`."""

from __future__ import annotations

import os
import socket
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.handover.peer import stranger

NOBODY = 65534


class StrangerTests(SynchronousTestCase):
    def test_thisUserIsNone(self) -> None:
        one, other = socket.socketpair()
        with one, other:
            self.assertIsNone(stranger(one))

    def test_anotherUserIs(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can become another user")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"\0ptunnel-test-{os.getpid()}")
            listening.listen()
            pid = os.fork()
            if pid == 0:
                try:
                    os.setuid(NOBODY)
                    socket.socket(socket.AF_UNIX).connect(listening.getsockname())
                finally:
                    os._exit(0)
            connection, _ = listening.accept()
            with connection:
                self.assertEqual(stranger(connection), NOBODY)
            os.waitpid(pid, 0)

    def test_whereTheSystemCannotTellTheFileHasDecided(self) -> None:
        self.patch(socket, "SO_PEERCRED", None)
        one, other = socket.socketpair()
        with one, other:
            self.assertIsNone(stranger(one))
