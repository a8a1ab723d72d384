"""A Kinto under gunicorn, its clients, and what is behind their back."""
