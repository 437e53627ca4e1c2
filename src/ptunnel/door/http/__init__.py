"""The HTTP side of a door, as bytes in and out: what clients ask for, and what they get."""
