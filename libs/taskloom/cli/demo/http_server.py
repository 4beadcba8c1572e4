"""The small local server that the demo's HTTP task calls: prices of a shop."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

PRICES: Final = {"loom": 349.0, "shuttle": 12.5, "thread": 3.2}


class _Prices(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Answers {"items": {name: count}} with what they cost together."""
        wanted = json.loads(self.rfile.read(int(self.headers["content-length"])))["items"]
        body = json.dumps({"total": sum(PRICES[name] * count for name, count in wanted.items())}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Nothing: the terminal belongs to the board."""


@contextmanager
def price_server() -> Iterator[str]:
    """The URL of a server that answers while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Prices) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name="prices", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/price"
        finally:
            server.shutdown()
            thread.join()
