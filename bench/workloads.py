"""What a tunnel is put through, and the figures that come of it."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from programs import Missing, find, freePort, memory, processorTime, running

Figures = dict[str, float]

# Of each the target (see nullproxy.c), and the connections and the count of load.c.
LOADS = {
    "open": (("echo", 1), 20, 6000),
    "echo": (("echo", 1), 20, 60000),
    "down": (("source", 2048), 1, 0),
    "up": (("sink", 1), 1, 2048),
    "hold": (("echo", 1), 1000, 0),
}
# The same for --quick: no figures to go by, but all of it happens.
QUICK = {
    "open": (("echo", 1), 5, 100),
    "echo": (("echo", 1), 5, 500),
    "down": (("source", 32), 1, 0),
    "up": (("sink", 1), 1, 32),
    "hold": (("echo", 1), 20, 0),
}
WEB = {"keep-alive": ["-k"], "no keep-alive": []}
# Seconds after which a load has failed.
LIMIT = 180


class Stage:
    """Where tunnels show what they can. @ivar folder: of the compiled programs and all logs."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self._loads = QUICK if quick else LOADS
        self._requests = "100" if quick else "1000"

    def start(self, command: str, port: int):
        return running(command, port, self.folder / f"{port}.log")

    def load(self, proxy: int, name: str, command: str) -> Figures:
        """One of the five loads. @raise Missing: for a tunnel that does not do it."""
        ((host, number), size, count), listen = self._loads[name], freePort()
        client = [f"{self.folder}/load", name, str(listen), str(size), str(count)]
        line = command.format(listen=listen, proxy=proxy, host=host, port=number)
        with self.start(line, listen) as pid:
            if host == "echo":  # a program may load the rest of itself at the first connections
                _run([client[0], "open", str(listen), "5", "50"])
            before, empty, held = processorTime(pid), memory(pid), 0
            pipe = subprocess.PIPE
            with subprocess.Popen(client, stdin=pipe, stdout=pipe, text=True) as process:
                if name == "hold":
                    process.stdout.readline()
                    held = memory(pid)
                try:
                    said, _ = process.communicate("\n", timeout=LIMIT)
                finally:
                    process.kill()
            time.sleep(0.1)  # the last connections close behind the client
            after = processorTime(pid)
        got = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", said)}
        if not got or got["failed"] or not got["ok"]:
            raise Missing(f"{name} failed: {said.strip() or 'no result'}")
        if name == "hold":
            return {"memory": max(held - empty, 0) / size}
        bulk = name in ("down", "up")
        work = got["bytes"] if bulk else got["ok"]
        figures = {"time": got["seconds"] / work} | ({} if bulk else {"latency": got["p50"]})
        return figures if before is None else figures | {"processor": (after - before) / work}

    def web(self, page: int, proxy: int, name: str, command: str | None) -> Figures:
        """ab, 5 at a time, through the tunnel and squid; without a command through squid alone."""
        words = [find("ab"), "-q", "-c", "5", "-n", self._requests, *WEB[name]]
        if command is None:
            said = _run([*words, "-X", f"127.0.0.1:{proxy}", f"http://127.0.0.1:{page}/"])
        else:
            listen = freePort()
            line = command.format(listen=listen, proxy=proxy, host="127.0.0.1", port=page)
            with self.start(line, listen):
                _run([*words[:5], "20", f"http://127.0.0.1:{listen}/"])
                said = _run([*words, f"http://127.0.0.1:{listen}/"])
        rate = re.search(r"Requests per second: +([\d.]+)", said)
        failed = re.search(r"(Failed requests|Non-2xx responses): +[1-9]", said)
        if rate is None or failed:
            raise Missing(f"ab, {name}, failed: {failed[0] if failed else said.strip()[-200:]}")
        return {"rate": float(rate[1])}


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT)
    return done.stdout + done.stderr
