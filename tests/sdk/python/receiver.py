"""An endpoint on this machine that keeps what it is sent."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE_SECS = 20
POLL_SECS = 0.005


class Receiver:
    def __init__(self):
        self.deliveries = []
        deliveries = self.deliveries

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                deliveries.append((dict(self.headers), body))
                self.send_response(200)
                self.send_header("content-length", "5")
                self.end_headers()
                self.wfile.write(b"taken")

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
