"""What a request sends: bodies, forms, preconditions. Knows nothing of records."""
