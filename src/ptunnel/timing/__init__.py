"""Deadlines and back-offs, by a monotonic clock."""
