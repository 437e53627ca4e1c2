"""The command `ptunnel`: run, connect, check, hosts, demo."""
