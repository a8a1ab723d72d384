"""Kinto under gunicorn, with PostgreSQL and real file storages: killed, crowded, and let down."""
