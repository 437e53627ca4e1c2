"""What `ptunnel completion` prints, in the shells that it is for."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.grouped import COMMANDS
from tests.integration.programs import PATIENCE, required


class CompletionTests(SynchronousTestCase):
    def script(self, shell: str) -> str:
        """@return: the path of the shell's script."""
        path = self.mktemp()
        with open(path, "w") as file:
            command = [sys.executable, "-m", "ptunnel", "completion", shell]
            subprocess.run(command, stdout=file, check=True, timeout=PATIENCE)
        return os.path.abspath(path)

    def ran(self, *command: str) -> list[str]:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split("\n")[:-1]

    def test_bashCompletesCommandsOptionsAndFiles(self) -> None:
        path, bash = self.script("bash"), required("bash")

        def completed(*words: str) -> list[str]:
            program = (
                'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ptunnel; '
                'printf "%s\\n" "${COMPREPLY[@]}"'
            )
            return self.ran(bash, "--norc", "-c", program, bash, path, "ptunnel", *words)

        self.assertEqual(completed(""), list(COMMANDS))
        self.assertEqual(completed("ch"), ["check"])
        self.assertEqual(completed("help", "co"), ["connect", "completion"])
        self.assertEqual(completed("check", "--js"), ["--json"])
        self.assertEqual(completed("--conf"), ["--config"])
        self.assertEqual(completed("connect", "--json"), [""])
        self.assertEqual(completed("check", "-c", path[:-1]), [path])
        self.assertEqual(completed("check", "-p", "x"), [""])

    def test_fishCompletesCommandsAndOptions(self) -> None:
        path, fish = self.script("fish"), required("fish")

        def completed(line: str) -> list[str]:
            program = f"source {path}; complete -C '{line}'"
            return [said.split("\t")[0] for said in self.ran(fish, "--no-config", "-c", program)]

        self.assertEqual(sorted(completed("ptunnel ")), sorted(COMMANDS))
        self.assertEqual(completed("ptunnel ch"), ["check"])
        self.assertEqual(completed("ptunnel check --js"), ["--json"])
        self.assertEqual(completed("ptunnel connect --js"), [])
        self.assertEqual(completed("ptunnel --multi"), ["--multithreaded"])

    def test_zshCompletesCommandsAndOptions(self) -> None:
        path, zsh = self.script("zsh"), required("zsh")
        for typed, completed in (
            ("ptunnel ch", "check "),
            ("ptunnel check --js", "check --json"),
            ("ptunnel --multi", "ptunnel --multithreaded"),
        ):
            self.assertIn(completed, typedInto(zsh, path, typed))


def typedInto(zsh: str, path: str, typed: str) -> str:
    """Type something and a tab. @return: the line that zsh makes of it, by its own account."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(zsh, [zsh, "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "> "})
    try:
        setUp = f"autoload -Uz compinit; compinit -u -D; source {path}; "
        # Two bindings: the tab completes, and Ctrl-X shows the line that it has made.
        setUp += "show() { print -r -- \"MADE<$BUFFER>\" }; zle -N show; bindkey '^X' show; "
        os.write(terminal, f"{setUp} print RE''ADY\n".encode())
        until(terminal, "READY")
        os.write(terminal, f"{typed}\t\x18".encode())
        return until(terminal, ">\r").rpartition("MADE<")[2]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def until(terminal: int, end: str) -> str:
    said, limit = "", time.monotonic() + PATIENCE
    while end not in said:
        if not select.select([terminal], [], [], max(limit - time.monotonic(), 0))[0]:
            raise AssertionError(f"no {end!r} in {said!r}")
        said += os.read(terminal, 4096).decode(errors="replace")
    return said
