"""The same command again: `ptunnel.handover.successor`."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.handover.successor import commandOf, succeed
from ptunnel.log import Log
from tests.support.loopback import captureLog, lines


class SuccessorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)

    def test_theOptionIsAddedOnceAndBeforeWhatIsNoOption(self) -> None:
        for words, expected in (
            ("python ptunnel run -c x", "ptunnel run -c x --take-over"),
            ("python -m ptunnel -c x 1:a:2", "-m ptunnel -c x 1:a:2 --take-over"),
            ("/p ptunnel --take-over -c x", "ptunnel --take-over -c x"),
            ("p ptunnel -c x -- 1:a:2", "ptunnel -c x --take-over -- 1:a:2"),
        ):
            self.assertEqual(commandOf(words.split()), [sys.executable, *expected.split()])

    def test_itHasTheSameOutputAndWhatThisProcessHasUsedUp(self) -> None:
        started: list[Any] = []

        class Reactor:
            def spawnProcess(self, *arguments: Any, **named: Any) -> None:
                started.append((arguments, named))

        succeed(Reactor(), Log(), {"NOTIFY_SOCKET": "/n"})
        [((_, path, command, environment), named)] = started
        self.assertEqual((path, command[-1]), (sys.executable, "--take-over"))
        self.assertEqual(environment["NOTIFY_SOCKET"], "/n")
        self.assertEqual(named["childFDs"], {0: 0, 1: 1, 2: 2})
        self.assertNotIn("NOTIFY_SOCKET", os.environ)

    def test_oneThatCannotBeStartedIsALine(self) -> None:
        class Reactor:
            def spawnProcess(self, *arguments: Any, **named: Any) -> None:
                raise OSError(errno.EAGAIN, "x")

        succeed(Reactor(), Log(), {})
        self.assertIn("error: it cannot be started: ", lines(self.events)[-1])
