"""SOCKS: both sides of the handshake as bytes in and out, and an endpoint through a SOCKS proxy."""
