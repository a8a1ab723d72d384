"""The scripts, as processes that talk to a running Kinto and to a file server."""
