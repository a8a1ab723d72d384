"""``python -m kinto_attachment.commands``: the same as ``kinto-attachment``."""

import sys

from kinto_attachment.commands import main

sys.exit(main())
