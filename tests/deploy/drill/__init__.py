"""A day of the site of deploy/README.rst on a Debian machine of its own, with a real systemd."""
