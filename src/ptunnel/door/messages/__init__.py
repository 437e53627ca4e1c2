"""Requests for http:// URLs and their answers, as they go on: bytes in, bytes out."""
