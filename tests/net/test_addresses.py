"""Addresses as text: `ptunnel.net.addresses`."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.addresses import clientKey, clientName, hostPort


class AddressTests(SynchronousTestCase):
    def test_anIPv6AddressIsInBrackets(self) -> None:
        self.assertEqual(hostPort("2001:db8::1", 443), "[2001:db8::1]:443")
        self.assertEqual(hostPort("192.0.2.1", 443), "192.0.2.1:443")
        self.assertEqual(hostPort("imap.example.com", 993), "imap.example.com:993")

    def test_aClientHasAnAddressUnlessItIsLocal(self) -> None:
        for address, name in (
            (IPv4Address("TCP", "192.0.2.1", 5000), "192.0.2.1:5000"),
            (IPv6Address("TCP", "2001:db8::1", 5000), "[2001:db8::1]:5000"),
            (UNIXAddress("/run/x"), "a local client"),
            (None, "a local client"),
        ):
            self.assertEqual(clientName(address), name)


def at(host: str, port: int = 5001) -> Any:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


class KeyTests(SynchronousTestCase):
    def test_ofIPv4ItIsTheAddressAndOfIPv6TheNetwork(self) -> None:
        same = [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8::1", "2001:db8::ffff:1:2:3"),
            ("fe80::1%eth0", "fe80::2"),
        ]
        other = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1")]
        for one, two in same:
            self.assertEqual(clientKey(at(one, 1)), clientKey(at(two, 2)))
        for one, two in other:
            self.assertNotEqual(clientKey(at(one)), clientKey(at(two)))

    def test_aUnixSocketsClientHasNone(self) -> None:
        self.assertIsNone(clientKey(UNIXAddress(None)))
        self.assertIsNone(clientKey(None))
