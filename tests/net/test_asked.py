"""What a client asks for: `ptunnel.net.asked`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.asked import nameOf


class NameTests(SynchronousTestCase):
    def test_whatIsANameOrAnAddress(self) -> None:
        for text, name in (
            ("a.example", "a.example"),
            ("_dmarc.a-b.example.", "_dmarc.a-b.example."),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("fe80::1%eth0", None),
            ("a:1", None),
            ("[::1]", None),
            ("a/b", None),
            ("", None),
            ("-a", None),
            ("x" * 254, None),
        ):
            self.assertEqual(nameOf(text.encode()), name, text)
