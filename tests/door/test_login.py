"""Who may use a door: `ptunnel.door.login`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.door.login import Judge
from ptunnel.errors import CredentialsUnavailable
from ptunnel.net.asked import Login

RIGHT = Login(b"alice", b"word")


class JudgeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reads: list[Deferred[Credentials]] = []
        self.isOld = False
        self.judge = Judge(self.read, lambda: self.isOld)

    def read(self) -> Deferred[Credentials]:
        self.reads.append(Deferred())
        return self.reads[-1]

    def test_onlyTheRightOneComesIn(self) -> None:
        first = self.judge(RIGHT)
        self.assertNoResult(first)
        self.reads[0].callback(Credentials("alice", "word"))
        self.assertTrue(self.successResultOf(first))
        for login in Login(b"alice", b"wore"), Login(b"bob", b"word"), Login(b"", b""):
            self.assertFalse(self.successResultOf(self.judge(login)))
        self.assertFalse(self.successResultOf(self.judge(Login(b"alice\xff", b"word"))))
        self.assertEqual(len(self.reads), 1)

    def test_thoseWhoWaitAreJudgedByOneRead(self) -> None:
        one, two = self.judge(RIGHT), self.judge(Login(b"alice", b"no"))
        self.reads[0].callback(Credentials("alice", "word"))
        self.assertTrue(self.successResultOf(one))
        self.assertFalse(self.successResultOf(two))
        self.assertEqual(len(self.reads), 1)

    def test_oneWhoLeavesWhileItIsReadDisturbsNobody(self) -> None:
        one, two = self.judge(RIGHT), self.judge(RIGHT)
        one.addErrback(lambda _: None).cancel()
        self.reads[0].callback(Credentials("alice", "word"))
        self.assertTrue(self.successResultOf(two))

    def test_aPasswordThatHasChangedIsReadAgain(self) -> None:
        self.judge(RIGHT)
        self.reads[0].callback(Credentials("alice", "word"))
        self.isOld = True
        again = self.judge(Login(b"alice", b"new"))
        self.reads[1].callback(Credentials("alice", "new"))
        self.assertTrue(self.successResultOf(again))

    def test_whereItCannotBeReadAllFailAndTheNextOneReadsAgain(self) -> None:
        one, two = self.judge(RIGHT), self.judge(RIGHT)
        self.reads[0].errback(CredentialsUnavailable("no password"))
        for judged in one, two:
            self.failureResultOf(judged, CredentialsUnavailable)
        again = self.judge(RIGHT)
        self.reads[1].callback(Credentials("alice", "word"))
        self.assertTrue(self.successResultOf(again))

    def test_aNameBeyondAsciiIsComparedAsUtf8(self) -> None:
        judged = self.judge(Login("älice".encode(), "wörd".encode()))
        self.reads[0].callback(Credentials("älice", "wörd"))
        self.assertTrue(self.successResultOf(judged))
