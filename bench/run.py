#!/usr/bin/env python3
"""Compare TCP tunnels through an HTTP proxy on this machine, and draw the comparison.

web: ab fetches a small page from nginx through squid, 5 at a time, with keep-alive and without.
open, echo, down, up, hold: connections, small messages, bulk in either direction, and idle
connections, with next to nothing behind the tunnel. Their figures are ratios to yardstick.c, a
minimal compiled tunnel, in the same round; those of web are ratios to squid without a tunnel.

Another tunnel is added as NAME='COMMAND', with {listen}, the port where it is to listen, {proxy},
that of the proxy on 127.0.0.1, and {host} and {port}, the target.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from programs import Missing, build, configured, find, freePort
from workloads import LOADS, WEB, Figures, Stage

YARDSTICK, ALONE = "yardstick", "no tunnel"
# By load and figure, then by contender.
Ratios = dict[tuple[str, str], dict[str, float]]


def contenders(folder: Path) -> dict[str, str]:
    ours = f"{sys.executable} -m ptunnel -p 127.0.0.1:{{proxy}} {{listen}}:{{host}}:{{port}}"
    (folder / "producers.ini").write_text("[ptunnel]\nkernel-splice = no\n")
    return {
        YARDSTICK: f"{folder}/yardstick {{listen}} {{proxy}} {{host}}:{{port}}",
        "ptunnel": ours,
        "kernel-splice = no": f"{ours} -c {folder}/producers.ini",
        "socat": "socat TCP-LISTEN:{listen},bind=127.0.0.1,fork,reuseaddr "
        "PROXY:127.0.0.1:{host}:{port},proxyport={proxy}",
        "proxytunnel": "proxytunnel -q -a {listen} -p 127.0.0.1:{proxy} -d {host}:{port}",
    }


@contextlib.contextmanager
def orWithout(what: str) -> Iterator[None]:
    try:
        yield
    except (Missing, subprocess.TimeoutExpired) as e:
        print(f"left out: {what}: {e}", flush=True)


def compare(load: str, measure: Callable[..., Figures], commands: dict, rounds: int) -> Ratios:
    """The median ratios to the first of the commands. Each round has all of them in turn, so that
    a slow minute falls on all alike."""
    seen = defaultdict(lambda: defaultdict(list))
    base, failed = next(iter(commands)), set(commands)
    for number in range(rounds):
        print(f"{load}, round {number + 1} of {rounds}", file=sys.stderr)
        yard: Figures = {}
        for name in commands if number == 0 else [n for n in commands if n not in failed]:
            failed.add(name)
            with orWithout(f"{name}, {load}"):
                figures = measure(load, commands[name])
                yard = figures if name == base else yard
                for figure in figures.keys() & {key for key in yard if yard[key]}:
                    seen[load, figure][name].append(figures[figure] / yard[figure])
                failed.remove(name)
    median = statistics.median
    return {k: {n: median(by[n]) for n in by if n not in failed} for k, by in seen.items()}


def measureAll(options: argparse.Namespace, folder: Path) -> Ratios:
    stage, commands, ratios = Stage(folder, options.quick), {}, {}
    everything = contenders(folder) | dict(more.split("=", 1) for more in options.tunnel)
    for name, command in everything.items():
        with orWithout(name):
            if name == YARDSTICK:
                build(folder)
            if name not in options.without:
                find(command.split()[0])
                commands[name] = command
    with orWithout("the five loads"), contextlib.ExitStack() as stack:
        if YARDSTICK not in commands:
            raise Missing("there is no yardstick")
        proxy = freePort()
        stack.enter_context(stage.start(f"{folder}/nullproxy {proxy}", proxy))
        for load in options.only & LOADS.keys():
            measure = lambda load, command: stage.load(load, command, proxy)  # noqa: E731
            ratios |= compare(load, measure, commands, options.rounds)
    with orWithout("web"), contextlib.ExitStack() as stack:
        proxy, page = freePort(), freePort()
        find("ab")
    return ratios
