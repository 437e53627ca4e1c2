"""What is asked: `ptunnel.status.answers`."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger.figures import Query, SortKey
from ptunnel.status.answers import MOST_LISTED, Refused, queryOf
from tests.support.fakes import anyText

KEYS = "q", "tunnel", "sort", "order", "limit", "offset"


class QueryTests(SynchronousTestCase):
    def test_withoutParametersItIsTheFirstHundred(self) -> None:
        self.assertEqual(queryOf({}), Query())

    def test_eachParameterHasItsPlace(self) -> None:
        query = queryOf(
            {
                "q": "10.0.0.1",
                "tunnel": "mail",
                "sort": "rate",
                "order": "desc",
                "limit": "1000",
                "offset": "7",
            }
        )
        self.assertEqual(query, Query("10.0.0.1", "mail", "rate", True, 1000, 7))
        self.assertIsNone(queryOf({"tunnel": ""}).tunnel)

    def test_noMoreAreListedThanTheLimit(self) -> None:
        self.assertEqual(queryOf({"limit": "5000"}).limit, MOST_LISTED)

    @given(st.dictionaries(st.one_of(st.sampled_from(KEYS), anyText), anyText))
    def test_anythingIsAQueryOrRefused(self, args: dict[str, str]) -> None:
        try:
            query = queryOf(args)
        except Refused as e:
            self.assertEqual(e.answer.code, 400)
            self.assertEqual(e.answer.body.count(b"\n"), 1)
        else:
            self.assertIn(query.sort, get_args(SortKey))
            self.assertTrue(0 <= query.limit <= MOST_LISTED)
