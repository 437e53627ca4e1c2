"""Requests for http:// URLs: each goes on to the next proxy or to its origin."""
