# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a receiver of octet-counted syslog and one of Elasticsearch bulk requests, both on loopback.

Shares no code with the program under test. Usage: receivers.py FILE; each uid that it has taken is a line of FILE,
behind the receiver's name. Says "ready" when it listens.
"""

from __future__ import annotations

import gzip
import http.server
import json
import re
import socketserver
import sys
import threading
from io import BufferedIOBase

SYSLOG, BULK = 5514, 9200
_taken = threading.Lock()


def take(name: str, uid: str) -> None:
    with _taken, open(sys.argv[1], "a", encoding="utf-8") as file:  # noqa: PTH123 - one line
        file.write(f"{name} {uid}\n")


class Syslog(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while (message := self._message(self.rfile)) is not None:
            found = re.search(rb' uid="([^"]+)"', message)
            take("syslog", found[1].decode() if found else "without")

    @staticmethod
    def _message(file: BufferedIOBase) -> bytes | None:
        size = b""
        while (byte := file.read(1)).isdigit():
            size += byte
        return file.read(int(size)) if byte else None


class Bulk(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        actions = [json.loads(line) for line in body.splitlines()[::2]]
        items = []
        for action in actions:
            take("bulk", action["create"]["_id"])
            items.append({"create": {"_id": action["create"]["_id"], "status": 201}})
        answer = json.dumps({"took": 1, "errors": False, "items": items}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Say nothing."""


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    for port, handler in ((SYSLOG, Syslog), (BULK, Bulk)):
        server = Listener(("127.0.0.1", port), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


main()
