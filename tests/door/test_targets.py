"""Which targets a door serves: `ptunnel.door.targets`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.config.parsers.targets import parseTargets
from ptunnel.door.targets import Targets


def serves(text: str, host: str, port: int = 443) -> bool:
    return Targets(parseTargets(text) if text else ()).refusal(host, port) is None


class RequestTests(SynchronousTestCase):
    def test_withoutPatternsAllIsServedButThisMachine(self) -> None:
        for host in "example.com", "192.0.2.1", "10.0.0.1", "2001:db8::1", "a":
            self.assertTrue(serves("", host), host)
        for host in "1.example", "0x.example", "10.1", "7f":
            self.assertTrue(serves("", host), host)
        for host in (
            *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "localhost", "LocalHost."),
            *("127.1", "0x7f.1", "0x7F000001", "2130706433", "017700000001", "127.0.0.01", "0"),
            *("127.0.0.1.", "127.1.", "localhost..", "a.localhost.."),
            *("a.localhost", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0.0.0.0"),
        ):
            self.assertFalse(serves("", host), host)
            self.assertFalse(serves("*:*", host), host)

    def test_aNameIsServedByItselfAndByThoseAboveIt(self) -> None:
        text = "*.example.com:443, example.org:*"
        for host in "a.example.com", "A.b.EXAMPLE.com.", "example.org", "Example.Org.":
            self.assertTrue(serves(text, host), host)
        for host in (
            "example.com",
            "badexample.com",
            "example.com.evil",
            "a.example.org",
            "192.0.2.1",
        ):
            self.assertFalse(serves(text, host), host)

    def test_portsAreOneARangeOrAll(self) -> None:
        text = "a:22, b:8000-8099, c:*"
        served = [
            (host, port)
            for host in "abc"
            for port in (22, 7999, 8000, 8099, 8100, 65535)
            if serves(text, host, port)
        ]
        everywhere = [("c", port) for port in (22, 7999, 8000, 8099, 8100, 65535)]
        self.assertEqual(served, [("a", 22), ("b", 8000), ("b", 8099), *everywhere])

    def test_anAddressIsServedByItsNetworks(self) -> None:
        text = "10.0.0.0/8:*, 192.0.2.1:443, [2001:db8::]/32:443"
        for host in "10.1.2.3", "192.0.2.1", "2001:db8::9", "::ffff:10.0.0.1":
            self.assertTrue(serves(text, host), host)
        for host in "11.0.0.1", "192.0.2.2", "2001:db9::", "a.example", "::ffff:11.0.0.1":
            self.assertFalse(serves(text, host), host)

    def test_thisMachineIsServedWhereItIsNamed(self) -> None:
        self.assertTrue(serves("127.0.0.0/8:*", "127.0.0.1"))
        self.assertTrue(serves("127.0.0.1:*", "::ffff:127.0.0.1"))
        self.assertTrue(serves("[::1]:443", "::1"))
        self.assertTrue(serves("localhost:443", "localhost"))
        self.assertFalse(serves("0.0.0.0/0:*", "127.0.0.1"))
        self.assertFalse(serves("127.0.0.1:*", "localhost"))
        self.assertFalse(serves("127.0.0.0/8:*", "0.0.0.0"))

    def test_whereWeListenOurselvesIsNeverServed(self) -> None:
        own = {("127.0.0.1", 1080), ("proxy.example", 1080)}
        targets = Targets(parseTargets("127.0.0.0/8:*, *:*"), lambda *at: at in own)
        for host in "127.0.0.1", "proxy.example":
            error = targets.refusal(host, 1080)
            assert error is not None
            self.assertIn(f"{host}:1080 leads back to ptunnel itself", str(error))
            self.assertIsNone(targets.refusal(host, 1081))

    def test_theRefusalSaysWhatAndWhatToDo(self) -> None:
        error = Targets().refusal("127.0.0.1", 80)
        assert error is not None
        self.assertIn("127.0.0.1:80 is not among the targets of this door", str(error))
        self.assertIs(error.cause, causes.TARGET_FORBIDDEN)
        self.assertFalse(error.reached)


class AddressTests(SynchronousTestCase):
    """What a name is found to be when it is connected to, whatever it was before."""

    def refused(self, text: str, name: str, found: str, port: int = 80) -> bool:
        targets = Targets(parseTargets(text) if text else (), lambda *at: at == ("192.0.2.9", 1080))
        return targets.addressRefusal(name, port, found) is not None

    def test_aNameMayNotLeadToThisMachine(self) -> None:
        for found in "127.0.0.1", "127.3.2.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1":
            self.assertTrue(self.refused("", "rebinds.example", found), found)
            self.assertTrue(self.refused("*.example:*", "rebinds.example", found), found)

    def test_unlessItOrTheLoopbackIsNamed(self) -> None:
        self.assertFalse(self.refused("intranet.example:80", "Intranet.example.", "127.0.0.1"))
        self.assertFalse(self.refused("127.0.0.0/8:80, *:*", "x.example", "127.0.0.1"))
        self.assertTrue(self.refused("127.0.0.0/8:81, *:*", "x.example", "127.0.0.1"))

    def test_itMayLeadAnywhereElse(self) -> None:
        for found in "192.0.2.1", "10.0.0.1", "2001:db8::1", "fe80::1%eth0":
            self.assertFalse(self.refused("*.example:*", "x.example", found), found)

    def test_butNeverToWhereWeListen(self) -> None:
        self.assertTrue(self.refused("x.example:*", "x.example", "192.0.2.9", 1080))
        self.assertFalse(self.refused("x.example:*", "x.example", "192.0.2.9", 1081))
