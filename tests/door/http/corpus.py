"""Requests that a proxy must not take, each with a name: what smuggles, and its neighbours."""

from __future__ import annotations


def get(*lines: str, start: str = "GET http://t.example/ HTTP/1.1", host: bool = True) -> bytes:
    """Return a request with these fields."""
    fields = ["Host: t.example", *lines] if host else list(lines)
    return "\r\n".join([start, *fields, "", ""]).encode("latin-1")


def post(*lines: str) -> bytes:
    return get(*lines, start="POST http://t.example/ HTTP/1.1")


def connect(*lines: str, start: str = "CONNECT t.example:443 HTTP/1.1") -> bytes:
    return get(*lines, start=start, host=False)


CL, TE = "Content-Length: 5", "Transfer-Encoding: chunked"

FRAMING: dict[str, tuple[bytes, int]] = {
    "CL.TE": (post(CL, TE) + b"0\r\n\r\nGET /x", 400),
    "TE.CL": (post(TE, CL) + b"5c\r\nGET /x", 400),
    "CL.TE with CL 0": (post("Content-Length: 0", TE), 400),
    "CL.TE with a TE of another name": (post(CL, "Transfer-Encoding: identity"), 400),
    "CL.CL different": (post(CL, "Content-Length: 6"), 400),
    "CL.CL the same": (post(CL, CL), 400),
    "CL as a list": (post("Content-Length: 5, 6"), 400),
    "CL as a list of the same": (post("Content-Length: 5, 5"), 400),
    "CL with a sign": (post("Content-Length: +5"), 400),
    "CL below zero": (post("Content-Length: -1"), 400),
    "CL empty": (post("Content-Length:"), 400),
    "CL in hex": (post("Content-Length: 0x5"), 400),
    "CL with an underscore": (post("Content-Length: 1_0"), 400),
    "CL with a point": (post("Content-Length: 5.0"), 400),
    "CL with white space in it": (post("Content-Length: 1 0"), 400),
    "CL of other digits": (post("Content-Length: \xb2"), 400),
    "CL beyond 64 bits": (post("Content-Length: 18446744073709551621"), 400),
    "CL folded": (post("Content-Length:", " 5"), 400),
    "TE twice": (post(TE, TE), 501),
    "TE hidden by a second": (post(TE, "Transfer-Encoding: identity"), 501),
    "TE twice in one": (post("Transfer-Encoding: chunked, chunked"), 501),
    "TE chunked not last": (post("Transfer-Encoding: chunked, gzip"), 501),
    "TE another before chunked": (post("Transfer-Encoding: gzip, chunked"), 501),
    "TE identity": (post("Transfer-Encoding: identity"), 501),
    "TE empty": (post("Transfer-Encoding:"), 501),
    "TE nearly chunked": (post("Transfer-Encoding: xchunked"), 501),
    "TE quoted": (post('Transfer-Encoding: "chunked"'), 501),
    "TE with a parameter": (post("Transfer-Encoding: chunked;q=1"), 501),
    "TE with a comma before": (post("Transfer-Encoding: , chunked"), 501),
    "TE with vertical tab": (post("Transfer-Encoding: \x0bchunked"), 400),
    "TE with form feed": (post("Transfer-Encoding: chunked\x0c"), 400),
    "TE with NUL": (post("Transfer-Encoding: chunked\0"), 400),
    "TE with no-break space": (post("Transfer-Encoding: \xa0chunked"), 501),
    "TE folded": (post("Transfer-Encoding:", " chunked"), 400),
    "TE hidden by folding": (post("X: y", " Transfer-Encoding: chunked"), 400),
    "TE with space before the colon": (post("Transfer-Encoding : chunked"), 400),
    "TE with tab before the colon": (post("Transfer-Encoding\t: chunked"), 400),
    "TE with space before the name": (post("X: y", "\tTransfer-Encoding: chunked"), 400),
    "TE behind bare LF": (post("X: y\nTransfer-Encoding: chunked"), 400),
    "TE behind bare CR": (post("X: y\rTransfer-Encoding: chunked"), 400),
    "TE behind CR CR LF": (post("X: y\r\r\nTransfer-Encoding: chunked"), 400),
    "TE behind NUL": (post("X: y\0Transfer-Encoding: chunked"), 400),
    "TE in 1.0": (get(TE, start="POST http://t.example/ HTTP/1.0"), 400),
}

LINES: dict[str, tuple[bytes, int]] = {
    "LF alone, everywhere": (b"GET http://t.example/ HTTP/1.1\nHost: t.example\n\n", 400),
    "LF alone, at the end": (b"GET http://t.example/ HTTP/1.1\r\nHost: t.example\r\n\n", 400),
    "LF alone, behind the request line": (b"GET http://t.example/ HTTP/1.1\nHost: t\r\n\r\n", 400),
    "LF alone, before all": (b"\nGET http://t.example/ HTTP/1.1\r\nHost: t.example\r\n\r\n", 400),
    "CR alone, everywhere": (b"GET http://t.example/ HTTP/1.1\rHost: t.example\r\r", 400),
    "CR alone, in the request line": (b"GET http://t.example/\r HTTP/1.1\r\n\r\n", 400),
    "two empty lines before": (b"\r\n\r\nGET http://t.example/ HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    "folded first field": (get(" X: y", host=False), 400),
    "folded by spaces alone": (get("X: y", "   "), 400),
    "name missing": (get(": y"), 400),
    "name with a space": (get("X Y: z"), 400),
    "name of another script": (get("X\xe9: z"), 400),
    "name in brackets": (get("[X]: z"), 400),
    "colon missing": (get("X"), 400),
    "control character in a value": (get("X: a\x01b"), 400),
    "DEL in a value": (get("X: a\x7f"), 400),
    "NUL in a name": (get("X\0: a"), 400),
    "ESC": (get("X: \x1b[2J"), 400),
    "too many fields": (get(*["X: y"] * 200), 431),
    "too large": (get(*["X: " + "y" * 8000] * 9), 431),
    "too large, in one line": (get("X: " + "y" * 65536), 431),
    "a request line without an end": (b"GET http://t.example/" + b"x" * 17000, 414),
}

REQUEST_LINES: dict[str, tuple[bytes, int]] = {
    "HTTP/0.9": (b"GET http://t.example/\r\n", 400),
    "HTTP/1.2": (get(start="GET http://t.example/ HTTP/1.2"), 505),
    "HTTP/2.0": (get(start="GET http://t.example/ HTTP/2.0"), 505),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.10": (get(start="GET http://t.example/ HTTP/1.10"), 400),
    "HTTP/01.1": (get(start="GET http://t.example/ HTTP/01.1"), 400),
    "HTTP/1,1": (get(start="GET http://t.example/ HTTP/1,1"), 400),
    "http/1.1": (get(start="GET http://t.example/ http/1.1"), 400),
    "HTTP /1.1": (get(start="GET http://t.example/ HTTP /1.1"), 400),
    "two spaces": (get(start="GET  http://t.example/ HTTP/1.1"), 400),
    "two spaces before the version": (get(start="GET http://t.example/  HTTP/1.1"), 400),
    "a tab": (get(start="GET\thttp://t.example/ HTTP/1.1"), 400),
    "space before": (get(start=" GET http://t.example/ HTTP/1.1"), 400),
    "space behind": (get(start="GET http://t.example/ HTTP/1.1 "), 400),
    "space in the target": (get(start="GET http://t.example/a b HTTP/1.1"), 400),
    "target of another script": (get(start="GET http://t.example/\xe9 HTTP/1.1"), 400),
    "method with a colon": (get(start="GE:T http://t.example/ HTTP/1.1"), 400),
    "method of any length": (get(start="G" * 65 + " http://t.example/ HTTP/1.1"), 400),
    "method missing": (get(start="http://t.example/ HTTP/1.1"), 400),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    "mail": (b"EHLO me.example\r\n", 400),
    "a digit": (b"1 http://t.example/ HTTP/1.1\r\n\r\n", 400),
    "an answer": (b"HTTP/1.1 200 OK\r\n\r\n", 400),
}


def to(url: str, host: str | None = "t.example") -> bytes:
    """Return a request for a URL."""
    lines = [] if host is None else [f"Host: {host}"]
    return get(*lines, start=f"GET {url} HTTP/1.1", host=False)


TARGETS: dict[str, tuple[bytes, int]] = {
    "origin form": (to("/"), 400),
    "asterisk form": (get(start="OPTIONS * HTTP/1.1"), 400),
    "network-path reference": (to("//t.example/"), 400),
    "authority form but for CONNECT": (to("t.example:80"), 400),
    "connect in lower case": (connect(start="connect t.example:443 HTTP/1.1"), 400),
    "https://": (to("https://t.example/"), 501),
    "ftp://": (to("ftp://t.example/"), 501),
    "ws://": (to("ws://t.example/"), 501),
    "http: without slashes": (to("http:t.example"), 400),
    "http:/ with one": (to("http:/t.example/"), 400),
    "http:// with backslashes": (to("http:\\\\t.example/"), 400),
    "no host": (to("http:///x"), 400),
    "no host but a port": (to("http://:80/"), 400),
    "user": (to("http://me@t.example/"), 400),
    "user and password": (to("http://me:word@t.example/"), 400),
    "user that looks like a host": (to("http://t.example@u.example/"), 400),
    "user behind a backslash": (to("http://t.example\\@u.example/"), 400),
    "fragment": (to("http://t.example/#x"), 400),
    "fragment behind the host": (to("http://t.example#x"), 400),
    "percent in the host": (to("http://t%2eexample/", "t%2eexample"), 400),
    "host of another script": (to("http://t\xe9.example/"), 400),
    "host with a comma": (to("http://t.example,u.example/", "t.example,u.example"), 400),
    "IPv6 without brackets": (to("http://2001:db8::1/", "2001:db8::1"), 400),
    "IPv6 with a zone": (to("http://[fe80::1%25eth0]/", "[fe80::1%25eth0]"), 400),
    "IPv4 in brackets": (to("http://[192.0.2.1]/", "[192.0.2.1]"), 400),
    "name in brackets": (to("http://[t.example]/", "[t.example]"), 400),
    "bracket not closed": (to("http://[2001:db8::1/", "[2001:db8::1"), 400),
    "behind the bracket": (to("http://[2001:db8::1]x/", "[2001:db8::1]x"), 400),
    "port 0": (to("http://t.example:0/", "t.example:0"), 400),
    "port 65536": (to("http://t.example:65536/", "t.example:65536"), 400),
    "port empty": (to("http://t.example:/", "t.example:"), 400),
    "port with a zero before": (to("http://t.example:080/", "t.example:080"), 400),
    "port with a sign": (to("http://t.example:+80/", "t.example:+80"), 400),
    "port of letters": (to("http://t.example:http/", "t.example:http"), 400),
    "two ports": (to("http://t.example:80:81/", "t.example:80:81"), 400),
    "Host missing in 1.1": (to("http://t.example/", None), 400),
    "Host twice": (to("http://t.example/", "t.example\r\nHost: t.example"), 400),
    "Host twice, different": (to("http://t.example/", "t.example\r\nhost: u.example"), 400),
    "Host with another name": (to("http://t.example/", "u.example"), 400),
    "Host with another port": (to("http://t.example/", "t.example:81"), 400),
    "Host without the port": (to("http://t.example:81/", "t.example"), 400),
    "Host empty": (to("http://t.example/", ""), 400),
    "Host as a list": (to("http://t.example/", "t.example, u.example"), 400),
    "Host with a user": (to("http://t.example/", "me@t.example"), 400),
    "Host with a path": (to("http://t.example/", "t.example/x"), 400),
    "Host with another name in 1.0": (get(start="GET http://u.example/ HTTP/1.0"), 400),
}

CONNECTS: dict[str, tuple[bytes, int]] = {
    "with Content-Length": (connect("Content-Length: 1") + b"x", 400),
    "with Transfer-Encoding": (connect(TE) + b"0\r\n\r\n", 400),
    "with both": (connect(CL, TE), 400),
    "without a port": (connect(start="CONNECT t.example HTTP/1.1"), 400),
    "with an empty port": (connect(start="CONNECT t.example: HTTP/1.1"), 400),
    "with port 0": (connect(start="CONNECT t.example:0 HTTP/1.1"), 400),
    "with a URL": (connect(start="CONNECT https://t.example:443 HTTP/1.1"), 400),
    "with a path": (connect(start="CONNECT t.example:443/x HTTP/1.1"), 400),
    "with a slash alone": (connect(start="CONNECT / HTTP/1.1"), 400),
    "with a query": (connect(start="CONNECT t.example:443?x HTTP/1.1"), 400),
    "with a user": (connect(start="CONNECT me@t.example:443 HTTP/1.1"), 400),
    "IPv6 without brackets": (connect(start="CONNECT ::1:443 HTTP/1.1"), 400),
    "without a host": (connect(start="CONNECT :443 HTTP/1.1"), 400),
    "with an asterisk": (connect(start="CONNECT * HTTP/1.1"), 400),
    "Host with another name": (connect("Host: u.example:443"), 400),
    "Host with another port": (connect("Host: t.example:444"), 400),
    "Host twice": (connect("Host: t.example:443", "Host: t.example:443"), 400),
    "Proxy-Authorization twice": (
        connect("Proxy-Authorization: Basic YTpi", "Proxy-Authorization: Basic YTpj"),
        400,
    ),
}

# Behind the head of a chunked request.
BODIES: dict[str, bytes] = {
    "LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "LF behind the last chunk": b"0\n\r\n",
    "LF for the end": b"0\r\n\n",
    "LF behind a trailer": b"0\r\nX: y\n\r\n",
    "LF behind the last trailer": b"0\r\nX: y\r\n\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "trailer that is none": b"0\r\nX\r\n\r\n",
    "trailer with NUL": b"0\r\nX: \0\r\n\r\n",
    "trailer with CR": b"0\r\nX: y\rZ: z\r\n\r\n",
    "trailer Content-Length": b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer Transfer-Encoding": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
    "trailer Host": b"0\r\nHost: u.example\r\n\r\n",
    "trailer Proxy-Authorization": b"0\r\nProxy-Authorization: Basic YTpi\r\n\r\n",
    "size missing": b"\r\nhello",
    "size in another notation": b"0x5\r\nhello\r\n",
    "size with a sign": b"+5\r\nhello\r\n",
    "size below zero": b"-5\r\nhello\r\n",
    "size beyond 64 bits": b"10000000000000005\r\nhello\r\n",
    "size with white space before": b" 5\r\nhello\r\n",
    "size with white space behind": b"5 \r\nhello\r\n",
    "size with white space before the extension": b"5 ;x\r\nhello\r\n",
    "size with an underscore": b"1_0\r\nhello",
    "extension with LF": b"5;a\nb\r\nhello\r\n",
    "extension with CR": b"5;a\rb\r\nhello\r\n",
    "extension with NUL": b"5;\0\r\nhello\r\n",
    "extension without an end": b"5;" + b"a" * 2000,
    "more data than the size": b"5\r\nhello!\r\n0\r\n\r\n",
    "two bytes behind the data": b"5\r\nhelloxx0\r\n\r\n",
    "CR alone behind the data": b"5\r\nhello\rx0\r\n\r\n",
    "less data than the size": b"6\r\nhello\r\n0\r\n\r\n",
    "trailers without an end": b"0\r\n" + b"X: y\r\n" * 2000,
}

REFUSED = {
    f"{kind}: {name}": case
    for kind, table in (
        ("framing", FRAMING),
        ("lines", LINES),
        ("request line", REQUEST_LINES),
        ("target", TARGETS),
        ("CONNECT", CONNECTS),
    )
    for name, case in table.items()
}
