"""One client of a tunnel: accept, pause, introduce, connect, splice, account."""
