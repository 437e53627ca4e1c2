"""Patterns of targets: `ptunnel.config.parsers.targets`."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import TargetPattern
from ptunnel.config.parsers.targets import parseTargets
from ptunnel.errors import ConfigError

ALL = (1, 65535)


class TargetsTests(SynchronousTestCase):
    def test_hostsAndPorts(self) -> None:
        self.assertEqual(
            parseTargets("*:443, *.Example.COM:*, db.example.:8000-8099, 10.0.0.0/8:22,[::1]:1"),
            (
                TargetPattern("*", (443, 443)),
                TargetPattern("*.example.com", ALL),
                TargetPattern("db.example", (8000, 8099)),
                TargetPattern(ipaddress.ip_network("10.0.0.0/8"), (22, 22)),
                TargetPattern(ipaddress.ip_network("::1"), (1, 1)),
            ),
        )
        self.assertEqual(
            parseTargets("[2001:db8::]/32:*, 192.0.2.1:*"),
            (
                TargetPattern(ipaddress.ip_network("2001:db8::/32"), ALL),
                TargetPattern(ipaddress.ip_network("192.0.2.1"), ALL),
            ),
        )

    def test_aMistakeNamesItsItemOnce(self) -> None:
        for text, message in (
            ("*.x", '"*.x": a port is missing; write :443 behind it, or :* for all'),
            ("a:1, b", '"b": a port is missing; write :443 behind it, or :* for all'),
            ("a:0", '"a:0": "0" is no port; write a number, 8000-8099 or *'),
            ("a:9-8", '"a:9-8": "9-8" is no port; write a number, 8000-8099 or *'),
            ("a:65536", '"a:65536": "65536" is no port; write a number, 8000-8099 or *'),
            ("10.0.0.1/8:1", '"10.0.0.1/8" has bits behind its mask; did you mean 10.0.0.0/8?'),
            ("[::g]:1", '"[::g]" is not an address or network'),
            ("a*.x:1", "a * may stand for the beginning of a name only, as in *.example.com"),
            ("2001:db8::1", "not a target; write HOST:PORT, separated by commas"),
            ("http://a:1", "not a target; write HOST:PORT, separated by commas"),
            ("a b:1", "white space stands in it"),
            (":1", "not a target; write HOST:PORT, separated by commas"),
            ("", "not a target; write HOST:PORT, separated by commas"),
        ):
            error = self.assertRaises(ConfigError, parseTargets, text)
            self.assertIn(message, str(error), text)

    @given(st.text(alphabet="a1.:*[]/-, x", max_size=20))
    def test_whateverIsWrittenIsPatternsOrOneMistake(self, text: str) -> None:
        try:
            patterns = parseTargets(text)
        except ConfigError as e:
            self.assertNotIn("\n", str(e))
        else:
            for _, (low, high) in patterns:
                self.assertTrue(1 <= low <= high <= 65535)
