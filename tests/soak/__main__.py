"""The run itself, and its verdict."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ptunnel.ledger import MOST_SAID
from ptunnel.ledger.said import Said
from tests.soak.faults import Faults
from tests.soak.peers import (
    PASSWORD,
    PATIENCE,
    USER,
    BadProxy,
    Outcome,
    Plan,
    Proxy,
    Target,
    anyPlan,
    healthy,
    visit,
    wrong,
)
from tests.soak.process import HERE, Holding, Service
from tests.support import authority

# Of this process, which has both ends of every connection, and of each that it starts: so few that
# a leak of one for each tenth connection is met within an hour.
DESCRIPTORS = 8192
# The tunnels through which a healthy client must be served, and those through which it may be.
SURE = ("plain", "tls", "basic", "digest", "failover", "direct")
UNSURE = ("bad", "badtls", "slow")
# How much more memory a process may have at the end than after the first part, in bytes. With
# Python's own heap constant, what the allocator keeps of the largest moments grows by some 3 MiB an
# hour at first; a leak of 100 bytes for each connection would be 9 MB.
MEMORY = 8 << 20
# By how many objects of a kind two quiet moments may differ: a look-up remembered, a proxy marked.
OBJECTS = 20
# Of these so many are kept, however long it runs.
KEPT = {f"{Said.__module__}.{Said.__qualname__}": MOST_SAID}
# The largest and last lines of a deviation's own kind that are printed.
SHOWN = 5
# Seconds around a moment at which a proxy went away or a worker died, in which it excuses a client.
AROUND = 0.5


class Side:
    """One service, those around it, and what was wrong."""

    def __init__(self, name: str, folder: Path, seed: int, workers: int, kernel: bool) -> None:
        self.name = name
        self.chance = random.Random(f"{seed} {name}")
        self.plans: dict[int, Plan] = {}
        self.deviations: Counter[str] = Counter()
        self.shown: dict[str, list[str]] = {}
        self.outcomes: Counter[str] = Counter()
        self.proxies: dict[str, Target] = {
            "plain": Proxy(self.plans),
            "tls": Proxy(self.plans, tls=True),
            "basic": Proxy(self.plans, "basic"),
            "digest": Proxy(self.plans, "digest"),
            "failover": Proxy(self.plans),
            "direct": Target(self.plans),
            "bad": BadProxy(self.plans, random.Random(f"{seed} {name} bad")),
            "badtls": BadProxy(self.plans, random.Random(f"{seed} {name} badtls"), tls=True),
            "slow": Proxy(self.plans),
        }
        self._folder = folder
        self._workers = workers
        self._kernel = kernel

    async def start(self, shim: Path, pair: authority.Pair) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        for proxy in self.proxies.values():
            await proxy.listen(context if proxy.tls else None)
        config = self._config()
        self.service = Service(self.name, self._folder, config, self._workers)
        await self.service.start(shim)
        self.faults = Faults(self.service, self.proxies["failover"], self.chance)

    def _config(self) -> str:
        ca = authority.authority().cert
        login = f"username = {USER}\npassword = {PASSWORD}\n"
        at = {name: f"proxy.test:{proxy.port}" for name, proxy in self.proxies.items()}
        more = {"basic": login + "auth = basic\n", "digest": login, "tls": f"ca-file = {ca}\n"}
        more["badtls"] = more["tls"]
        lines = [
            "[ptunnel]",
            f"workers = {self._workers}",
            f"kernel-splice = {'yes' if self._kernel else 'no'}",
            "connect-timeout = 5s\nidle-timeout = 8s\nhalf-close-timeout = 6s\ndrain-timeout = 5s",
        ]
        for name in self.proxies:
            if name != "direct":
                scheme = "https" if "tls" in name else "http"
                where = at[name].replace("proxy", "slow") if name == "slow" else at[name]
                lines += [f"[proxy {name}]", f"url = {scheme}://{where}", more.get(name, "")]
            target = (
                "target.example:1" if name != "direct" else f"127.0.0.1:{self.proxies[name].port}"
            )
            via = "failover, plain" if name == "failover" else name
            lines += [f"[tunnel {name}]", "listen = 127.0.0.1:0", f"target = {target}"]
            lines += [f"via = {via}"]
        return "\n".join(lines) + "\n"

    async def client(self, tunnel: str, plan: Plan) -> None:
        """One client, from connect to close."""
        self.plans[plan.number] = plan
        tls = "tls" in tunnel
        try:
            outcome = await visit(self.service.ports[tunnel], plan, tls)
        finally:
            del self.plans[plan.number]
        self.outcomes[outcome.how] += 1
        why = wrong(outcome, sure=tunnel in SURE, tls=tls)
        if why and not self._excused(tunnel, outcome, why):
            did = f"{plan.client}, {plan.target} at {plan.at} of {plan.size}, {plan.wait:.1f} s"
            took = outcome.ended - outcome.began
            self.deviate(f"{tunnel}: {plan.client}/{plan.target}", f"{why} ({did}; {took:.1f} s)")

    def _excused(self, tunnel: str, outcome: Outcome, why: str) -> bool:
        """Whether what cut it off was a fault that nobody could have kept from it."""
        moments = list(self.service.kills)
        if tunnel == "failover":
            moments += self.faults.flaps
        return any(outcome.began - AROUND < m < outcome.ended + AROUND for m in moments)

    def deviate(self, kind: str, what: str) -> None:
        self.deviations[kind] += 1
        shown = self.shown.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(what)
            lately = f"; lately: {', '.join(self.faults.log[-3:])}" if self.faults.log else ""
            print(
                f"DEVIATION {time.strftime('%T')} {self.name}: {kind}: {what}{lately}", flush=True
            )

    async def load(self, seconds: float, rate: float) -> None:
        """Clients at a rate, for a time; fires when the last of them has gone."""
        end = time.monotonic() + seconds
        running = {asyncio.create_task(self._watch(tunnel, end)) for tunnel in SURE}
        injecting = asyncio.create_task(self.faults.run())
        due = time.monotonic()
        while due < end:
            due += self.chance.expovariate(rate)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tunnels = SURE if self.chance.random() < 0.7 else UNSURE
            tunnel = self.chance.choice(tunnels)
            task = asyncio.create_task(self.client(tunnel, anyPlan(self.chance)))
            running.add(task)
            task.add_done_callback(running.discard)
        injecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await injecting
        await asyncio.gather(*running)

    async def _watch(self, tunnel: str, end: float) -> None:
        """A healthy client a second, one after the other."""
        while time.monotonic() < end:
            await self.client(tunnel, healthy(self.chance))
            await asyncio.sleep(self.chance.uniform(0.5, 1.5))

    async def quiet(self) -> list[Holding]:
        """Wait until nobody is connected, and look."""
        end = time.monotonic() + PATIENCE
        while left := sum(proxy.connections for proxy in self.proxies.values()):
            if time.monotonic() > end:
                self.deviate("left behind", f"{left} connections to proxies and targets")
                break
            await asyncio.sleep(0.1)
        while len(self.service.pids()) < self.service.workers and time.monotonic() < end:
            await asyncio.sleep(0.1)
        await asyncio.sleep(3)
        return await self.service.holdings()

    def compare(self, before: list[Holding], after: list[Holding]) -> None:
        """Whether the second is what the first was."""
        if len(before) != len(after):
            self.deviate("processes", f"{len(before)} before, {len(after)} after")
            return
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if not old.inside or not new.inside:
                self.deviate("asking", f"process {number} does not say what it holds")
                continue
            if old.files != new.files:
                self.deviate("descriptors", f"process {number}: {old.files} before, {new.files}")
            timers, now = Counter(old.inside["timers"]), Counter(new.inside["timers"])
            if now - timers:
                self.deviate("timers", f"process {number}: {timers} before, {now} after")
            if new.inside["swept"] > old.inside["swept"]:
                self.deviate("timeouts", f"process {number}: {new.inside['swept']} are watched")
            kinds = Counter(new.inside["kinds"])
            kinds.subtract(old.inside["kinds"])
            for kind, more in kinds.most_common():
                if more > OBJECTS and new.inside["kinds"][kind] > KEPT.get(kind, 0):
                    self.deviate("objects", f"process {number}: {more} more of {kind}")
            if new.memory - old.memory > MEMORY:
                grown = f"{old.memory >> 10} KiB before, {new.memory >> 10} KiB after"
                self.deviate("memory", f"process {number}: {grown}")

    async def end(self) -> None:
        if wrong := await self.service.end(30):
            self.deviate("stop", wrong)
        for line, count in self.service.wrong.values():
            self.deviate("log", f"{count} times: {line}")

    def stop(self) -> None:
        if hasattr(self, "service"):
            self.service.stop()


def state(side: Side, holdings: list[Holding]) -> str:
    """What its processes hold, in a line."""
    return f"{side.name}: " + "; ".join(
        f"{h.memory >> 10} KiB, {sum(h.files.values())} descriptors, "
        f"{sum(Counter(h.inside.get('timers', {})).values())} timers, "
        f"{h.inside.get('objects', '?')} objects, {h.inside.get('threads', '?')} threads"
        for h in holdings
    )


async def soak(seconds: float, rate: float, seed: int, folder: Path) -> int:
    """@return: how many deviations there were."""
    shim = folder / "shim.so"
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise SystemExit(f"the clock and the resolver of a soak want a C compiler; no {compiler}")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(HERE / "shim.c"), "-ldl"]
    subprocess.run(command, check=True)
    sides = [
        Side("kernel", folder, seed, workers=1, kernel=True),
        Side("workers", folder, seed, workers=2, kernel=False),
    ]
    try:
        for side in sides:
            await side.start(shim, authority.server("proxy.test"))
        first = max(seconds / 4, 15)
        print(
            f"soaking for {seconds:g} s at {rate:g} connections a second, seed {seed}", flush=True
        )
        before = await _part(sides, first, rate)
        left = max(seconds - first, 0)
        parts = max(round(left / 300), 1)
        after = before
        for _ in range(parts):
            after = await _part(sides, left / parts, rate)
        for side, old, new in zip(sides, before, after, strict=True):
            side.compare(old, new)
        for side in sides:
            await side.end()
    finally:
        for side in sides:
            side.stop()
    for side in sides:
        print(
            f"{side.name}: clients {dict(side.outcomes)}, faults {side.faults.counts}, "
            f"{len(side.service.kills)} workers killed, {side.service.lines} log lines"
        )
    return sum(sum(side.deviations.values()) for side in sides)


async def _part(sides: list[Side], seconds: float, rate: float) -> list[list[Holding]]:
    await asyncio.gather(*(side.load(seconds, rate / len(sides)) for side in sides))
    holdings = [await side.quiet() for side in sides]
    for side, held in zip(sides, holdings, strict=True):
        print(state(side, held), flush=True)
    return holdings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="of load, 3600")
    parser.add_argument("--rate", type=float, default=50, help="connections a second, 50")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random")
    parser.add_argument("--keep", action="store_true", help="keep logs and configs")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    for number in signal.SIGINT, signal.SIGTERM:  # one in the background ignores the first
        signal.signal(number, signal.default_int_handler)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # writing to who has gone is no news
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    folder = Path(tempfile.mkdtemp(prefix="ptunnel-soak-"))
    try:
        deviations = asyncio.run(soak(options.seconds, options.rate, seed, folder))
    except KeyboardInterrupt:
        print("stopped before its end")
        return 1
    finally:
        if options.keep:
            print(f"logs and configs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if deviations:
        print(f"FAILED: {deviations} deviations; again with: make soak SEED={seed}")
        return 1
    print("PASSED: descriptors, timers and memory are where they began, and nobody was harmed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
