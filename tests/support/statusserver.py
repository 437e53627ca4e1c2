"""The status server by hand, with a service that is none: numbers move, names are hostile.

python -m tests.support.statusserver PORT|unix:/PATH [--token-file FILE] [--sessions N]
    [--workers N]
"""

from __future__ import annotations

import argparse
import os
import sys

from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver

from ptunnel.config import Settings, TcpListen, TokenFile, UnixListen
from ptunnel.errors import PtunnelError
from ptunnel.log import Log
from ptunnel.status.server import StatusServer
from tests.support.watched import FakeWatched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="a port of 127.0.0.1, 0 for a free one, or unix:/path")
    parser.add_argument("--token-file")
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--workers", type=int, default=0)
    words = parser.parse_args()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    text = words.address
    isPath = text.startswith("unix:")
    listen = UnixListen(text[5:]) if isPath else TcpListen("127.0.0.1", int(text))
    file = words.token_file and TokenFile(os.path.abspath(words.token_file), "--token-file")
    settings = Settings((), {}, status=listen, statusToken=file)
    watched = FakeWatched(words.sessions, workers=words.workers)
    server = StatusServer(reactor, watched, watched.reload, Log())
    try:
        server.prepare(settings).commit()
    except PtunnelError as e:
        sys.exit(str(e))
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
