"""Who we are at one proxy: its login, shared by all connections, and each authentication."""
