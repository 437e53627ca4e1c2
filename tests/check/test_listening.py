"""Who listens where a tunnel is to listen: `ptunnel.check.listening`."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.check import TunnelReport, asDocument, asText, listening, summary
from ptunnel.check.listening import isPtunnel, listeningAt
from ptunnel.check.report import Listening, WayReport
from ptunnel.config import EndpointListen, TcpListen, UnixListen
from tests.support import schema
from tests.support.loopback import freePort, takenPort

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "check.schema.json").read_text("utf-8")
)


class AddressTests(SynchronousTestCase):
    def found(self, host: str, port: int) -> Listening:
        found = listeningAt(TcpListen(host, port))
        assert found is not None
        return found

    def setUp(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("there is no /proc")

    def test_nobody(self) -> None:
        port = freePort()
        for host in "127.0.0.1", "::1":
            self.assertIsNone(listeningAt(TcpListen(host, port)))
        self.assertIsNone(listeningAt(UnixListen(os.path.abspath(self.mktemp()))))

    def test_itDisturbsNobody(self) -> None:
        port = freePort()
        listeningAt(TcpListen("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as later:
            self.found("127.0.0.1", port)
            later.setblocking(False)
            self.assertRaises(BlockingIOError, later.accept)

    def test_anotherProgramIsAFaultThatNamesIt(self) -> None:
        port = takenPort(self)
        for host in "127.0.0.1", "0.0.0.0", "localhost":
            found = self.found(host, port)
            self.assertEqual(found.process, os.getpid())
            assert found.fault is not None
            self.assertEqual(found.fault.cause, "listen-taken")
            who = f"{host}:{port} is taken by {found.owner} (process {os.getpid()})"
            self.assertEqual(found.fault.message, who)

    def test_ptunnelIsNone(self) -> None:
        self.patch(listening, "_arguments", lambda process: ["python", "/usr/bin/ptunnel"])
        found = self.found("127.0.0.1", takenPort(self))
        self.assertEqual((found.owner, found.process), ("ptunnel", os.getpid()))
        self.assertIsNone(found.fault)

    def test_norIsSomebodyWhoCannotBeSeen(self) -> None:
        self.patch(listening, "_holders", lambda inodes: [])
        found = self.found("127.0.0.1", takenPort(self))
        self.assertEqual((found.owner, found.process, found.fault), ("", None, None))

    def test_anIPv6Address(self) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
            self.assertEqual(self.found("::1", port).process, os.getpid())
            self.assertIsNone(listeningAt(TcpListen("127.0.0.1", port)))

    def test_aUnixSocket(self) -> None:
        path = os.path.abspath(self.mktemp())[-100:]
        path = f"/tmp/{os.path.basename(path)}.{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            self.addCleanup(os.unlink, path)
            self.assertIsNone(listeningAt(UnixListen(path)), "nobody listens on it yet")
            server.listen()
            found = listeningAt(UnixListen(path))
            assert found is not None
            self.assertEqual((found.address, found.process), (f"unix:{path}", os.getpid()))

    def test_whatIsLeftToTheSystemOrToTwistedIsNotLookedAt(self) -> None:
        self.assertIsNone(listeningAt(TcpListen("127.0.0.1", 0)))
        self.assertIsNone(listeningAt(EndpointListen(f"tcp:{takenPort(self)}")))


class CommandLineTests(SynchronousTestCase):
    def test_thoseOfPtunnel(self) -> None:
        for words in (
            "python /home/me/bin/ptunnel -p p:1 9993:a:1",
            "python -m ptunnel 9993:a:1",
            "python /usr/bin/twistd -n ptunnel -c x",
        ):
            self.assertTrue(isPtunnel(words.split()), words)
        self.assertTrue(
            isPtunnel(["python", "-c", "from ptunnel.workers.supervisor import main; main()"])
        )

    def test_thoseOfOthers(self) -> None:
        for words in "nginx: master", "python /srv/ptunnel-test/server.py", "nc -l 9993", "":
            self.assertFalse(isPtunnel(words.split()), words)


class ReportTests(SynchronousTestCase):
    def test_itStandsBeforeTheWays(self) -> None:
        report = TunnelReport("imap", "a:1", (), Listening("127.0.0.1:9993", "ptunnel", 7))
        line = "  listen    127.0.0.1:9993  ptunnel listens there already (process 7)"
        self.assertEqual(asText(report).splitlines(), ["imap  a:1", line])
        self.assertTrue(report.ok)
        self.assertEqual(summary([report]), "all is well")

    def test_aFaultCounts(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("there is no /proc")
        found = listeningAt(TcpListen("127.0.0.1", takenPort(self)))
        report = TunnelReport("imap", "a:1", (), found)
        self.assertFalse(report.ok)
        self.assertEqual(summary([report]), "an address is taken")
        self.assertEqual(summary([report, report]), "2 addresses are taken")
        self.assertIn("  failed: 127.0.0.1:", asText(report))
        self.assertIn("  hint: give the tunnel another port", asText(report))

    def test_theDocumentHasIt(self) -> None:
        for found in (
            None,
            Listening("127.0.0.1:9993"),
            Listening("127.0.0.1:9993", "ptunnel", 7),
        ):
            ways = (WayReport("corp", (), ()),)
            document = asDocument([TunnelReport("imap", "a:1", ways, found)], 1)
            self.assertEqual(list(schema.faults(document, SCHEMA)), [])
            [tunnel] = document["tunnels"]
            self.assertEqual(tunnel["listening"] is None, found is None)
