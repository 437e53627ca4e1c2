"""`ptunnel reload`: the service reads its config file again."""

from __future__ import annotations

from ptunnel.cli.output import say
from ptunnel.cli.remote.client import STATUS
from ptunnel.cli.remote.document import Node
from ptunnel.cli.remote.remoteoptions import ReloadOptions

# Seconds. It may wait for ports that close, and for workers.
PATIENCE = 60.0


def reload(options: ReloadOptions) -> int:
    """@return: the exit code, 0. @raise PtunnelError: if it is not done."""
    done = options.steering().steer("POST", f"{STATUS}reload", PATIENCE)
    say(Node(done).text("message") or "reloaded")
    return 0
