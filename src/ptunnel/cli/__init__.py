"""The command `ptunnel`: run, connect, check, hosts, demo."""

from ptunnel.cli.dispatch import main as main
