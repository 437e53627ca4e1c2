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
            *((text, None) for text in ("127.1", "2130706433", "0x7f000001", "0X7f.0.0.0x1")),
            *((text, None) for text in ("0177.0.0.1", "127.0.0.1.", "a.1", "a.1.", "256.0.0.1")),
            ("1.a", "1.a"),
            ("0xg", "0xg"),
        ):
            self.assertEqual(nameOf(text.encode()), name, text)
