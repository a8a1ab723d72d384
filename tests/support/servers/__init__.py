"""Servers that the tests start, use and kill, each on a free port of 127.0.0.1."""
