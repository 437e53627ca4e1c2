"""Listening ports: bound, inherited, told of clients by PROXY headers, closed."""
