"""The tables of docs/architecture.md about phases: which may follow which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

ARCHITECTURE = Path(__file__).parent.parent.parent / "docs" / "architecture.md"


def followers(what: str) -> dict[str, set[str]]:
    """@param what: "an attempt", as in the heading. @return: the phases, each with those that may
    follow it.
    """
    _, _, section = ARCHITECTURE.read_text("utf-8").partition(f"\n## Phases of {what}\n")
    lines = section.partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines if line[:1] == "|"]
    return {phase: set(filter(None, then.split(", "))) for phase, then in rows[2:]}


def holdToTable(case: SynchronousTestCase, kind: type[Any], what: str) -> None:
    """Fail a test in which an object enters a phase that its table does not have there."""
    table = followers(what)
    enter = kind.enter
    wrong = []

    def watched(self: Any, phase: Any, *more: Any) -> None:
        before = self.phase.value
        enter(self, phase, *more)
        if phase.value not in table[before] | {before}:
            wrong.append(f"{before} -> {phase.value}")

    case.patch(kind, "enter", watched)
    case.addCleanup(lambda: case.assertEqual(wrong, []))
