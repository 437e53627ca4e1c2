"""The tour: a proxy, an echo server and clients, all within one process."""
