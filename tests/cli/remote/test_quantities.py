"""`ptunnel.cli.remote.quantities`: figures for people."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.remote.quantities import latency, rate, size, span

numbers = st.none() | st.floats(0, 1e300) | st.integers(0, 10**18)


class QuantityTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        for count, text in (
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9999, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (3.4e9, "3.4 GB"),
            (1.2e14, "120 TB"),
            (None, ""),
            (1e30, "very many"),
        ):
            self.assertEqual(size(count), text)
        self.assertEqual((rate(1500.0), rate(None)), ("1.5 kB/s", ""))

    def test_durations(self) -> None:
        for seconds, text in (
            (0.4, "0 s"),
            (59.9, "59 s"),
            (245, "4 min 5 s"),
            (3600, "1 h 0 min"),
            (93784, "1 d 2 h"),
            (None, ""),
        ):
            self.assertEqual(span(seconds), text)
        for seconds, text in (
            (0.0004, "0 ms"),
            (0.034, "34 ms"),
            (0.9996, "1.0 s"),
            (2.46, "2.5 s"),
            (7200, "2 h 0 min"),
            (None, ""),
        ):
            self.assertEqual(latency(seconds), text)

    @given(numbers)
    def test_whateverTheNumberTheTextIsShort(self, number: float | None) -> None:
        self.assertLessEqual(len(size(number)), 9)
        self.assertTrue(span(number).isprintable() and latency(number).isprintable())
