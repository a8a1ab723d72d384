"""Google Cloud Storage as file storage."""
