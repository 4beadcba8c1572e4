"""An identity provider on this machine: it signs tokens with keys of its own and serves the public ones over HTTP."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CLIENT_ID: Final = "taskloom-client"

RSA_KEYS: Final = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
EC_KEY: Final = ec.generate_private_key(ec.SECP256R1())


class Provider:
    """``keys`` are those that it serves, by kid. ``reads`` counts how often. ``broken``: it answers 500."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.keys: dict[str, Any] = {"first": RSA_KEYS[0]}
        self.reads = 0
        self.broken = False
        self.raw: bytes | None = None
        self.codes: dict[str, str] = {}
        self.asked: dict[str, str] = {}

    @property
    def jwks(self) -> str:
        return f"{self.url}/jwks"

    def rotate(self, *kids: str) -> None:
        """Other keys in the place of those before."""
        self.keys = {kid: EC_KEY if kid.startswith("ec") else RSA_KEYS[place % 2] for place, kid in enumerate(kids)}

    def sign(self, kid: str | None = "first", key: Any = None, **claims: Any) -> str:
        key = key or self.keys[kid or ""]
        algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        fields = {"iss": self.url, "exp": time.time() + 600, "iat": time.time(), **claims}
        kept = {name: value for name, value in fields.items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else None)

    def id_token(self, subject: str = "google-7", **claims: Any) -> str:
        fields = {"sub": subject, "aud": CLIENT_ID, "email": f"{subject}@example.org", "email_verified": True}
        return self.sign(**{**fields, "name": "Zoe", **claims})

    def document(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return json.dumps({"keys": [jwk_of(kid, key) for kid, key in self.keys.items()]}).encode()


def jwk_of(kid: str, key: Any) -> dict[str, Any]:
    made = ECAlgorithm.to_jwk if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm.to_jwk
    return {**json.loads(made(key.public_key())), "kid": kid, "use": "sig"}


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.reads += 1
            self._answer(500 if found.broken else 200, found.document())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.asked = {name: values[0] for name, values in parse_qs(body).items()}
            token = found.codes.pop(found.asked.get("code", ""), None)
            if found.broken:
                self._answer(500, b"oops")
            elif token is None:
                self._answer(400, b'{"error": "invalid_grant"}')
            else:
                self._answer(200, json.dumps({"id_token": token, "access_token": "x"}).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Provider(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
