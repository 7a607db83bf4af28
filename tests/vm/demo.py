# SPDX-License-Identifier: Apache-2.0
"""The demo: `audit-enricher run` on a terminal in a guest, and real containers that give it something to show.

Usage: python -m tests.vm.demo [--kernel SLOT] [--sink RECEIVER]

Owns what a reader sees: the table as the program writes it, and before each act a headline that says which
command the next rows come from. Never audits or attaches anything on this machine. Exit status: 0; 1 if an
act failed or an account does not balance; 125 without a guest; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.suites.staging import COMMAND, ROOT, SHARE, installed, stage
from tests.vm import demo_report as report
from tests.vm import demo_sink
from tests.vm.demo_acts import ACTS, KEYS, TRUTH_TELLERS, WEB_PID_FILE
from tests.vm.demo_screen import BALANCED, LIMIT, STEP, Screen, Table
from tests.vm.errors import GuestTimeout, VmError
from tests.vm.guest import Guest
from tests.vm.kernels import SLOTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from tests.vm.demo_acts import Act
    from tests.vm.process import GuestProcess

EXIT_FAILED: Final = 1
EXIT_NO_GUEST: Final = 125
EXIT_INTERRUPTED: Final = 130

RESULT: Final = ROOT / "build/demo/events.json"
_RULES: Final = ROOT / "tests/vm/demo.rules"
_JSON_IN_GUEST: Final = "/run/demo/events.json"
_CAPTURE_IN_GUEST: Final = "/run/demo/events.capture"
_LOG_IN_GUEST: Final = "/run/demo/act.log"
_ACT_LIMIT = 120.0
_LABEL_LIMIT = 15.0

_LEGEND = """\
WHERE       host; the container, by its engine and id; or the number by which a set of namespaces is
            known again (that of its mount namespace) and the kinds that differ from the host's
PID, INSIDE the process id as the host sees it, and as the process itself does
AUID/UID    who logged in, and whom the process runs as
"""


class Session:
    """A root shell in the guest, as of somebody who logged in as user 1000: the acts' parent."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._shell = guest.popen(["/bin/sh"], stdin=True)
        self._shell.write(b"mkdir -p /run/demo; echo 1000 >/proc/self/loginuid; export PATH\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.__exit__(None, None, None)

    def begin(self, command: str) -> None:
        """Start a command."""
        self._shell.write(f"{command} </dev/null >{_LOG_IN_GUEST} 2>&1; echo $?\n".encode())

    def ended(self) -> int | None:
        """Return the status of the command if it has ended."""
        said = self._shell.read_available()
        return int(said) if said.strip() else None

    def output(self) -> str:
        """Return what the last command wrote."""
        return self._guest.get(_LOG_IN_GUEST).decode(errors="replace").strip()


class Demo:
    """One showing in one booted guest. ``failures`` are sentences. ``sink`` is a receiver that gets the events too."""

    def __init__(self, guest: Guest, screen: Screen, sink: str | None = None) -> None:
        self._guest = guest
        self._screen = screen
        self._sink = sink
        self.failures: list[str] = []
        self.rows: list[str] = []
        self.account = ""

    def perform(self) -> None:
        """Run the programs and the acts, and tell what came of them."""
        guest, screen = self._guest, self._screen
        keys = [word for key in KEYS for word in ("--key", key)]
        # The multicast group takes any number of readers: one for the eyes, one for the file.
        to_file = [COMMAND, "run", *keys, "--format", "json", "--output", _JSON_IN_GUEST]
        if self._sink:
            to_file += ["--capture", _CAPTURE_IN_GUEST]
        with Session(guest) as session:
            self._load_rules()
            screen.headline(
                "audit-enricher in that machine; of all events it shows those with the rules' keys"
            )
            screen.say(f"$ audit-enricher run {' '.join(keys)}\n{_LEGEND}")
            with guest.popen(to_file) as writer, Table(guest, screen, [COMMAND, "run", *keys]) as table:
                table.wait_ready()
                self._wait_for(writer)
                # It takes ten seconds, which the other acts can have.
                guest.run(["systemctl", "start", "--no-block", "docker.service"], check=True)
                for act in ACTS:
                    self._act(act, session, table)
                screen.headline("Ctrl-C: the program's own account of the run")
                if not table.stop():
                    self.failures.append("the table's account does not balance")
                self.rows = table.rows
                writer.signal(signal.SIGINT)
                status = writer.wait(LIMIT)
                self.account = writer.stderr.decode(errors="replace")
                if status or BALANCED not in self.account:
                    self.failures.append(
                        f"the account of the run that wrote the file does not balance:\n{self.account}"
                    )
        self._conclude()

    def _load_rules(self) -> None:
        screen = self._screen
        screen.headline("Audit rules in the virtual machine: they decide what is recorded")
        screen.say(f"$ auditctl -R {_RULES.name}")
        self._guest.run(["auditctl", "-R", f"{SHARE}/{_RULES.name}"], check=True)
        for line in _RULES.read_text().splitlines():
            if line.startswith("-a always"):
                screen.say(line)
        screen.say(
            "and some `never` rules, so that what podman starts for its own housekeeping stays out of sight."
            "\nOnly `podman --root ...` remains: that is podman tidying up."
        )

    def _wait_for(self, writer: GuestProcess) -> None:
        deadline = time.monotonic() + LIMIT
        while b": ready\n" not in writer.stderr:
            if writer.poll() is not None or time.monotonic() > deadline:
                raise VmError(f"the run that writes the file did not get ready: {writer.stderr.decode()}")
            time.sleep(STEP)

    def _act(self, act: Act, session: Session, table: Table) -> None:
        screen = self._screen
        command = act.command
        if "{web}" in command:
            command = command.format(web=self._web_pid())
        screen.headline(act.title)
        screen.say(f"$ {command}")
        since, deadline = table.lines, time.monotonic() + _ACT_LIMIT
        session.begin(command)
        while (status := session.ended()) is None:
            if time.monotonic() > deadline:
                raise GuestTimeout(f"still running after {_ACT_LIMIT:.0f} s: {command}")
            time.sleep(STEP)
            table.show()
        rows = table.settle(since, act.rows)
        if act.shows:
            screen.say(session.output())
        if status != act.status:
            self.failures.append(
                f"{command}: exit status {status} for {act.status}: {session.output()[-500:]}"
            )
        elif rows < act.rows:
            self.failures.append(f"{command}: {rows} rows, and at least {act.rows} were to come")
        elif WEB_PID_FILE in command:
            screen.say(f"The container is {self._web_label()}: look for it in what follows.")

    def _web_pid(self) -> str:
        return self._guest.get(WEB_PID_FILE).decode().strip()

    def _web_label(self) -> str:
        """Look into the file that the other run writes; it may lag behind the table."""
        pid, deadline = int(self._web_pid()), time.monotonic() + _LABEL_LIMIT
        while time.monotonic() < deadline:
            data = self._guest.get(_JSON_IN_GUEST)
            whole = data[: data.rfind(b"\n") + 1]
            if label := report.label_of_pid(report.parse(whole), pid):
                return label
            time.sleep(STEP)
        self.failures.append(f"no event says that process {pid} started a program")
        return "not known"

    def _conclude(self) -> None:
        screen = self._screen
        data = self._guest.get(_JSON_IN_GUEST)
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_bytes(data)
        written = report.parse(data)
        events, own = report.apart(written)
        if own:
            screen.headline("What the run that wrote the file says of itself")
            for line in own:
                screen.say(line)
        if differ := report.differences(self.rows, events):
            self.failures.append(f"{len(self.rows)} rows in the table, {len(events)} events in the file")
            self.failures += [*differ, f"The account of the run that wrote the file:\n{self.account}"]
        places = report.places(events)
        elsewhere = sum(place.events for place in places if place.label != "host")
        screen.headline(
            f"{len(events)} events: {len(events) - elsewhere} of the host, {elsewhere} of other namespaces"
        )
        screen.say("events  where                                        programs")
        for place in places:
            screen.say(report.place_line(place))
        screen.headline("Who opened /etc/shadow?")
        for line in report.openers(events, "demo-shadow"):
            screen.say("  " + line)
        told, wrong = report.compared(events)
        if told != TRUTH_TELLERS or wrong:
            self.failures += wrong or [f"{told} processes told their namespaces, and not {TRUTH_TELLERS}"]
        else:
            screen.headline(
                f"{told} processes said themselves which namespaces they were in, and no event differs"
            )
        sample = report.sample(events, "demo-shadow")
        if sample is None:
            self.failures.append("no event in a container has the key demo-shadow")
        else:
            screen.headline("One of these events, shortened")
            screen.say(report.shortened(sample))
            if sample["where"] != "container":
                self.failures.append(f"an event in a container says that it is {sample['where']}")
        if self._sink:
            capture = RESULT.with_name("events.capture")
            capture.write_bytes(self._guest.get(_CAPTURE_IN_GUEST))
            self.failures += demo_sink.show(self._sink, capture, written, KEYS, screen.say, screen.headline)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.demo", description="Enriched events in a guest."
    )
    parser.add_argument("--kernel", choices=list(SLOTS), default="6.12")
    parser.add_argument(
        "--sink", choices=list(demo_sink.KNOWN), help="deliver the events to this receiver too"
    )
    return parser


def _show(slot: str, sink: str | None) -> int:
    screen = Screen()
    screen.say(
        f"Booting a virtual machine with kernel {slot}. Nothing is audited or attached on this machine."
    )
    with contextlib.ExitStack() as stack:
        share = stage(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-"))))
        shutil.copy(_RULES, share)
        guest = stack.enter_context(installed(slot, share))
        up = time.monotonic()  # the time before is not ours where another guest had to end first
        screen.say(f"Linux {guest.version} is up after {guest.up_seconds:.0f} seconds.")
        demo = Demo(guest, screen, sink)
        demo.perform()
    screen.headline("Done" if not demo.failures else "FAILED")
    for failure in demo.failures:
        screen.say(failure)
    screen.say(
        f"{time.monotonic() - up + guest.up_seconds:.0f} seconds. All events, one JSON object a line: {RESULT}"
        "\n`make vm` opens a shell in such a guest, `make clean` removes all that was made here."
    )
    return EXIT_FAILED if demo.failures else 0


def main(words: Sequence[str] | None = None) -> int:
    """Show the demo; return the exit status."""
    arguments = _parser().parse_args(words)
    # The guest's context has to be left on SIGTERM as on Ctrl-C.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        return _show(arguments.kernel, arguments.sink)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; no virtual machine is left running", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); what Python still holds for it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except VmError as error:
        print(f"demo: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_NO_GUEST


if __name__ == "__main__":
    sys.exit(main())
