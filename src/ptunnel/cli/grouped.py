"""The text of --help, its commands and its options in groups; and words that may mean a command."""

from __future__ import annotations

import os
import textwrap

from twisted.python import usage

from ptunnel.config import show

COMMANDS = {
    "run": "listen and tunnel, in the foreground; it may be left out",
    "connect": "standard input and output through the proxy, as for ssh's ProxyCommand",
    "check": "try every proxy and tunnel, hop by hop, and say what is wrong",
    "hosts": "print lines for /etc/hosts",
    "status": "the figures of the running service",
    "top": "the same, live",
    "sessions": "the sessions of the running service; --end ends one",
    "reload": "the running service reads its config file again",
    "demo": "a tour that needs no proxy and no network",
    "completion": "completion bash, zsh or fish: print the shell's completion",
    "help": "help COMMAND: the options of a command",
    "version": "print the version",
}

# The options in the order in which they are shown; those of no group come last.
_GROUPS = {
    "What to do": ("config", "listen", "door", "multithreaded"),
    "Stop": ("drain-delay", "drain-timeout", "take-over"),
    "The status address": ("status", "token-file"),
    "Check": ("check-config", "deadline"),
    "Which sessions": ("end", "tunnel", "filter", "sort", "reverse", "limit"),
    "Proxies": ("proxy", "direct", "header", "hold-end"),
    "Login at a proxy": ("user", "password-file", "password-env", "password"),
    "For programs": ("json",),
    "Log": ("verbose", "quiet", "log-format"),
}
_OTHERS = "Others"


def commandHint(word: str) -> str:
    """Return the error for a word that is not a TUNNEL and may be meant as a command; else ""."""
    import difflib  # slow to import, and for errors only

    if ":" in word or word.startswith("-"):
        return ""
    if word in COMMANDS:
        return f"{show(word)}: a command must be the first word, before all options"
    close = difflib.get_close_matches(word.lower(), COMMANDS, n=1)
    if not close:
        return ""
    return f"{show(word)}: neither a command nor a TUNNEL; did you mean {close[0]}?"


def commandLines(width: int) -> str:
    """Return the commands, each with what it does."""
    longest = max(map(len, COMMANDS))
    lines = [
        textwrap.fill(
            what,
            width,
            initial_indent=f"  ptunnel {name:<{longest}}  ",
            subsequent_indent=" " * (longest + 12),
        )
        for name, what in COMMANDS.items()
    ]
    return "\n".join(["Commands:", *lines, ""])


def groupedUsage(options: usage.Options, width: int | None, commands: bool) -> str:
    """Return what `usage.Options.getUsage` does, with the options in groups.

    @param width: in columns; None: that of the terminal, as COLUMNS says.
    @param commands: whether the commands are to be shown too.
    """
    width = width or int(os.environ.get("COLUMNS", "80"))
    chunks = _chunks(options, width)
    parts = [f"\n{textwrap.fill(getattr(options, 'longdesc', ''), width)}\n"]
    if commands:
        parts.append(commandLines(width))
    named = {name for names in _GROUPS.values() for name in names}
    others = tuple(name for name in chunks if name not in named)
    for title, names in {**_GROUPS, _OTHERS: others}.items():
        if lines := [chunks[name] for name in names if name in chunks]:
            parts.append(f"{title}:\n{''.join(lines)}")
    return "\n".join(parts)


def _chunks(options: usage.Options, width: int) -> dict[str, str]:
    """Return the lines of each option, by its long name."""
    short = {long: key for key, long in options.synonyms.items() if len(key) == 1}
    entries = [
        {
            "long": name.rstrip("="),
            "short": short.get(name.rstrip("=")),
            "doc": options.docs[name.rstrip("=")],
            "optType": "parameter" if name.endswith("=") else "flag",
            "default": options.defaults.get(name.rstrip("=")),
        }
        for name in options.longOpt
    ]
    chunks = usage.docMakeChunks(entries, width)  # sorts the entries in place
    return {str(entry["long"]): chunk for entry, chunk in zip(entries, chunks, strict=True)}
