"""The requests that the plugin answers."""
