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
from functools import partial
from pathlib import Path

from programs import Missing, build, configured, find, freePort
from workloads import LOADS, WEB, Figures, Stage

YARDSTICK, ALONE = "yardstick", "no tunnel"
DESCRIPTORS = 8192
# By load and figure, then by contender.
Ratios = dict[tuple[str, str], dict[str, float]]


def contenders(folder: Path) -> dict[str, str]:
    ours = f"{sys.executable} -m ptunnel -p 127.0.0.1:{{proxy}} {{listen}}:{{host}}:{{port}}"
    (folder / "producers.ini").write_text("[ptunnel]\nkernel-splice = no\n")
    return {
        YARDSTICK: f"{folder}/yardstick {{listen}} {{proxy}} {{host}}:{{port}}",
        "ptunnel": ours,
        "ptunnel without kernel-splice": f"{ours} -c {folder}/producers.ini",
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
    base, well = next(iter(commands)), dict(commands)
    for number in range(rounds):
        print(f"{load}, round {number + 1} of {rounds}", file=sys.stderr)
        yard: Figures = {}
        for name, command in list(well.items()):
            del well[name]
            with orWithout(f"{name}, {load}"):
                figures = measure(load, command)
                yard = figures if name == base else yard
                for figure in [figure for figure in figures if yard.get(figure)]:
                    seen[load, figure][name].append(figures[figure] / yard[figure])
                well[name] = command
    median = statistics.median
    return {key: {n: median(by[n]) for n in by if n in well} for key, by in seen.items()}


def measureAll(options: argparse.Namespace, folder: Path) -> Ratios:
    stage, commands, ratios = Stage(folder, options.quick), {}, {}
    everything = contenders(folder) | dict(more.split("=", 1) for more in options.tunnel)
    for name in [n for n in everything if n not in options.without.split(",")]:
        with orWithout(name):
            if name == YARDSTICK:
                build(folder)
            find(everything[name].split()[0])
            commands[name] = everything[name]
        loads = [load for load in LOADS if load in options.only]
    with orWithout(", ".join(loads)), contextlib.ExitStack() as stack:
        if YARDSTICK not in commands:
            raise Missing("there is no yardstick")
        proxy = freePort()
        stack.enter_context(stage.start(f"{folder}/nullproxy {proxy}", proxy))
        for load in loads:
            ratios |= compare(load, partial(stage.load, proxy), commands, options.rounds)
    with orWithout("web"), contextlib.ExitStack() as stack:
        servers = {"nginx": "nginx -p {folder} -c", "squid": "squid -N -n bench{port} -f"}
        ports = []
        for name, command in servers.items() if "web" in options.only else ():
            find("ab")
            ports.append(freePort())
            line = command.format(folder=folder, port=ports[-1])
            path = configured(f"{name}.conf", ports[-1], folder)
            stack.enter_context(stage.start(f"{line} {path}", ports[-1]))
        for load in WEB if ports else ():
            measure = partial(stage.web, *ports)
            ratios |= compare(load, measure, {ALONE: None, **commands}, options.rounds)
    return ratios


def table(ratios: Ratios) -> str:
    lines = []
    for (load, figure), by in ratios.items():
        lines.append(f"{load}, {figure}:")
        lines += [f"  {name:30}{ratio:8.2f}" for name, ratio in by.items()]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--only", default=",".join(["web", *LOADS]), help="default: %(default)s")
    parser.add_argument("--without", default="", metavar="NAME,...", help="tunnels to leave out")
    parser.add_argument("--quick", action="store_true", help="to see it work; rough figures")
    parser.add_argument("--picture", metavar="FILE.svg", help="what to draw")
    parser.add_argument("tunnel", nargs="*", metavar="NAME='COMMAND'")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    if unknown := set(options.only) - {"web", *LOADS}:
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}")
    if options.rounds < 1 or not all("=" in more for more in options.tunnel):
        parser.error("--rounds is 1 or more, and a tunnel is NAME='COMMAND'")
    if not Path("/proc/self/smaps_rollup").exists():
        print("nothing measured: it takes the /proc of Linux")
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # a held connection is two descriptors
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    with tempfile.TemporaryDirectory(prefix="ptunnel-bench-") as name:
        Path(name).chmod(0o755)  # for a squid that gives up being root
        ratios = measureAll(options, Path(name))
    print(table(ratios))
    if options.picture and ratios:
        try:
            from picture import draw
        except ImportError as e:
            print(f"left out: the picture: {e}")
        else:
            draw(ratios, options.picture)
            print(f"drawn: {options.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
