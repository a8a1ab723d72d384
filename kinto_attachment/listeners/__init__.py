"""What others do to records, collections and buckets, and what follows for files."""
