"""gunicorn for one process of Kinto; kinto@.service says where it listens."""

import ctypes
import re
import struct
import time
from contextlib import suppress

from gunicorn.workers.gthread import ThreadWorker

# An upload holds a thread. Once its client has been waited for so long in all, it has to have sent
# as many bytes for each of these seconds.
GRACE_SECONDS = 30
BYTES_PER_SECOND = 1024

# Linux: https://man7.org/linux/man-pages/man7/socket.7.html. The program is "return 0", which
# drops all that comes.
SO_ATTACH_FILTER = 26
PROGRAM = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
DROP = struct.pack("HP", 1, ctypes.addressof(PROGRAM))


class Worker(ThreadWorker):
    """gunicorn's worker with threads, but without a socket that nobody accepts from.

    gunicorn's own keeps listening until its last request has ended: what connects meanwhile waits
    for minutes, and is then reset. This one closes the socket when it is told to stop, and nginx
    goes to the other node.
    """

    def set_accept_enabled(self, enabled):
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                self.close_listener(listener)

    def close_listener(self, listener):
        # Closing resets what has connected and is not accepted yet. So nothing more connects (who
        # tries is refused a second later), and the rest is accepted before.
        with suppress(OSError):
            listener.setsockopt(1, SO_ATTACH_FILTER, DROP)
        listener.setblocking(False)
        accepted = None
        while accepted != self.nr_conns:
            accepted = self.nr_conns
            self.accept(listener)
        listener.close()


# Threads of one process: the plugin works in them side by side, and each node is a process of its
# own. An upload in flight holds one: nginx lets fewer of them through than both nodes have.
workers = 1
worker_class = Worker
threads = 16

# Longer than nginx keeps its connections (1 s), so that none is closed as a request comes.
keepalive = 75

# The worker's main thread reports that it is alive, whatever the uploads in its threads do. When
# the node is stopped, they have that long to end, and kinto@.service waits a little longer.
timeout = 60
graceful_timeout = 300
worker_tmp_dir = "/dev/shm"

# nginx is on this machine, and says whether the client came by https.
forwarded_allow_ips = "127.0.0.1"

# Kinto and nginx both have a line for each request.
accesslog = None
logconfig = "/etc/kinto/kinto.ini"

# systemd is who controls it.
control_socket_disable = True


# The token of a link: who has it may read the file.
TOKEN = re.compile(r"(?<=/)(~|%7e)[^/?]*|(?<=%2f)(~|%7e)[^/?]*", re.IGNORECASE)


def pre_request(worker, req):
    """See to it that a client which sends a byte now and then is taken for one that has gone, and
    that gunicorn's error log has no token: Kinto gets it by the path, the log by the URI."""
    req.uri = TOKEN.sub("~...", req.uri)
    unreader = req.unreader
    receive = type(unreader).chunk
    waited = received = 0

    def chunk(size_hint=None):
        nonlocal waited, received
        if waited > GRACE_SECONDS and received < waited * BYTES_PER_SECOND:
            return b""
        started = time.monotonic()
        data = receive(unreader, size_hint)
        waited += time.monotonic() - started
        received += len(data)
        return data

    unreader.chunk = chunk


def post_request(worker, req, environ, resp):
    """Take what a client still sends after it was refused, until it has seen the answer.

    gunicorn would close the connection at once, and nginx, cut short as it passes the body on,
    answers 502 in place of the 401 or the 413. nginx closes it once it has the answer, so this
    takes no time, unless a client comes here directly.
    """
    connection = environ.get("gunicorn.socket")
    deadline = time.monotonic() + 5
    try:
        while (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            if not req.body.read(64 * 1024):
                break
        connection.settimeout(None)
    except Exception as error:
        # Whatever it is, there is nobody to tell: the request is over.
        worker.log.debug("The rest of a request could not be read: %r", error)
    # The next request of the connection starts anew.
    vars(req.unreader).pop("chunk", None)
