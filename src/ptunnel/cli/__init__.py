"""The command `ptunnel`: run, connect, check, hosts, demo."""

from ptunnel.cli.commands import main as main
