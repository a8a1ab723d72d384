"""Google Cloud Storage for the tests: a strict server in a thread of this process, on loopback.

It knows what the plugin and Google's own library ask for, in the JSON API, and of the XML API
what anonymous readers and V4 signed URLs ask for. Where the real service is known to differ from
what test servers do, it behaves like the real one: see ``Switches``, and the tests.

``python -m tests.support.servers.gcs --port N`` runs it alone.
"""

from tests.support.servers.gcs.exchange import answers_as, breaks_the_line, loses_the_answer
from tests.support.servers.gcs.requests import GcsRequest, operation_of
from tests.support.servers.gcs.server import GcsServer

__all__ = [
    "GcsRequest",
    "GcsServer",
    "answers_as",
    "breaks_the_line",
    "loses_the_answer",
    "operation_of",
]
