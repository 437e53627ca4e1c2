"""The same with treq.

python http_treq.py PROXY_HOST PROXY_PORT URL [CA_FILE]
"""

import sys

from http_agent import agentThrough
from treq.client import HTTPClient
from twisted.internet.task import react


async def main(reactor, host, port, url, caFile=None):
    client = HTTPClient(agentThrough(reactor, host, port, caFile))
    response = await client.get(url)
    print(response.code, await response.text())


if __name__ == "__main__":
    react(main, sys.argv[1:])
