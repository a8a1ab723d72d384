"""Kinto for WSGI servers that do not read ini files: that of ``$KINTO_INI``."""

import os

from pyramid.paster import get_app, setup_logging

setup_logging(os.environ["KINTO_INI"])
application = get_app(os.environ["KINTO_INI"])
