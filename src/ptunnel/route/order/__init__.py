"""Which of several ways is tried when."""
