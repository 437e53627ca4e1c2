"""One service in several processes: their supervisor, and what a worker runs."""
