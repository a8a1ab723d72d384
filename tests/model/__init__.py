"""A model of what the plugin promises, and random days of a site that are held against it."""
