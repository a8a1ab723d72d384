"""Ask for Kinto's heartbeat, for kinto@.service; the exit status is 0 if all is well.

    heartbeat.py /etc/kinto/kinto.ini

asks an application of its own, before the node listens: a wrong setting, or a database or a store
that does not answer, ends it before it gets any request.

    heartbeat.py http://127.0.0.1:8001/v1/__heartbeat__

waits for a node that has been started, and

    heartbeat.py http://127.0.0.1:8001/v1/__heartbeat__ 0

only asks it, as a container's health check does.
"""

import json
import random
import sys
import time
import urllib.error
import urllib.request

SECONDS = 60
TRIES = 5


def of_settings(ini):
    from pyramid.paster import get_app
    from webob import Request

    app = get_app(ini)
    for _ in range(TRIES):
        answer = Request.blank("/v1/__heartbeat__").get_response(app)
        if answer.status_code == 200:
            break
        # Nodes that ask at the same time write and delete the same key of the cache.
        time.sleep(random.uniform(0, 1))  # noqa: S311
    return answer.status_code, answer.body


def of_node(url, seconds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except OSError as error:
            status, body = 503, json.dumps(str(error)).encode()
        if time.monotonic() > deadline:
            return status, body
        time.sleep(0.2)


def main(what, seconds=SECONDS):
    is_node = what.startswith("http://")
    status, body = of_node(what, float(seconds)) if is_node else of_settings(what)
    if status != 200:
        print(f"The heartbeat says {status}: {body.decode()}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
