"""Two transports joined: the splice, and its legs by producers, by the kernel and over TLS."""
