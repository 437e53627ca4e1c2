"""A new process takes the ports over from the one that serves, over a Unix socket."""
