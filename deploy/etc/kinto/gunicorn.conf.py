"""gunicorn for one process of Kinto; kinto@.service says where it listens."""

import time

# Threads of one process: the plugin works in them side by side, and each node is a process of its
# own. An upload in flight holds one: nginx lets fewer of them through than both nodes have.
workers = 1
worker_class = "gthread"
threads = 16

# Longer than nginx keeps its connections (60 s), so that none is closed as a request comes.
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
