# SPDX-License-Identifier: Apache-2.0
"""Paths of cgroups, and where each is: every runtime and driver, helpers, nesting, and names made to deceive.

Never read from a real system: ids are invented, layouts are those of the runtimes' own documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from enricher.enrich.places import Found, Place

WEB = "0123456789abcdef" * 4
DB = "fedcba9876543210" * 4
NODE = "00112233445566778899aabbccddeeff" * 2
GROUP = "a5" * 32  # a Podman pod

UID = "6f1c2a3b-4d5e-4f60-8a9b-0c1d2e3f4a5b"
UID_ = UID.replace("-", "_")
STATIC = "3b1f0e9d8c7b6a5948372615f4e3d2c1"
UUID = "12345678-9abc-4def-8123-456789abcdef"

MANAGER = "/user.slice/user-1000.slice/user@1000.service"
ALICE = "user@1000.service"
MINE = f"{MANAGER}/user.slice"
SCOPE = f"/system.slice/docker-{WEB}.scope"
BURST = "/kubepods.slice/kubepods-burstable.slice"
POD = f"{BURST}/kubepods-burstable-pod{UID_}.slice"
KIND = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"
KIND_POD = f"{KIND}/kubelet-kubepods-besteffort-pod{UID_}.slice"


class Vector(NamedTuple):
    what: str
    path: str
    place: Place


def host(what: str, path: str, unit: str = "") -> Vector:
    return Vector(what, path, Place("host", (), unit, ""))


def helper(what: str, path: str, unit: str = "") -> Vector:
    return Vector(what, path, Place("host", (), unit, "", helper=True))


def unknown(what: str, path: str, unit: str = "") -> Vector:
    return Vector(what, path, Place("unknown", (), unit, ""))


class Box(NamedTuple):
    """A container as expected; ``path`` is relative to the one around it."""

    runtime: str
    path: str
    id: str = WEB
    name: str = ""
    pod: str = ""


def inside(what: str, *boxes: Box, payload: str = "", unit: str = "") -> Vector:
    path, chain = "", []
    for box in boxes:
        path += box.path
        chain.append(Found(box.runtime, box.id, box.name, box.pod, path))
    return Vector(what, path + payload, Place("container", tuple(chain), unit, payload))


def lxc(name: str, layout: str = "/lxc.payload.{}") -> Box:
    return Box("lxc", layout.format(name), name, name)


def docker() -> Iterator[Vector]:
    scope = f"/docker-{WEB}.scope"
    own = Box("docker", "/system.slice" + scope)
    yield inside("systemd driver", own)
    yield inside("a payload that runs systemd: init", own, payload="/init.scope")
    yield inside("a payload that runs systemd: a unit", own, payload="/system.slice/nginx.service")
    yield inside("another parent slice", Box("docker", "/tenants.slice/tenants-blue.slice" + scope))
    yield inside("no parent slice", Box("docker", scope))
    yield inside("a slice of a user's, made by root", Box("docker", "/user.slice/user-1000.slice" + scope))
    yield inside("a path that no tracepoint takes whole", own, payload=f"/{'x' * 110}" * 9)
    yield inside("rootless", Box("docker", f"{MINE}{scope}"), unit=ALICE)
    yield inside("rootless, payload", Box("docker", f"{MINE}{scope}"), payload="/x", unit=ALICE)
    yield inside("cgroupfs driver", Box("docker", f"/docker/{WEB}"))
    yield inside("cgroupfs driver, payload", Box("docker", f"/docker/{WEB}"), payload="/init")
    yield inside("a job of a runner", Box("docker", f"/actions_job/{WEB}"))
    yield unknown("cgroupfs driver, a parent of its own", f"/tenants/{WEB}")
    yield unknown(
        "a step of a build, systemd driver", "/system.slice/system.slice:docker:k3v9x1q8w5z7r2t6y4u0p1a8s"
    )
    yield unknown("a step of a build, cgroupfs driver", "/docker/buildkit/k3v9x1q8w5z7r2t6y4u0p1a8s")


def kubernetes() -> Iterator[Vector]:
    names = (("containerd", "cri-containerd"), ("cri-o", "crio"), ("docker", "docker"))
    for qos in ("besteffort", "burstable", ""):
        stem, level = (f"kubepods-{qos}", f"/kubepods-{qos}.slice") if qos else ("kubepods", "")
        group = f"/kubepods/{qos}" if qos else "/kubepods"
        kind = qos or "guaranteed"
        for pod, written in ((UID, UID_), (STATIC, STATIC)):
            own = "static pod" if pod == STATIC else "pod"
            parent = f"/kubepods.slice{level}/{stem}-pod{written}.slice"
            for runtime, prefix in names:
                box = Box(runtime, f"{parent}/{prefix}-{WEB}.scope", pod=pod)
                yield inside(f"{prefix}, systemd driver, {kind}, {own}", box)
            box = Box("", f"{group}/pod{pod}/{WEB}", pod=pod)
            yield inside(f"containerd or cri-dockerd, cgroupfs driver, {kind}, {own}", box)
            box = Box("cri-o", f"{group}/pod{pod}/crio-{WEB}", pod=pod)
            yield inside(f"cri-o, cgroupfs driver, {kind}, {own}", box)
            mixed = f"/{stem}-pod{written}.slice:cri-containerd:{WEB}"
            yield inside(f"mixed drivers, {kind}, {own}", Box("containerd", mixed, pod=pod))
            yield host(f"the slice of a {own}, {kind}", parent)
    mixed = f"/kubepods-burstable-pod{UID_}.slice:cri-containerd:{WEB}"
    service = Box("containerd", f"/system.slice/containerd.service{mixed}", pod=UID)
    yield inside("mixed drivers, v1", service, unit="containerd.service")
    yield inside("mixed drivers, v2", Box("containerd", "/system.slice" + mixed, pod=UID))
    yield inside("mixed drivers, in its slice", Box("containerd", BURST + mixed, pod=UID))
    crio = Box("cri-o", f"{POD}/crio-{WEB}.scope", pod=UID)
    yield inside("cri-o, a payload that runs systemd", crio, payload="/container")
    yield inside("cri-o, no pod's slice", Box("cri-o", f"/system.slice/crio-{WEB}.scope"))
    yield inside("containerd, no pod's slice", Box("containerd", f"/system.slice/cri-containerd-{WEB}.scope"))
    yield inside("--cgroup-root", Box("containerd", f"{KIND_POD}/cri-containerd-{WEB}.scope", pod=UID))
    yield inside("--cgroup-root, cgroupfs", Box("", f"/kubelet/kubepods/burstable/pod{UID}/{WEB}", pod=UID))
    yield unknown("a pod's cgroup, cgroupfs driver", f"/kubepods/burstable/pod{UID}")
    yield unknown("an unknown QoS level", f"/kubepods/gold/pod{UID}/{WEB}")
    yield unknown("a uid too short", f"/kubepods/burstable/pod{UID[:-1]}/{WEB}")
    yield unknown("a uid in capitals", f"/kubepods/burstable/pod{UID.upper()}/{WEB}")
    yield unknown("a static uid too short", f"/kubepods/burstable/pod{STATIC[:-1]}/{WEB}")
    yield unknown("a uid with _ in a cgroupfs path", f"/kubepods/burstable/pod{UID_}/{WEB}")


def podman() -> Iterator[Vector]:
    scope = f"/libpod-{WEB}.scope"
    pod = f"machine-libpod_pod_{GROUP}.slice"
    quadlet = f"/libpod-payload-{WEB}"
    own = Box("podman", f"/machine.slice{scope}")
    web = Box("podman", f"/system.slice/web.service{quadlet}")
    yield inside("root", own)
    yield inside("root, systemd inside", own, payload="/container")
    yield inside("root, another parent slice", Box("podman", "/tenants.slice" + scope))
    yield inside("root, in a pod: it is none of Kubernetes'", Box("podman", f"/machine.slice/{pod}{scope}"))
    yield inside("root, quadlet", web, unit="web.service")
    yield inside("root, quadlet, payload", web, payload="/init.scope", unit="web.service")
    yield inside(
        "root, quadlet, a template",
        Box("podman", f"/system.slice/system-web.slice/web@a.service{quadlet}"),
        unit="web@a.service",
    )
    yield inside("root, cgroupfs driver", Box("podman", f"/libpod_parent/libpod-{WEB}"))
    yield inside("root, cgroupfs driver, in a pod", Box("podman", f"/libpod_parent/{GROUP}/libpod-{WEB}"))
    yield inside("rootless", Box("podman", f"{MINE}{scope}"), unit=ALICE)
    yield inside("rootless, payload", Box("podman", f"{MINE}{scope}"), payload="/container", unit=ALICE)
    yield inside(
        "rootless, in a pod", Box("podman", f"{MINE}/user-libpod_pod_{GROUP}.slice{scope}"), unit=ALICE
    )
    yield inside("rootless, quadlet", Box("podman", f"{MANAGER}/app.slice/web.service{quadlet}"), unit=ALICE)
    yield inside(
        "rootless, quadlet, deeper",
        Box("podman", f"{MANAGER}/app.slice/app-web.slice/web@1.service{quadlet}"),
        unit=ALICE,
    )
    yield unknown("podman run --cgroups=disabled", f"{MINE}/podman-6696.scope", ALICE)


def others() -> Iterator[Vector]:
    yield inside("nerdctl", Box("containerd", f"/system.slice/nerdctl-{WEB}.scope"))
    yield inside("nerdctl, rootless", Box("containerd", f"{MINE}/nerdctl-{WEB}.scope"), unit=ALICE)
    yield unknown("nerdctl, cgroupfs driver", f"/default/{WEB}")
    yield unknown("ctr", "/default/redis")
    yield unknown("ctr in containerd's namespace for Kubernetes", "/k8s.io/debug")
    yield unknown("runc, cgroupfs driver", "/mycontainer")
    yield unknown("runc, cgroupfs driver, from a session", "/user.slice/user-0.slice/mycontainer")
    yield unknown(
        "runc, v1, session", "/user.slice/user-0.slice/session-3.scope/mycontainer", "session-3.scope"
    )
    yield unknown("runc, systemd driver", "/system.slice/runc-mycontainer.scope", "runc-mycontainer.scope")
    yield unknown("crun, systemd driver", "/system.slice/crun-box.scope", "crun-box.scope")
    yield unknown("crun, rootless", f"{MINE}/crun-box.scope", ALICE)
    for what, name in (("LXC", "web"), ("Incus", "shop_web"), ("odd", "W.e_b-1@x:+")):
        yield inside(what, lxc(name))
        yield inside(f"{what}, older", lxc(name, "/lxc.payload/{}"))
        yield inside(f"{what}, oldest", lxc(name, "/lxc/{}"))
        yield helper(f"{what}, monitor", f"/lxc.monitor.{name}")
        yield helper(f"{what}, older, monitor", f"/lxc.monitor/{name}")
    yield inside("LXC, init", lxc("web"), payload="/init.scope")
    yield inside("LXC, a command run in it", lxc("web"), payload="/.lxc")
    yield inside("Proxmox", lxc("101", "/lxc/{}"), payload="/ns/init.scope")
    for unit in ("web.service", "web.scope", "web.slice", "a\\b.service", r"a\x2db"):
        yield inside(f"LXC named {unit}", lxc(unit))
        yield helper(f"LXC named {unit}, monitor", f"/lxc.monitor.{unit}")
    yield unknown("LXC, unprivileged", f"{MANAGER}/app.slice/run-u7.scope/lxc.payload.web", ALICE)
    yield unknown("LXC with a directory of its own", "/tenants/lxc.payload.web")
    libvirt = Box("libvirt-lxc", r"/machine.slice/machine-lxc\x2d12\x2dweb\x2d1.scope", "lxc-12-web-1")
    yield inside("libvirt-lxc", libvirt)
    yield inside("libvirt-lxc, v2", libvirt, payload="/libvirt")
    yield inside("libvirt-lxc, payload", libvirt, payload="/libvirt/init.scope")
    yield inside("libvirt-lxc, cgroupfs", Box("libvirt-lxc", "/machine/web.libvirt-lxc", "web"))
    yield helper(
        "a virtual machine", r"/machine.slice/machine-qemu\x2d3\x2dvm.scope", r"machine-qemu\x2d3\x2dvm.scope"
    )
    machine = r"machine-qemu\x2d3\x2dvm\x2d1.scope"
    for part in ("", "/emulator", "/vcpu0", "/iothread12"):
        yield helper(f"a virtual machine, libvirt{part}", f"/machine.slice/{machine}/libvirt{part}", machine)
    yield unknown("a virtual machine, below", f"/machine.slice/{machine}/x", machine)
    yield helper("a virtual machine, cgroupfs", "/machine/qemu-3-vm.libvirt-qemu/vcpu1")


def nspawn() -> Iterator[Vector]:
    for written, name in (
        ("web", "web"),
        (r"web\x2d1", "web-1"),
        ("web.example", "web.example"),
        ("w_1", "w_1"),
    ):
        scope = f"machine-{written}.scope"
        service = f"systemd-nspawn@{written}.service"
        for unit in (scope, service):
            own = Box("nspawn", f"/machine.slice/{unit}/payload", name, name)
            yield inside(f"{unit}", own, unit=unit)
            yield inside(f"{unit}, init", own, unit=unit, payload="/init.scope")
            yield helper(f"{unit}, supervisor", f"/machine.slice/{unit}/supervisor", unit)
    yield inside(
        "as typed",
        Box("nspawn", "/machine.slice/systemd-nspawn@web-1.service/payload", "web-1", "web-1"),
        unit="systemd-nspawn@web-1.service",
    )
    yield host("early", "/machine.slice/systemd-nspawn@web.service", "systemd-nspawn@web.service")
    yield unknown("a scope of v1", "/machine.slice/machine-web.scope", "machine-web.scope")
    yield unknown("an escape", r"/machine.slice/machine-we\x0ab.scope/payload", r"machine-we\x0ab.scope")
    yield unknown(
        "a name too long", f"/machine.slice/machine-{'a' * 65}.scope/payload", f"machine-{'a' * 65}.scope"
    )
    yield unknown("nspawn below another service", "/system.slice/web.service/payload", "web.service")


def nested() -> Iterator[Vector]:
    outer = Box("docker", f"/system.slice/docker-{NODE}.scope", NODE)
    group = Box("docker", f"/docker/{NODE}", NODE)
    yield inside("Docker in Docker", outer, Box("docker", SCOPE))
    yield inside("Docker in Docker, cgroupfs driver", group, Box("docker", f"/docker/{WEB}"))
    yield inside("Docker in Docker, mixed", outer, Box("docker", f"/docker/{WEB}"), payload="/x")
    yield inside("kind", outer, Box("containerd", f"{KIND_POD}/cri-containerd-{WEB}.scope", pod=UID))
    yield inside("kind, v1", group, Box("", f"/kubelet/kubepods/besteffort/pod{UID}/{WEB}", pod=UID))
    yield inside("kind, a unit of the node", outer, payload="/system.slice/containerd.service")
    yield inside(
        "kind in rootless Podman",
        Box("podman", f"{MINE}/libpod-{NODE}.scope", NODE),
        Box("containerd", f"/container{KIND_POD}/cri-containerd-{WEB}.scope", pod=UID),
        unit=ALICE,
    )
    yield inside("minikube", outer, Box("docker", f"{POD}/docker-{WEB}.scope", pod=UID))
    yield inside("minikube, cgroupfs driver", group, Box("", f"/kubepods/pod{STATIC}/{WEB}", pod=STATIC))
    yield inside(
        "Podman in Podman",
        Box("podman", f"/machine.slice/libpod-{NODE}.scope", NODE),
        Box("podman", f"/container/machine.slice/libpod-{WEB}.scope"),
    )
    yield inside("rootless in Docker", outer, Box("podman", f"{MINE}/libpod-{WEB}.scope"))
    yield inside("Docker in LXC", lxc("ci"), Box("docker", SCOPE))
    yield inside("LXC named as a slice", lxc("ci.slice"), Box("docker", f"/docker-{WEB}.scope"))
    yield inside("Docker in Incus", lxc("shop_ci"), Box("docker", f"/docker/{WEB}"))
    yield inside(
        "Docker in Proxmox", lxc("101", "/lxc/{}"), Box("docker", f"/ns/system.slice/docker-{WEB}.scope")
    )
    yield inside("LXC in Incus", lxc("ci"), lxc("in"))
    yield inside(
        "Docker in nspawn",
        Box("nspawn", "/machine.slice/systemd-nspawn@ci.service/payload", "ci", "ci"),
        Box("docker", SCOPE),
        unit="systemd-nspawn@ci.service",
    )
    yield inside(
        "Docker in libvirt-lxc",
        Box("libvirt-lxc", r"/machine.slice/machine-lxc\x2d1\x2dci.scope", "lxc-1-ci"),
        Box("docker", f"/libvirt/system.slice/docker-{WEB}.scope"),
    )
    yield inside(
        "three deep",
        lxc("ci"),
        Box("docker", f"/docker/{NODE}", NODE),
        Box("containerd", f"{POD}/cri-containerd-{DB}.scope", DB, pod=UID),
        payload="/y",
    )


def units() -> Iterator[Vector]:
    yield host("the root", "/")
    yield host("init", "/init.scope", "init.scope")
    for path in ("/system.slice", "/user.slice", "/user.slice/user-1000.slice", "/machine.slice", BURST):
        yield host("a slice", path)
    yield host("a service", "/system.slice/sshd.service", "sshd.service")
    yield host("a service in no slice", "/sshd.service", "sshd.service")
    yield host(
        "a service of a template", "/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"
    )
    yield host("a name with an escape", r"/system.slice/a\x2db.service", r"a\x2db.service")
    yield host("a name that systemd marks", "/system.slice/_cpu.service", "cpu.service")
    yield host("a name that begins with the mark", "/system.slice/__x.service", "_x.service")
    yield host("a slice that systemd marks", "/_memory.slice/memory-a.slice/x.service", "x.service")
    for unit in ("boot.mount", "ssh.socket", "dev-sda2.swap"):
        yield host("another type of unit", f"/system.slice/{unit}", unit)
    yield host("udev's workers", "/system.slice/systemd-udevd.service/udev", "systemd-udevd.service")
    yield host("a command of a delegated unit", "/system.slice/web.service/.control", "web.service")
    yield host("a session", "/user.slice/user-1000.slice/session-3.scope", "session-3.scope")
    yield host("a greeter's session", "/user.slice/user-117.slice/session-c1.scope", "session-c1.scope")
    yield host("a user's manager", MANAGER, ALICE)
    user = (
        "/init.scope",
        "/app.slice",
        "/app.slice/gpg-agent.service",
        "/dbus.service",
        "/.control",
        r"/app.slice/app-gnome\x2dterminal-77.scope",
        f"/app.slice/tmux-spawn-{UUID}.scope",
        f"/app.slice/app-org.gnome.Terminal.slice/vte-spawn-{UUID}.scope",
        f"/app.slice/snap.firefox.firefox-{UUID}.scope",
        "/app.slice/run-u7.scope",
        f"/app.slice/run-r{STATIC}.scope",
        "/app.slice/run-p812-i4.scope",
        "/app.slice/web.service/.control",
    )
    for path in user:
        yield host("a user's unit", MANAGER + path, ALICE)
    for scope in (f"run-r{STATIC}.scope", "run-u42.scope", "run-p812-i1012.scope"):
        yield host("systemd-run", f"/system.slice/{scope}", scope)
    conmon = f"libpod-conmon-{WEB}.scope"
    yield helper("conmon, root", f"/machine.slice/{conmon}", conmon)
    yield helper(
        "conmon, root, in a pod", f"/machine.slice/machine-libpod_pod_{GROUP}.slice/{conmon}", conmon
    )
    yield helper("conmon, cgroupfs driver", "/libpod_parent/conmon")
    yield helper("conmon, cgroupfs driver, in a pod", f"/libpod_parent/{GROUP}/conmon")
    yield helper("conmon, quadlet", "/system.slice/web.service/runtime", "web.service")
    yield helper("conmon, rootless", f"{MINE}/{conmon}", ALICE)
    yield helper("conmon, rootless, quadlet", f"{MANAGER}/app.slice/web.service/runtime", ALICE)
    for scope in ("podman-pause-5517ab11", "podman-pause-9141885347830502205", "rootless-netns-5517ab11"):
        yield helper("a helper of rootless Podman", f"{MINE}/{scope}.scope", ALICE)
    for parent in (POD, "/system.slice"):
        yield helper("conmon, CRI-O", f"{parent}/crio-conmon-{WEB}.scope", f"crio-conmon-{WEB}.scope")
        yield helper(
            "a pull of CRI-O's", f"{parent}/crio-pull-image-2711.scope", "crio-pull-image-2711.scope"
        )
    yield helper("conmon, CRI-O, cgroupfs driver", f"/kubepods/burstable/pod{UID}/crio-conmon-{WEB}")
    yield helper("LXC's pivot", "/lxc.pivot")


def forged() -> Iterator[Vector]:
    """Names that somebody without the host's root can give to cgroups of his own."""
    root = (
        SCOPE,
        f"{POD}/cri-containerd-{WEB}.scope",
        f"{POD}/crio-{WEB}.scope",
        f"/docker/{WEB}",
        f"/actions_job/{WEB}",
        f"/kubepods/burstable/pod{UID}/{WEB}",
        "/lxc.payload.web",
        f"/lxc/{WEB}",
        "/machine.slice/machine-web.scope/payload",
        f"/libpod_parent/libpod-{WEB}",
        f"/containerd.service/kubepods-pod{UID_}.slice:cri-containerd:{WEB}",
        "/machine/web.libvirt-lxc",
        "/lxc.monitor.web",
        "/libpod_parent/conmon",
    )
    for path in root:
        below = f"{MANAGER}/app.slice/web.service"
        if path != SCOPE:  # that one is rootless Docker's: the next vector
            yield unknown("below a user's manager", MANAGER + path, ALICE)
        yield unknown("below a user's service", below + path, ALICE)
        yield unknown("below a service", f"/system.slice/web.service{path}", "web.service")
        yield unknown("below a scope", f"/system.slice/web-1.scope{path}", "web-1.scope")
        yield unknown("below any cgroup", f"/mine{path}")
        if ".s" not in path:
            yield unknown("below a slice", f"/system.slice{path}")
    yield inside("a user's own claim", Box("docker", f"{MANAGER}{POD}/docker-{WEB}.scope"), unit=ALICE)
    yield unknown("a session's scope elsewhere", "/system.slice/session-3.scope", "session-3.scope")
    yield unknown("a manager in a manager", f"{MANAGER}{MINE}/libpod-{WEB}.scope", ALICE)
    yield unknown("below a user's scope", f"{MANAGER}/app.slice/app-x.scope/libpod-{WEB}.scope", ALICE)
    yield unknown(
        "below a helper",
        f"/machine.slice/libpod-conmon-{WEB}.scope/docker/{DB}",
        f"libpod-conmon-{WEB}.scope",
    )
    yield unknown("below a monitor", f"/lxc.monitor.web/docker/{WEB}")
    own = Box("docker", SCOPE)
    lies = (
        f"/libpod-conmon-{DB}.scope",
        f"/machine.slice/libpod-conmon-{DB}.scope",
        "/supervisor",
        "/conmon",
        "/lxc.monitor.web",
        f"/crio-conmon-{DB}.scope",
        "/system.slice/sshd.service",
        "/runtime",
        "/user.slice/user-0.slice/session-1.scope",
        *(f"/{name}/docker/{DB}" for name in ("as", "boundary", "somewhere")),
        f"/web.service/docker/{DB}",
        "/host",
        f"/docker-{DB[:-1]}.scope",
        f"/{MANAGER[1:]}/lxc.payload.web",
    )
    for path in lies:
        yield inside("a container that plays the host", own, payload=path)
    yield inside("plays a second", own, Box("docker", f"/system.slice/docker-{DB}.scope", DB))
    nspawn = Box("nspawn", "/machine.slice/machine-web.scope/payload", "web", "web")
    yield inside(
        "nspawn's payload plays its supervisor", nspawn, payload="/supervisor", unit="machine-web.scope"
    )
    libvirt = Box("libvirt-lxc", r"/machine.slice/machine-lxc\x2d1\x2dweb.scope", "lxc-1-web")
    yield inside("libvirt's plays nspawn's supervisor", libvirt, payload="/supervisor")
    yield inside("libvirt's plays nspawn's payload", libvirt, payload="/payload")
    quadlet = Box("podman", f"/system.slice/web.service/libpod-payload-{WEB}")
    yield inside("a quadlet's payload plays conmon", quadlet, payload="/runtime", unit="web.service")


def malformed() -> Iterator[Vector]:
    ids = {
        "63 digits": WEB[:-1],
        "65 digits": WEB + "0",
        "12 digits": WEB[:12],
        "capitals": WEB.upper(),
        "no hex": "g" + WEB[1:],
        "empty": "",
        "a newline": WEB + "\n",
        "other digits": "٣" + WEB[1:],
        "space": WEB + " ",
        "a surrogate": WEB[:-1] + "\udcff",
    }
    for what, ident in ids.items():
        scope = f"docker-{ident}.scope"
        valid = what in {"63 digits", "65 digits", "12 digits", "capitals", "no hex", "empty"}
        yield unknown(f"{what}, scope", f"/system.slice/{scope}", scope if valid else "")
        yield unknown(f"{what}, cgroupfs", f"/docker/{ident}x" if not ident else f"/docker/{ident}")
        yield unknown(f"{what}, Podman", f"/libpod_parent/libpod-{ident}")
    yield unknown("the whole name as the id", f"/docker/cri-containerd-{WEB}.scope")
    yield unknown("a prefix before it", f"/system.slice/xdocker-{WEB}.scope", f"xdocker-{WEB}.scope")
    yield unknown("more behind it", f"/system.slice/docker-{WEB}.scope.d")
    yield unknown("a removed cgroup as /proc shows it", f"/docker/{WEB} (deleted)")
    yield unknown("nothing", "")
    for path in (
        "docker",
        f"docker/{WEB}",
        f"//docker/{WEB}",
        f"/docker//{WEB}",
        f"/docker/{WEB}/",
        f"/./docker/{WEB}",
        f"/docker/../docker/{WEB}",
        "/..",
        "/../..",
        f"/../../docker/{WEB}",
        "/../docker-x.scope",
        "/.",
        f"/docker/{WEB}/../x",
        "//",
        f"\n/docker/{WEB}",
        f"/docker/{WEB}/\0",
    ):
        yield unknown(f"unclean: {path[:20]!r}", path)
    yield unknown("over-long", f"/docker/{WEB}" + "/x" * 2048)
    yield unknown("a component over-long", f"/docker/{WEB}/" + "x" * 256)
    yield unknown("a newline before the end", "/system.slice/sshd.service\n")
    yield unknown("a newline behind init", "/init.scope\n")
    yield unknown("a newline in a unit", "/system.slice/ss\nhd.service")
    yield unknown("a slice with a newline", f"/sys\ntem.slice/docker-{WEB}.scope")
    yield unknown("bytes in a unit", "/system.slice/\udcffx.service")
    yield unknown("bytes", "/\udcff\udcfe")
    yield unknown("a control character in LXC's name", "/lxc.payload.we\x1bb")
    yield unknown("bytes in LXC's name", "/lxc.payload.we\udcffb")
    yield unknown("digits of another script", "/user.slice/user-1000.slice/session-٣.scope")
    yield unknown("a user of another script", "/user.slice/user-٣.slice/session-3.scope")
    yield unknown("a slice that cannot be here", f"/system.slice/tenants-blue.slice/docker-{WEB}.scope")
    yield unknown("a slice in one of another name", f"/system.slice/tenants.slice/docker-{WEB}.scope")
    yield unknown("a slice with dashes at the root", f"/tenants-blue.slice/docker-{WEB}.scope")
    yield unknown(
        "a pod's slice at the root", f"/kubepods-burstable-pod{UID_}.slice/cri-containerd-{WEB}.scope"
    )
    yield unknown("a slice whose name ends with the dash", f"/a.slice/a-.slice/docker-{WEB}.scope")
    yield unknown("a service without a name", "/system.slice/.service")
    yield unknown("any other cgroup", "/openrc.sshd")
    own = Box("docker", f"/docker/{WEB}")
    yield inside("a payload with a newline", own, payload="/a\nb")
    yield inside("a payload with bytes", own, payload="/\udcff")
    yield inside("a payload (deleted)", own, payload="/x (deleted)")


VECTORS = tuple(
    vector
    for group in (docker, kubernetes, podman, others, nspawn, nested, units, forged, malformed)
    for vector in group()
)
