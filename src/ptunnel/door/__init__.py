"""Doors: local proxies whose clients say themselves where they want to go."""
