"""Addresses as text: `ptunnel.net.addresses`."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.addresses import clientName, hostPort


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
