"""Kinto's database, beyond the interface of its storage backend."""
