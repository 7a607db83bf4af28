// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * A process that is attached to a bound cgroup takes its identifier: `podman exec` and health checks, which
 * no hook of a runtime tells of. A process that has one keeps it: only what is set for it by request is ever
 * replaced.
 */
#include "bind.h"
#include "store.h"

VERIFIED_ALONE int take(__u64 contid, __u64 start, __u32 tgid)
{
	struct contid_key key = {};
	__u64 old;

	key.start = start;
	key.tgid = tgid;
	old = contid_of(&key);
	if (old) {
		if (!is_within(old, contid))
			tell_bound(contid, old, tgid, EEXIST);
		return 0;
	}
	if (join(contid)) /* it has just ended */
		return 0;
	if (!bpf_map_update_elem(&contid_tasks, &key, &contid, BPF_NOEXIST)) {
		tell_bound(contid, 0, tgid, 0);
		return 1;
	}
	/* It is being set this moment, or there is no room. */
	put_id(contid, tgid, 1);
	if (bpf_map_lookup_elem(&contid_tasks, &key)) {
		tell_bound(contid, 0, tgid, EBUSY);
	} else {
		CONTID_COUNT(full_tasks);
		tell_bound(contid, 0, tgid, ENOSPC);
	}
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(contid_attached, struct cgroup *to, const char *path, struct task_struct *task)
{
	struct contid_key key;
	__u64 contid;

	if ((__u32)BPF_CORE_READ(to, root, hierarchy_id) != cgroup_hierarchy)
		return 0;
	contid = bound_to((__u64)BPF_CORE_READ(to, kn));
	if (!contid)
		return 0;
	key = key_of(task);
	/* Its last thread may have left before: then nobody else would take the entry away. */
	if (take(contid, key.start, key.tgid) && !BPF_CORE_READ(task, signal, live.counter) &&
	    !bpf_map_delete_elem(&contid_tasks, &key))
		put_id(contid, key.tgid, 1);
	return 0;
}
