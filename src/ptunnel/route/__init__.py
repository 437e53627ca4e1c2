"""The way of a tunnel: proxies in order, their health, and their credentials."""
