# SPDX-License-Identifier: Apache-2.0
"""Every field of a log, read with libauparse from Python, as a consumer would have to.

    python3 auparse_reads.py values|meanings LOG

Run by the Python of its own release's root (tests/interop/tools.py), not by the project's. Writes nothing but how many
events and records there were: what a consumer does with the fields is not counted.
"""

import sys

import auparse  # type: ignore[import-not-found] # of the root that runs this

READY = "meanings" in sys.argv[1]


def read(path: str) -> tuple[int, int]:
    """Ask for the name of every field, and for its value or its meaning."""
    parser = auparse.AuParser(auparse.AUSOURCE_FILE, path)
    name = parser.get_field_name
    value = parser.interpret_field if READY else parser.get_field_str
    events = records = 0
    while parser.parse_next_event():
        events += 1
        parser.first_record()
        while True:
            records += 1
            fields = {}
            parser.first_field()
            while True:
                try:
                    fields[name()] = value()
                except UnicodeDecodeError:  # the module has no other way to a value that is no text
                    fields[name()] = None
                if not parser.next_field():
                    break
            if not parser.next_record():
                break
    return events, records


if __name__ == "__main__":
    sys.stdout.write("%d %d\n" % read(sys.argv[2]))  # noqa: UP031 - any Python 3
