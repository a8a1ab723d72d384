"""Which record holds which file, and the use cases: attach a file, detach it."""
