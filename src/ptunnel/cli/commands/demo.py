"""`ptunnel demo`: a tour on loopback that needs neither proxy nor network.

The steps are in demo/tour; here are the options, the order of events and the printing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python import usage
from twisted.python.failure import Failure

from ptunnel import __version__
from ptunnel.cli.output import mistake
from ptunnel.demo.littleproxy import LOOPBACK
from ptunnel.demo.tour import CREDENTIALS, Step, Tour
from ptunnel.errors import reasonOf
from ptunnel.log import Lines, Log, beginLogging, layoutOf

SIZE = 256 * 1024 * 1024
# Seconds for all steps together. They usually take five; a busy machine needs more.
LIMIT = 120.0


class Options(usage.Options):
    """The options of `ptunnel demo`."""

    optFlags = [["keep", None, "Leave all running, to try by hand, until Ctrl-C."]]
    longdesc = "A self-contained tour on loopback: no proxy or network needed."

    def getSynopsis(self) -> str:
        return "Usage: ptunnel demo [options]"

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"demo takes no argument: {words[0]!r}")

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"ptunnel {__version__}")
        raise SystemExit(0)

    def opt_help(self) -> NoReturn:
        """Print this and exit."""
        print(self)
        raise SystemExit(0)

    opt_h = opt_help


class Hung(Exception):
    """The tour reached its time limit."""


def main(words: Sequence[str], *, size: int = SIZE) -> int:
    """
    @param size: how many bytes to move; tests move fewer.
    @return: the exit code: 0 if all steps passed, else 1.
    """
    options = Options()
    try:
        options.parseOptions(words)
    except usage.UsageError as e:
        mistake(f"{e}; see ptunnel demo --help")
    keep = bool(options["keep"])

    from twisted.internet import reactor as installed

    from ptunnel.service.process import adopt

    reactor: Any = installed
    adopt(reactor)
    log = Log("none")
    return 0 if run(Tour(reactor, size, log), reactor, log if keep else None) else 1


def run(tour: Tour, reactor: Any, log: Log | None) -> bool:
    """Run the reactor until the tour has ended, or a signal ends it.

    @param log: as of L{lead}.
    @return: whether all steps passed.
    """
    results: list[bool | Failure] = []

    def start() -> None:
        leading = Deferred.fromCoroutine(lead(tour, reactor, log))
        leading.addBoth(results.append).addCallback(stopReactor)

        def stop() -> Deferred[Any]:
            leading.cancel()
            return tour.stop()

        reactor.addSystemEventTrigger("before", "shutdown", stop)

    def stopReactor(_: object) -> None:
        with contextlib.suppress(ReactorNotRunning):  # a signal has stopped it
            reactor.stop()

    reactor.callWhenRunning(start)
    reactor.run()
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result is True


async def lead(tour: Tour, reactor: Any, log: Log | None) -> bool:
    """Start all, take every step, and with a log leave it running until cancelled.

    @param log: the tour's log; None: end after the last step.
    @return: whether all steps passed.
    """
    tour.start()
    say(overview(tour))
    began = reactor.seconds()
    try:
        passed = await follow(tour.steps(), reactor)
    except CancelledError:
        say("Interrupted.")
        return False
    what = "All went as it should" if passed else "Not all went as it should"
    say(f"\n{what}, in {reactor.seconds() - began:.1f} s.")
    if log is not None:
        say(commands(tour))
        # Logging starts here, so that no lines about the tour's own sessions stand between its
        # steps. Before, only critical events of Twisted go to standard error.
        beginLogging(Lines(sys.stdout, layoutOf(sys.stdout, os.environ)), "info")
        log.setLevel("info")
        with contextlib.suppress(CancelledError):
            await Deferred()
    return passed


async def follow(steps: Iterable[tuple[str, Step]], clock: Any, limit: float = LIMIT) -> bool:
    """Take the steps, one after another, and print the result of each.

    @param limit: seconds for all of them; the step that reaches it is the last.
    @return: whether all passed.
    """
    end = clock.seconds() + limit
    passed = True

    def hung(result: object, timeout: float) -> NoReturn:
        raise Hung(f"hung: it had no end when the {limit:g} s for the tour were over")

    for title, step in steps:
        doing = Deferred.fromCoroutine(step())
        doing.addTimeout(max(0.0, end - clock.seconds()), clock, hung)
        # When cancelled, it fails with CancelledError and not with an endpoint's error.
        waiting: Deferred[str] = Deferred()
        doing.chainDeferred(waiting)
        try:
            account = await waiting
        except CancelledError:
            raise
        except Exception as e:
            passed = False
            say(line("FAILED", title, reasonOf(e)))
            if isinstance(e, Hung):
                break
        else:
            say(line("ok", title, account))
    return passed


def say(text: str) -> None:
    print(text, flush=True)


def line(mark: str, title: str, account: str) -> str:
    """Format the result of a step for a terminal of 80 columns."""
    return textwrap.fill(
        account,
        79,
        initial_indent=f"{mark:8}{title:16}",
        subsequent_indent=" " * 24,
        break_long_words=False,
        break_on_hyphens=False,
    )


def overview(tour: Tour) -> str:
    """Return the list of servers and tunnels."""
    return f"""\
A tour of ptunnel: all of this runs in one process and listens on loopback only.

  {LOOPBACK}:{tour.webPort:<6} a web server
  {LOOPBACK}:{tour.echoPort:<6} an echo server, which says at the end how much it was
  {LOOPBACK}:{tour.proxyPort:<6} an HTTP proxy: CONNECT to these two ports, with a password
  {LOOPBACK}:{tour.webTunnel:<6} a tunnel through the proxy to the web server
  {LOOPBACK}:{tour.echoTunnel:<6} a tunnel through the proxy to the echo server
"""


def commands(tour: Tour) -> str:
    """Return commands to try by hand, which work with any proxy settings in the environment."""
    ptunnel = "ptunnel" if shutil.which("ptunnel") else f"{sys.executable} -m ptunnel"
    proxy = (
        f"http://{CREDENTIALS.username}:{CREDENTIALS.password.reveal()}@{LOOPBACK}:{tour.proxyPort}"
    )
    return f"""
All is left running. To try by hand, in another terminal:

# the page through the tunnel
curl --noproxy '*' http://{LOOPBACK}:{tour.webTunnel}/
# the page through the proxy itself
curl --noproxy '' -p -x {proxy} http://{LOOPBACK}:{tour.webPort}/
# the echo server through the tunnel; Ctrl-D ends your side
nc {LOOPBACK} {tour.echoTunnel}
# the same without a listening port, as ssh's ProxyCommand would
{ptunnel} connect -p {proxy} {LOOPBACK}:{tour.echoPort}

Each session of the two tunnels is logged here when it ends. Ctrl-C stops all.
"""
