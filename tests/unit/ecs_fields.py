# SPDX-License-Identifier: Apache-2.0
"""Fields of the Elastic Common Schema 9.4.0: those that our table uses, their types, and the words events choose from.

Written down from the published definitions; ``make soak-schemas`` compares them with the package `@elastic/ecs` of that
version. ``[]``: the field holds several values.
"""

from __future__ import annotations

_BY_TYPE = {
    "date": """
        @timestamp
    """,
    "ip": """
        destination.ip source.ip
    """,
    "keyword": """
        container.id container.image.name container.name container.runtime destination.address ecs.version
        error.code event.action event.dataset event.id event.kind event.module event.original event.outcome
        file.directory file.extension file.gid file.group file.inode file.mode file.name file.owner file.path
        file.target_path file.type file.uid group.id group.name host.boot.id host.hostname host.id host.name
        host.pid_ns_ino network.transport network.type orchestrator.namespace orchestrator.resource.id
        orchestrator.resource.name orchestrator.resource.type orchestrator.type process.entity_id
        process.executable process.name process.title process.working_directory source.address
        user.effective.group.id user.effective.group.name user.effective.id user.effective.name user.group.id
        user.group.name user.id user.name user.target.id user.target.name
    """,
    "keyword[]": """
        container.image.tag event.category event.type process.args tags
    """,
    "long": """
        destination.port event.sequence process.args_count process.parent.pid process.pid process.thread.id
        process.vpid source.port
    """,
    "match_only_text": """
        message
    """,
    "object": """
        container.labels
    """,
    "wildcard": """
        process.command_line
    """,
}
FIELDS = {name: kind for kind, names in _BY_TYPE.items() for name in names.split()}

KINDS = frozenset("alert asset enrichment event metric state pipeline_error signal".split())
OUTCOMES = frozenset("failure success unknown".split())
CATEGORIES = {
    name: frozenset(types.split())
    for name, types in {
        "authentication": "start end info",
        "configuration": "access change creation deletion info",
        "driver": "change end info start",
        "file": "access change creation deletion info",
        "host": "access change end info start",
        "iam": "admin change creation deletion group info user",
        "intrusion_detection": "allowed denied info",
        "network": "access allowed connection denied end info protocol start",
        "package": "access change deletion info installation start",
        "process": "access change end info start",
        "session": "start end info",
    }.items()
}
"""The categories that we use, with the types that each expects."""
