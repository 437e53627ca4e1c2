"""Addresses of SOCKS: `ptunnel.socks.wire`."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.socks import wire

names = st.from_regex(r"[a-z][a-z0-9.-]{0,60}", fullmatch=True)
hosts = st.one_of(st.ip_addresses().map(str), names)
ports = st.integers(1, 65535)


class AddressTests(SynchronousTestCase):
    def test_aLiteralIsSentAsOneAndAnythingElseAsAName(self) -> None:
        self.assertEqual(wire.address("192.0.2.1", 80), b"\1\xc0\0\2\1\0P")
        self.assertEqual(wire.address("::1", 80), b"\4" + bytes(15) + b"\1\0P")
        self.assertEqual(wire.address("a.example", 256), b"\3\x09a.example\1\0")

    def test_whatCannotBeSentIsRefused(self) -> None:
        self.assertEqual(len(wire.address("x" * 255, 1)), 259)
        for host, port in (("x" * 256, 1), ("", 1), ("a", 0), ("a", 65536), ("ä", 1), ("a\r", 1)):
            self.assertRaises(ValueError, wire.address, host, port)

    @given(hosts, ports, st.binary(max_size=9), st.binary(max_size=9))
    def test_whatIsWrittenIsReadAndNothingElse(
        self, host: str, port: int, before: bytes, behind: bytes
    ) -> None:
        data = before + wire.address(host, port)
        found = wire.takeAddress(data + behind, len(before))
        expected = host if wire.isAddress(host) else host.encode()
        self.assertEqual(found, (expected, port, len(data)))
        for cut in range(len(before), len(data)):
            self.assertIsNone(wire.takeAddress(data[:cut], len(before)))

    @given(st.binary(max_size=300))
    def test_anyBytesAreAnAddressOrNone(self, data: bytes) -> None:
        try:
            found = wire.takeAddress(data, 0)
        except wire.BadAddress:
            self.assertNotIn(data[0], (wire.IPV4, wire.NAME, wire.IPV6))
        else:
            if found is not None:
                host, _, end = found
                self.assertLessEqual(end, len(data))
                if isinstance(host, str):
                    ipaddress.ip_address(host)
