"""The two sides of a splice, for each kind of transport."""
