"""An endpoint on this machine that keeps what it is sent."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE_SECS = 20
POLL_SECS = 0.005
# So long it takes for an answer: an attempt that took no time could not be told from one of which nobody says.
TAKES_MS = 10


class Receiver:
    def __init__(self):
        self.deliveries = []
        # Whether it answers 500.
        self.refuses = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status, answer = (500, b"refused") if receiver.refuses else (200, b"taken")
                receiver.deliveries.append((dict(self.headers), body))
                time.sleep(TAKES_MS / 1_000)
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, message_id, count=1):
        """The deliveries of a message, as soon as there are so many."""

        def its():
            return [one for one in list(self.deliveries) if header(one, "webhook-id") == message_id]

        found = as_soon_as(its, lambda its: len(its) >= count)
        if len(found) < count:
            raise AssertionError(f"{len(found)} deliveries of {message_id}, not {count}")
        return found

    def told(self, endpoint_uid):
        """What operational webhooks say of an endpoint, as soon as the first one comes."""

        def says(delivery):
            return json.loads(delivery[1]).get("data", {}).get("endpointUid") == endpoint_uid

        found = as_soon_as(lambda: [one for one in list(self.deliveries) if says(one)], bool)
        if not found:
            raise AssertionError(f"nothing is told of {endpoint_uid}")
        return found[0]


def as_soon_as(ask, is_there):
    """What is asked for, as soon as it is there, or as it is in the end."""
    deadline = time.monotonic() + PATIENCE_SECS
    while True:
        found = ask()
        if is_there(found) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_SECS)


def header(delivery, name):
    return {key.lower(): value for key, value in delivery[0].items()}.get(name)
