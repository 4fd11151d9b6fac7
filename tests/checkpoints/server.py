"""A server on loopback that behaves as badly as servers do."""

import base64
import contextlib
import hashlib
import http.server
import threading
from dataclasses import dataclass, field


@dataclass
class Shop:
    """What the server has, and how it misbehaves."""

    files: dict = field(default_factory=dict)  # path: bytes
    breaks: int = 0  # how many long answers break off in the middle
    lie: int = 0  # bytes that Content-Length promises too many
    refuse: dict = field(default_factory=dict)  # path: list of (status, headers), one for each request
    digest: str = ""  # "goog": MD5 as Google's storage gives it; "wrong": one of another file
    headers: dict = field(default_factory=dict)  # more of them, by path
    tag: str = '"one"'
    asked: list = field(default_factory=list)  # (method, path, Range)
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one shop."""

    protocol_version = "HTTP/1.0"
    shop: Shop

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.broken(self.answer()))

    def answer(self):
        """The status line and the headers; the bytes that are still to be sent."""
        shop, path = self.shop, self.path.partition("?")[0]
        shop.asked.append((self.command, path, self.headers.get("Range")))
        own = shop.headers.get(path, {})
        if shop.refuse.get(path):
            status, headers = shop.refuse[path].pop(0)
            return self.start(status, b"", headers)
        if path not in shop.files:
            return self.start(404, b"", own)
        data, first = shop.files[path], self.first()
        total = len(data) + shop.lie
        if first >= len(data):
            return self.start(416, b"", {"Content-Range": f"bytes */{total}"})
        headers = {"ETag": shop.tag, "Accept-Ranges": "bytes", **own, **self.digest(data)}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{total}"
        return self.start(206 if first else 200, data[first:], headers, shop.lie)

    def first(self):
        """The first byte that is asked for."""
        asked = self.headers.get("Range")
        if not asked or self.headers.get("If-Range", self.shop.tag) != self.shop.tag:
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def digest(self, data):
        if not self.shop.digest:
            return {}
        md5 = hashlib.md5(b"another" if self.shop.digest == "wrong" else data).digest()
        return {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(md5).decode()}"}

    def broken(self, data):
        if self.shop.breaks <= 0 or len(data) <= 10_000:
            return data
        self.shop.breaks -= 1
        return data[: len(data) // 2]

    def start(self, status, data, headers, more=0):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data) + more)}.items():
            self.send_header(name, value)
        self.end_headers()
        return data


@contextlib.contextmanager
def serving(**given):
    """The shop, open."""
    shop = Shop(**given)
    handler = type("OwnHandler", (Handler,), {"shop": shop})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    shop.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
