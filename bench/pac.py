"""A PAC file of 2,000 hosts: what one evaluation costs here, beside bare quickjs-ng.

    .venv/bin/python bench/pac.py [EVALUATIONS]

Both have the same file, the same helpers and the same host, in turn, on one core. Ours is all that
a connection waits for: the request to the file's process, the evaluation, and its answer.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.pac.wild import HOSTS, manyHosts

from ptunnel.pac.engine import Engine
from ptunnel.pac.process import HELPERS

# What is asked for: no rule fits it, so all are tried.
HOST = "elsewhere.example"
URL = f"https://{HOST}/"
ROUNDS = 10


def bare(source: str) -> Any:
    """Return FindProxyForURL of a plain context."""
    context = import_module("quickjs").Context()
    context.eval(HELPERS.read_text("utf-8"))
    context.eval(source)
    return context.get("FindProxyForURL")


async def measure(reactor: Any, evaluations: int) -> None:
    source = manyHosts()
    find = bare(source)
    engine = Engine(reactor, "bench", source)
    await engine.load()
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):  # in turn, so that both meet the same noise
        for _ in range(evaluations // ROUNDS):
            began = time.perf_counter()
            await engine.evaluate(URL, HOST)
            ours.append(time.perf_counter() - began)
        for _ in range(evaluations // ROUNDS):
            began = time.perf_counter()
            find(URL, HOST)
            theirs.append(time.perf_counter() - began)
    engine.close()
    here, there = median(ours) * 1000, median(theirs) * 1000
    print(f"{len(ours)} evaluations of {HOSTS} rules, median:")
    print(f"  ptunnel      {here:.3f} ms")
    print(f"  quickjs-ng   {there:.3f} ms")
    print(f"  ratio        {here / there:.2f}")


def main() -> None:
    evaluations = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    if hasattr(os, "sched_setaffinity"):  # the file's process inherits it
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    task.react(lambda reactor: Deferred.fromCoroutine(measure(reactor, evaluations)))


if __name__ == "__main__":
    main()
