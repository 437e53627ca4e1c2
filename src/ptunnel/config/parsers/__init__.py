"""Values of keys and options, parsed: words, addresses, URLs."""
