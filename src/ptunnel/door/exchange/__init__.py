"""One request that goes on, on a connection upstream, and the login there."""
