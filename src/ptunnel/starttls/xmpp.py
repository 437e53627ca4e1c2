"""XMPP's STARTTLS (RFC 6120 section 5.4), for clients' connections.

The client begins a stream of its own under TLS, so it sees nothing of this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptunnel.starttls.upgrade import Ready, Upgrade, UpgradeRefused

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

_STREAMS = "http://etherx.jabber.org/streams "
_TLS = "urn:ietf:params:xml:ns:xmpp-tls "

_START, _END, _TEXT, _PROHIBITED = range(4)
_Event = tuple[int, str, str]


class Xmpp(Upgrade):
    """XMPP (RFC 6120 section 5).

    The server's bytes are parsed tag by tag (every tag ends in `>`), so that bytes behind
    <proceed/> are noticed.
    """

    name = "xmpp"
    title = "XMPP"
    opening = b"<"

    def __init__(self, host: str) -> None:
        """
        @param host: the domain of the users, to which the stream is addressed.
        """
        super().__init__(host)
        self._events: list[_Event] = []
        self._parser: XMLParserType | None = None
        self._open: list[str] = []
        self._said = ""  # inside a child of the stream: names and text
        self._offered = False
        self._asked = False

    def begin(self) -> bytes:
        to = self.host.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")
        return (
            f"<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xml:lang='en' "
            "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        ).encode()

    def _end(self) -> int:
        return self._until(b">", "a tag")

    def _take(self, message: bytes) -> bytes | Ready | None:
        from xml.parsers import expat

        if self._parser is None:
            self._parser = _parser(self._events)
        try:
            self._parser.Parse(message, False)
        except expat.ExpatError:
            raise self._foreign(message) from None
        reaction = None
        for event in self._events:
            reaction = self._happened(*event) or reaction
        self._events.clear()
        return reaction

    def _happened(self, kind: int, text: str, version: str) -> bytes | Ready | None:
        if kind == _PROHIBITED:
            raise UpgradeRefused(f"sends {text}, which XMPP prohibits")
        if kind == _START:
            self._started(text, version)
        elif kind == _END:
            return self._ended()
        elif len(self._open) > 1:
            self._said += text
        elif text.strip():
            raise self._foreign(text.encode())
        return None

    def _started(self, name: str, version: str) -> None:
        if not self._open:
            if name != _STREAMS + "stream":
                raise self._foreign()
            if not version:  # a server older than RFC 3920, which sends no features
                raise self._notOffered()
        elif len(self._open) > 1:
            self._said += f" {name.rsplit(maxsplit=1)[-1]} "
            self._offered |= self._open[1:] == [_STREAMS + "features"] and name == _TLS + "starttls"
        self._open.append(name)

    def _ended(self) -> bytes | Ready | None:
        name = self._open.pop()
        if not self._open:
            raise UpgradeRefused("ended its stream before TLS began")
        if len(self._open) > 1:
            return None
        said, self._said = self._said.encode(), ""
        if name == _STREAMS + "features" and not self._asked:
            if not self._offered:
                raise self._notOffered()
            self._asked = True
            return b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        if name == _TLS + "proceed" and self._asked:
            return Ready()
        if name in (_TLS + "failure", _STREAMS + "error"):
            raise self._refused(said)
        raise self._foreign(name.encode())


def _parser(events: list[_Event]) -> XMLParserType:
    """A parser that adds to the events. It holds no reference to its owner, so no cycle forms.

    A document type is prohibited, and without one no entity can be declared (RFC 6120 section
    11.1).
    """
    from xml.parsers import expat

    def prohibited(what: str) -> None:
        events.append((_PROHIBITED, what, ""))

    parser = expat.ParserCreate("UTF-8", " ")
    if hasattr(parser, "SetReparseDeferralEnabled"):
        # Deliver a complete tag at once, not with the next one, which may never come.
        parser.SetReparseDeferralEnabled(False)
    parser.StartElementHandler = lambda name, attributes: events.append(
        (_START, name, attributes.get("version", ""))
    )
    parser.EndElementHandler = lambda name: events.append((_END, name, ""))
    parser.CharacterDataHandler = lambda text: events.append((_TEXT, text, ""))
    parser.StartDoctypeDeclHandler = lambda *_: prohibited("a document type")
    parser.CommentHandler = lambda _: prohibited("a comment")
    parser.ProcessingInstructionHandler = lambda *_: prohibited("a processing instruction")
    return parser
