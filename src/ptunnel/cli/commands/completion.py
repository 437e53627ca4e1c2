"""Completion of commands and options for bash, zsh and fish (`ptunnel completion`).

It is made of the options themselves, so that it cannot be out of date. Twisted writes it for zsh
only, and shtab reads argparse only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from twisted.python import usage

from ptunnel.cli.grouped import COMMANDS

# What the value of an option is, where that can be completed.
_FILES = {"config", "password-file", "token-file"}


class Option(NamedTuple):
    """@ivar short: its letter; "": none."""

    long: str
    short: str
    takesValue: bool
    doc: str

    @property
    def words(self) -> list[str]:
        return [f"-{self.short}"] * bool(self.short) + [f"--{self.long}"]


def optionsOf(parser: usage.Options) -> list[Option]:
    """Return the options of a command."""
    short = {long: key for key, long in parser.synonyms.items() if len(key) == 1}
    return [
        Option(
            name.rstrip("="),
            short.get(name.rstrip("=")) or "",
            name.endswith("="),
            re.split(r"[.;] |\.$", " ".join(str(parser.docs[name.rstrip("=")]).split()))[0],
        )
        for name in sorted(parser.longOpt)
    ]


def script(shell: str, parsers: Mapping[str, usage.Options]) -> str:
    """Return the script for a shell, "bash", "zsh" or "fish".

    @param parsers: by command; that of "run" is for no command too.
    """
    options = {name: optionsOf(parser) for name, parser in parsers.items()}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](options)


def _bash(options: Mapping[str, list[Option]]) -> str:
    cases = "\n".join(
        f"        {name}) options={shlex.quote(' '.join(_words(each)))} ;;"
        for name, each in options.items()
    )
    every = {option for each in options.values() for option in each if option.takesValue}
    files = "|".join(sorted(_words(option for option in every if option.long in _FILES)))
    values = "|".join(sorted(_words(option for option in every if option.long not in _FILES)))
    return f"""\
# bash completion for ptunnel; for example: source <(ptunnel completion bash)
_ptunnel() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} options=
    COMPREPLY=()
    case $before in
        {files}) COMPREPLY=($(compgen -f -- "$word")); return ;;
        {values}) return ;;
    esac
    case ${{COMP_WORDS[1]}} in
{cases}
        {"|".join(name for name in COMMANDS if name not in options)}) ;;
        *) options={shlex.quote(" ".join(_words(options["run"])))} ;;
    esac
    if [[ $word != -* && $COMP_CWORD -eq 1 ]]; then
        options={shlex.quote(" ".join(COMMANDS))}
    elif [[ $word != -* && $COMP_CWORD -eq 2 && ${{COMP_WORDS[1]}} == help ]]; then
        options={shlex.quote(" ".join(COMMANDS))}
    elif [[ $word != -* ]]; then
        return
    fi
    COMPREPLY=($(compgen -W "$options" -- "$word"))
}}
complete -F _ptunnel ptunnel
"""


def _zsh(options: Mapping[str, list[Option]]) -> str:
    commands = "\n".join(
        f"        {shlex.quote(f'{name}:{what}')}" for name, what in COMMANDS.items()
    )
    cases = "\n".join(f"        {_zshCase(name, each)}" for name, each in options.items())
    return f"""\
#compdef ptunnel
# zsh completion for ptunnel; for example: source <(ptunnel completion zsh)
_ptunnel() {{
    local -a commands=(
{commands}
    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe -t commands command commands
        return
    fi
    case $words[2] in
{cases}
        help) _describe -t commands command commands ;;
        {_zshCase("*", options["run"])}
    esac
}}
compdef _ptunnel ptunnel
"""


def _zshCase(name: str, options: Iterable[Option]) -> str:
    drop = "" if name == "*" else "shift words; (( CURRENT-- )); "
    return f"{name}) {drop}_arguments -S {' '.join(map(_zshOption, options))} ;;"


def _zshOption(option: Option) -> str:
    doc = re.sub(r"([\[\]:\\])", r"\\\1", option.doc)
    value = ":value:_files" if option.long in _FILES else ":value: "
    return " ".join(
        shlex.quote(f"*{word}[{doc}]{value if option.takesValue else ''}") for word in option.words
    )


def _fish(options: Mapping[str, list[Option]]) -> str:
    lines = [
        "# fish completion for ptunnel; for example: ptunnel completion fish | source",
        "complete -c ptunnel -f",
    ]
    first = "__fish_use_subcommand"
    for name, what in COMMANDS.items():
        lines.append(f"complete -c ptunnel -n {first} -a {name} -d {shlex.quote(what)}")
    for name, each in options.items():
        others = " ".join(other for other in COMMANDS if other != "run")
        seen = f"__fish_seen_subcommand_from {others if name == 'run' else name}"
        condition = shlex.quote(f"not {seen}" if name == "run" else seen)
        for option in each:
            words = [f"complete -c ptunnel -n {condition} -l {option.long}"]
            words += [f"-s {option.short}"] * bool(option.short)
            words += ["-r"] * option.takesValue
            words += ["-F"] * (option.long in _FILES)
            lines.append(" ".join([*words, f"-d {shlex.quote(option.doc)}"]))
    return "\n".join([*lines, ""])


def _words(options: Iterable[Option]) -> list[str]:
    return [word for option in options for word in option.words]
