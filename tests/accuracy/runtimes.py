# SPDX-License-Identifier: Apache-2.0
"""The runtimes of Debian 12, each as the same three verbs: start boxes, execute in one, remove them.

Owns each runtime's command line. Never decides what runs in a box.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.accuracy.yard import BOX, WORKLOAD, YARD, Box, Yard
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE = "localhost/busybox:latest"
_ROOTFS = "/srv/busybox"
# Without the filter and with one capability more, so that the act "unshare inside" can be had.
_RIGHTS = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")


class Runtime:
    """One row of the report."""

    row = ""
    last = False
    """It leaves something on the host that the other rows are to be spared."""

    def prepare(self, yard: Yard) -> None:
        """Start what the runtime needs, and load the image."""

    def start(self, yard: Yard, count: int) -> list[Box]:
        """Start this many boxes."""
        names = [f"{self.row.replace(' ', '-')}-{number}" for number in range(count)]
        yard.fifos(names)
        return self.boxes(yard, names)

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        """Start boxes of these names, which have their FIFOs."""
        raise NotImplementedError

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        """Execute a command in a running box."""
        raise NotImplementedError

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        """Stop and remove boxes, by force."""
        raise NotImplementedError


class Engine(Runtime):
    """podman or docker, as root."""

    def __init__(self, engine: str, row: str = "", *options: str) -> None:
        self.row = row or engine
        self._engine = engine
        self._options = options

    def prepare(self, yard: Yard) -> None:
        yard.run("guest-images", self._engine)

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        mounts = ("-v", f"{WORKLOAD}:/w:ro", "-v", f"{YARD}:/yard")
        boxes = []
        for name in names:
            words = (self._engine, "run", "-d", "--name", name, *mounts, *_RIGHTS, *self._options, IMAGE)
            ident = yard.run(*words, "/bin/sh", BOX, name).split()[-1]
            boxes.append(Box(self.row, name, self._engine, ident))
        return boxes

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        yard.run(self._engine, "exec", box.name, *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        yard.run(self._engine, "rm", "-f", *(["-t", "0"] if self._engine == "podman" else []), *names(boxes))


class Pod(Engine):
    """podman with one pid namespace for a whole pod."""

    def __init__(self) -> None:
        super().__init__("podman", "podman pod", "--pod", "yard")

    def prepare(self, yard: Yard) -> None:
        super().prepare(yard)
        infra = ("--infra-image", IMAGE, "--infra-command", "sleep 100000")
        yard.run("podman", "pod", "create", "--name", "yard", "--share", "pid,ipc,uts,net", *infra)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        super().remove(yard, boxes)
        yard.run("podman", "pod", "rm", "-f", "-t", "0", "yard")


class Rootless(Runtime):
    """podman of an ordinary user, started by his own service manager as a login would."""

    row = "podman rootless"

    def __init__(self, *options: str) -> None:
        self._options = options

    def _podman(self, yard: Yard, *words: str) -> str:
        place = (
            "env",
            "XDG_RUNTIME_DIR=/run/user/1000",
            "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus",
        )
        # conmon stays behind in the service's cgroup: it is not to be killed with it.
        service = (
            "systemd-run",
            "--user",
            "--quiet",
            "--pipe",
            "--wait",
            "--collect",
            "-p",
            "KillMode=process",
        )
        return yard.run("runuser", "-u", "tester", "--", *place, *service, "podman", *words)

    def prepare(self, yard: Yard) -> None:
        yard.run("loginctl", "enable-linger", "tester")
        yard.sh("until systemctl is-active --quiet user@1000.service; do :; done", timeout=60)
        self._podman(yard, "load", "-q", "-i", "/srv/busybox.tar")

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        mounts = ("-v", f"{WORKLOAD}:/w:ro", "-v", f"{YARD}:/yard")
        boxes = []
        for name in names:
            words = ("run", "-d", "--name", name, "--net", "none", *mounts, *_RIGHTS, *self._options, IMAGE)
            ident = self._podman(yard, *words, "/bin/sh", BOX, name).split()[-1]
            boxes.append(Box(self.row, name, "podman", ident))
        return boxes

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        self._podman(yard, "exec", box.name, *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        self._podman(yard, "rm", "-f", "-t", "0", *names(boxes))


class Ctr(Runtime):
    """containerd through its own command, which puts containers at /default/NAME."""

    row = "ctr"

    def prepare(self, yard: Yard) -> None:
        yard.run("guest-images", "containerd")

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        mounts = []
        for source, target, mode in ((WORKLOAD, "/w", "ro"), (YARD, "/yard", "rw")):
            mounts += ["--mount", f"type=bind,src={source},dst={target},options=rbind:{mode}"]
        for name in names:
            yard.run(
                "ctr", "run", "-d", "--cap-add", "CAP_SYS_ADMIN", *mounts, IMAGE, name, "/bin/sh", BOX, name
            )
        return [Box(self.row, name, "containerd", name) for name in names]

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        yard.run("ctr", "task", "exec", "--exec-id", f"exec-{len(yard.expected)}", box.name, *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        for box in boxes:
            yard.run("ctr", "task", "rm", "-f", box.name)
            yard.run("ctr", "container", "rm", box.name)


class Cri(Runtime):
    """containerd through CRI, as the kubelet uses it, with the systemd driver; two containers in a pod.

    Every second pod has one pid namespace for both.
    """

    row = "containerd CRI"

    def __init__(self) -> None:
        self._pods: list[str] = []

    def _client(self, yard: Yard, *words: str) -> str:
        return yard.run("python3", f"{SHARE}/guest/cri.py", *words)

    def prepare(self, yard: Yard) -> None:
        yard.guest.put("/etc/containerd/config.toml", _CRI_CONFIG)
        yard.guest.put("/srv/pause.py", _PAUSE_IMAGE)
        yard.run("systemctl", "restart", "containerd")
        yard.run("python3", "/srv/pause.py")
        for archive in ("/srv/busybox.tar", "/srv/pause.tar"):
            yard.run("ctr", "-n", "k8s.io", "images", "import", archive)

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        boxes = []
        for number in range(0, len(names), 2):
            uid = f"0000000{number}-0000-4000-8000-000000000000"
            parent = f"kubepods-besteffort-pod{uid.replace('-', '_')}.slice"
            mode = "pod" if number % 4 else "container"
            pair = names[number : number + 2]
            said = self._client(yard, "up", f"pod-{number}", uid, parent, mode, WORKLOAD, YARD, *pair)
            up = json.loads(said)
            self._pods.append(up["pod"])
            boxes += [Box(self.row, name, "containerd", ident) for name, ident in up["containers"].items()]
        return boxes

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        self._client(yard, "exec", box.id, *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        assert boxes
        self._client(yard, "down", *self._pods)
        self._pods.clear()


class Bare(Runtime):
    """runc or crun without an engine: runc on systemd's driver, crun on a path of its own."""

    def __init__(self, runtime: str) -> None:
        self.row = runtime
        self._words = ("runc", "--systemd-cgroup") if runtime == "runc" else ("crun",)

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        for name in names:
            path = f"system.slice:yard:{name}" if self.row == "runc" else f"/yard-crun/{name}"
            bundle = f"/run/bundles/{name}"
            make = ("python3", f"{SHARE}/guest/bundle.py", bundle, path, WORKLOAD, YARD)
            yard.run(*make, "/bin/sh", BOX, name)
            # Detached, it leaves its own standard streams to the container.
            quiet = 'exec "$@" </dev/null >/dev/null 2>&1'
            yard.sh(quiet, *self._words, "run", "--detach", "--bundle", bundle, name)
        return [Box(self.row, name, self.row, name) for name in names]

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        yard.run(self.row, "exec", box.name, *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        for box in boxes:
            yard.run(*self._words, "delete", "--force", box.name)


class Lxc(Runtime):
    """liblxc's own commands."""

    row = "lxc"

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        for name in names:
            home = f"/var/lib/lxc/{name}"
            config = _LXC_CONFIG.format(name=name, home=home, workload=WORKLOAD, yard=YARD, box=BOX)
            yard.run("mkdir", "-p", home)
            yard.run("cp", "-a", _ROOTFS, f"{home}/rootfs")
            yard.guest.put(f"{home}/config", config.encode())
            yard.run("lxc-start", "-n", name, "-d")
        return [Box(self.row, name, "lxc", name) for name in names]

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        yard.run("lxc-attach", "-n", box.name, "--", *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        for box in boxes:
            yard.run("lxc-stop", "-k", "-n", box.name)


class Nspawn(Runtime):
    """systemd-nspawn from a shell, registered with machined.

    For a payload in which it finds no systemd it mounts a hierarchy of v1, `name=systemd`, also on a host of v2: from
    then on every /proc/PID/cgroup has a line more, and who reads that may be misled.
    """

    row = "nspawn"
    last = True

    def boxes(self, yard: Yard, names: Sequence[str]) -> list[Box]:
        for name in names:
            yard.run("cp", "-a", _ROOTFS, f"/srv/{name}")
            binds = (f"--bind-ro={WORKLOAD}:/w", f"--bind={YARD}:/yard")
            words = ("systemd-nspawn", "-q", "-D", f"/srv/{name}", "-M", name, "--console=pipe", *binds)
            start = 'setsid "$@" </dev/null >/run/nspawn.log 2>&1 &'
            yard.sh(start, *words, "/bin/sh", BOX, name)
        return [Box(self.row, name, "nspawn", name) for name in names]

    def enter(self, yard: Yard, box: Box, *words: str) -> None:
        """As lxc-attach would: `machinectl shell` needs systemd and D-Bus inside."""
        pid = yard.pid(box)
        yard.sh(f"cat /proc/{pid}/cgroup >/run/yard-entered")
        move = f"python3 {SHARE}/guest/move.py $$ /run/yard-entered"
        # Only a child is in the pid namespace: nsenter forks.
        yard.sh(f'{move}; nsenter -t {pid} -m -u -i -n -p -- "$@"', *words)

    def remove(self, yard: Yard, boxes: Sequence[Box]) -> None:
        yard.run("machinectl", "terminate", *names(boxes))


def names(boxes: Sequence[Box]) -> list[str]:
    """Return the boxes' names."""
    return [box.name for box in boxes]


_LXC_CONFIG = """\
lxc.uts.name = {name}
lxc.rootfs.path = dir:{home}/rootfs
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:mixed sys:mixed
lxc.mount.entry = {workload} w none bind,ro,create=dir 0 0
lxc.mount.entry = {yard} yard none bind,create=dir 0 0
lxc.init.cmd = /bin/sh {box} {name}
"""

_CRI_CONFIG = b"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
"""

# The sandbox runs its image's own command: busybox's is a shell, which would end at once.
_PAUSE_IMAGE = b"""\
import io, json, tarfile
with tarfile.open("/srv/busybox.tar") as old, tarfile.open("/srv/pause.tar", "w") as new:
    manifest = json.load(old.extractfile("manifest.json"))
    for member in old:
        data = old.extractfile(member).read()
        if member.name == manifest[0]["Config"]:
            config = json.loads(data)
            config["config"]["Cmd"] = ["/bin/sleep", "100000"]
            data = json.dumps(config).encode()
        elif member.name == "manifest.json":
            manifest[0]["RepoTags"] = ["localhost/pause:latest"]
            data = json.dumps(manifest).encode()
        member.size = len(data)
        new.addfile(member, io.BytesIO(data))
"""
