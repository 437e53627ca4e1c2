"""Sockets: dialling, names, epoll, deadlines, descriptors, and what transports hide."""
