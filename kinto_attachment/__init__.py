"""Attach files to Kinto records."""
