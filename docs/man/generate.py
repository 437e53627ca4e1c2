"""The man pages, from the help texts and docs/config.md: make man

They are kept beside this file, so that a build needs nothing for them; a test compares them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.python import usage

from ptunnel import __version__
from ptunnel.cli.commands.completion import optionsOf
from ptunnel.cli.commands.demo import Options as DemoOptions
from ptunnel.cli.grouped import COMMANDS
from ptunnel.cli.options import CheckOptions, ConnectOptions, HostsOptions, Options
from ptunnel.cli.remote.remoteoptions import (
    ReloadOptions,
    SessionsOptions,
    StatusOptions,
    TopOptions,
)

FOLDER = Path(__file__).parent
CONFIG = FOLDER.parent / "config.md"

_PARSERS: dict[str, usage.Options] = {
    "run": Options(),
    "connect": ConnectOptions(),
    "check": CheckOptions(),
    "hosts": HostsOptions(),
    "status": StatusOptions(),
    "top": TopOptions(),
    "sessions": SessionsOptions(),
    "reload": ReloadOptions(),
    "demo": DemoOptions(),
}
_ESCAPES = {"\\": "\\e", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "'": "\\(aq", '"': "\\(dq"}
_WIDTH = 78

_ABOUT = """\
ptunnel listens on local ports and carries each connection through an HTTP proxy's CONNECT method to
one fixed target, so that IMAP, SMTP, SSH, PostgreSQL, or anything else over TCP, crosses a network
whose only way out is a proxy.

A TUNNEL is `[LISTEN_HOST:]LOCAL_PORT:REMOTE_HOST:REMOTE_PORT`, IPv6 addresses in brackets;
LOCAL_PORT 0 picks a free port. A first word that is none of the commands means `run`.
"""
_REST = """\
## Environment

- `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`: the proxy, where neither `-p` nor a config
  file names one; the first that is set.
- `no_proxy`, `NO_PROXY`: targets that are reached without that proxy.
- `PTUNNEL_CONFIG`: the config file, where `--config` names none; empty: there is none.
- `XDG_CONFIG_HOME`, `HOME`: where the user's config file is.
- `NO_COLOR`: no colour on the terminal.

## Files

- `~/.config/ptunnel/tunnels.ini`, `/etc/ptunnel/tunnels.ini`: the first of them that is there is
  read where neither a TUNNEL nor a config file is given.

## Signals

SIGHUP reads the config file again: what differs changes, sessions go on, and a mistake changes
nothing. SIGTERM and SIGINT close the ports and let sessions end within `--drain-timeout`; a second
one ends them at once.

## Exit status

- `0`: done.
- `1`: failed while running: a port that cannot be bound, a connect without a tunnel, a check that
  found a fault, no service that answers.
- `2`: a mistake in the options or the config file; nothing has been started.

## Examples

    ptunnel -p proxy:3128 9993:imap.gmail.com:993
    ssh -o ProxyCommand="ptunnel connect -p proxy:3128 %h %p" me@ssh.example.com
    ptunnel check -c tunnels.ini
    ptunnel status
"""


def pages() -> dict[str, str]:
    """Return the pages by the names of their files."""
    made = {"ptunnel.1": _command(), "tunnels.ini.5": _file()}
    return {name: re.sub(r"(?m)(^\.S[HS] .*\n)\.PP\n", r"\1", text) for name, text in made.items()}


def _command() -> str:
    text = CONFIG.read_text("utf-8")
    synopsis = [f"ptunnel {getattr(p, 'synopsis', 'demo')}" for p in _PARSERS.values()]
    synopsis[0] = "ptunnel [run] [options] [TUNNEL ...]"
    others = ["completion bash | zsh | fish", "help [COMMAND]", "version"]
    synopsis += [f"ptunnel {words}" for words in others]
    parts = [
        _title("PTUNNEL", 1, "ptunnel", "TCP tunnels through an HTTP proxy's CONNECT method"),
        ".SH SYNOPSIS\n",
        *_code(synopsis),
        ".SH DESCRIPTION\n",
        *blocks(_ABOUT),
        ".SH COMMANDS\n",
        *_commands(),
        ".SH OPTIONS\n",
        *blocks("Those of `run`, which may stand before and behind its arguments:\n"),
        *blocks("\n".join(re.findall(r"^\|.*$", _section(text, "## Command line"), re.M))),
        *blocks(_section(text, "## Command line").rpartition("|\n")[2]),
        *blocks(_REST),
        ".SH SEE ALSO\n.BR tunnels.ini (5),\n.BR twistd (1)\n",
    ]
    return "".join(parts)


def _commands() -> Iterator[str]:
    known = {option.long for option in optionsOf(_PARSERS["run"])}
    for name, said in COMMANDS.items():
        parser = _PARSERS.get(name)
        words, _, what = said.rpartition(": ")
        yield f".TP\n{inline(f'`{words or name}`')}\n"
        about = getattr(parser, "longdesc", "") if name != "run" else ""
        yield from _filled(about or f"{what[0].upper()}{what[1:]}.")
        found = optionsOf(parser) if parser else []
        own = [
            option for option in found if option.long not in known or _differs(name, option.long)
        ]
        if own:
            yield ".RS\n"
            for option in own:
                words = ", ".join(option.words) + (" VALUE" if option.takesValue else "")
                yield f".TP\n{inline(f'`{words}`')}\n"
                yield from _filled(" ".join(str(parser.docs[option.long]).split()))  # type: ignore[union-attr]
            yield ".RE\n"


def _differs(command: str, option: str) -> bool:
    """Return whether an option means something else there than for `run`."""
    return command == "status" and option == "quiet"


def _file() -> str:
    text = CONFIG.read_text("utf-8")
    parts = [
        _title("TUNNELS.INI", 5, "tunnels.ini", "the config file of ptunnel"),
        ".SH DESCRIPTION\n",
        *blocks(_section(text, "## Config file", deep=True)),
        *blocks("## Where it is\n"),
        *blocks(_section(text, "### The default config file")),
        *blocks("## Values\n" + _section(text, "## Values")),
        *blocks("## Reload\n" + _section(text, "## Reload")),
        ".SH SEE ALSO\n.BR ptunnel (1)\n",
    ]
    return "".join(parts)


def _title(name: str, section: int, page: str, what: str) -> str:
    about = inline(what)
    head = f'.TH {name} {section} "" "ptunnel {__version__}"\n'
    comment = '.\\" Made by docs/man/generate.py; do not edit.\n'
    return f"{comment}{head}.SH NAME\n{inline(page)} \\- {about}\n"


def _section(text: str, heading: str, deep: bool = False) -> str:
    """Return what is below a heading. @param deep: with the headings below it."""
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, heading
    level = len(heading.split(maxsplit=1)[0])
    end = rf"^#{{1,{level}}} " if deep else r"^#+ "
    return re.split(end, rest, maxsplit=1, flags=re.M)[0].strip() + "\n"


def inline(text: str) -> str:
    """Return a line of Markdown as roff."""
    text = re.sub(r" \(\[more\]\([^)]*\)\)", "", text)
    text = re.sub(r"\[((?:\\.|[^\]\\])*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"(`[^`]+`|\*\*.+?\*\*)", text)
    return "".join(
        f"\\fB{_escaped(part.strip('`'), code=True)}\\fP"
        if part.startswith("`")
        else f"\\fB{_escaped(part.strip('*'))}\\fP"
        if part.startswith("**")
        else _escaped(re.sub(r"\\(.)|<(https?:[^>]*)>", r"\1\2", part))
        for part in parts
        if part
    )


def _escaped(text: str, code: bool = False) -> str:
    escapes = {**_ESCAPES, "-": "\\-"} if code else _ESCAPES
    return "".join(escapes.get(c, c) if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)


def blocks(text: str) -> Iterator[str]:
    """Yield Markdown as roff. It may have headings, tables, lists, code and paragraphs."""
    for block in re.split(r"\n\s*\n(?=\S|    )", _joined(text)):
        lines = block.strip("\n").split("\n")
        first = lines[0]
        if not first.strip():
            continue
        if heading := re.match(r"(#+) (.*)", first):
            yield _heading(len(heading[1]), heading[2])
            yield from blocks("\n".join(lines[1:]))
        elif first.startswith("```"):
            yield from _code(lines[1:-1])
        elif first.startswith("    "):
            yield from _code(textwrap.dedent("\n".join(lines)).split("\n"))
        elif first.startswith("|"):
            yield from _table(lines)
        elif re.match(r"- |\d+\. ", first):
            yield from _list(lines)
        elif any(line.startswith("|") for line in lines):
            start = next(i for i, line in enumerate(lines) if line.startswith("|"))
            yield from blocks("\n".join(lines[:start]))
            yield from blocks("\n".join(lines[start:]))
        else:
            yield ".PP\n"
            yield from _filled(" ".join(lines))


def _joined(text: str) -> str:
    """Return Markdown in which no fenced block has an empty line, which would end the block."""
    return re.sub(r"(?ms)^```.*?^```$", lambda m: re.sub(r"\n(?=\n)", "\n\x00", m[0]), text)


def _heading(level: int, text: str) -> str:
    if level <= 2:
        return f'.SH "{_escaped(re.sub(r"[`]", "", text).upper())}"\n'
    if level == 3:
        return f'.SS "{_escaped(re.sub(r"[`]", "", text))}"\n'
    return f".PP\n{inline('**' + text.replace('`', '') + '**')}\n"


def _code(lines: Iterable[str]) -> Iterator[str]:
    yield ".PP\n.RS 4\n.nf\n"
    for written in lines:
        line = _escaped(written.replace("\x00", ""), code=True)
        yield f"{_guarded(line)}\n" if line else "\\&\n"
    yield ".fi\n.RE\n"


def _table(lines: list[str]) -> Iterator[str]:
    heads, _, *rows = (
        [cell.strip() for cell in line.strip().strip("|").split(" |")] for line in lines
    )
    for term, value, *more in rows:
        yield f".TP\n{inline(term)}\n"
        yield from _filled(value or "No more than that.")
        for head, cell in zip(heads[2:], more, strict=False):
            if cell:
                yield ".sp 0\n"
                yield from _filled(f"{head[0].upper()}{head[1:]}: {cell}")


def _list(lines: list[str]) -> Iterator[str]:
    items: list[str] = []
    for line in lines:
        if re.match(r"(- |\d+\. )", line):
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    for item in items:
        mark, _, text = item.partition(" ")
        mark = "\\(bu" if mark == "-" else mark
        yield f".IP {mark} 4\n"
        yield from _filled(text)


def _filled(text: str) -> Iterator[str]:
    # Blanks within code stay: roff would break the line there.
    for line in textwrap.wrap(inline(text), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"{_guarded(line)}\n"


def _guarded(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
