# SPDX-License-Identifier: Apache-2.0
"""A consumer of auditd's af_unix plugin, of the kind that is written with the audit package's auparse, reads ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from enricher.route.views.audit_text import AuditText
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.unix import UnixOptions, UnixSender
from tests.delivery.rsyslog import SECONDS, wait_for
from tests.unit.sample_events import HOST, STAMP, exec_event

COUNT = 300
TYPES = (1300, 1309, 1307, 1302, 1302, 1390, 1327)
"""PROCTITLE ends an event for auparse, so that EOE is none of its records."""
CONSUMER = """
import json, socket, sys
import auparse

def ready(parser, kind, _data):
    if kind == auparse.AUPARSE_CB_EVENT_READY:
        parser.first_record()
        types = [parser.get_type()]
        while parser.next_record():
            types.append(parser.get_type())
        print(json.dumps([parser.get_timestamp().serial, types]), flush=True)

parser = auparse.AuParser(auparse.AUSOURCE_FEED)
parser.add_callback(ready, None)
events = socket.socket(socket.AF_UNIX)
events.connect(sys.argv[1])
while data := events.recv(8970):
    parser.feed(data)
parser.flush_feed()
"""


def test_auparse_finds_every_event_whole(tmp_path: Path) -> None:
    text = AuditText(HOST).render(exec_event()).removesuffix(b"\n")
    serials = range(9001, 9001 + COUNT)
    sent = [
        Message(f"boot/{serial}", 1.0, "SYSCALL", text.replace(STAMP, STAMP[:-4] + b"%d" % serial), serial, 7)
        for serial in serials
    ]
    path = str(tmp_path / "audispd_events")
    sender = UnixSender(UnixOptions(path, drain=SECONDS))
    # Debian's own interpreter: the binding is a package of the distribution.
    command = ["/usr/bin/python3", "-c", CONSUMER, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as consumer:
        wait_for(lambda: sender.connected == 1, "the consumer connects")
        sender.send(sent)
        sender.close()
        output = consumer.communicate(timeout=SECONDS)[0]
    assert sender.unsure() == 0
    events = [json.loads(line) for line in output.splitlines()]
    assert [serial for serial, _ in events] == list(serials)
    assert {tuple(types) for _, types in events} == {TYPES}
