"""Subscribers: what follows for files when records, collections and buckets change."""
