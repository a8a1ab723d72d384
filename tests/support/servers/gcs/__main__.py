"""Run the server alone, until it is stopped: ``python -m tests.support.servers.gcs``."""

from __future__ import annotations

import argparse
import signal

from tests.support.servers.gcs import GcsServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 is a free one")
    arguments = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with GcsServer(arguments.port) as server:
        print(server.endpoint_url, server.bucket, server.credentials_file, flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
