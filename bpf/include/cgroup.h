/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * In which cgroup a task is, and the way to its name. User space knows the names of cgroups from the
 * tracepoints (cgroup.bpf.c); where a message of theirs was lost, a walk up the tree tells.
 */
#ifndef AUDIT_ENRICHER_CGROUP_H
#define AUDIT_ENRICHER_CGROUP_H

#include "core_fixes.h"
#include "emit.h"

static __always_inline const struct cgroup *cgroup_of(const struct task_struct *task)
{
	const struct cgroup_subsys_state *css = 0;
	const struct css_set *set;
	const void *slot;

	if (cgroup_subsys == CGROUP_V2)
		return BPF_CORE_READ(task, cgroups, dfl_cgrp);
	set = BPF_CORE_READ(task, cgroups);
	slot = (const void *)__builtin_preserve_access_index(&set->subsys[0]) +
	       cgroup_subsys * sizeof(void *);
	bpf_probe_read_kernel(&css, sizeof(css), slot);
	return css ? BPF_CORE_READ(css, cgroup) : 0;
}

/* The same as an id, 0 where it cannot be read; nobody is told. */
static __always_inline __u64 cgroup_id_of(const struct task_struct *task)
{
	const struct cgroup *cgroup = cgroup_of(task);

	return cgroup ? BPF_CORE_READ(cgroup, kn, id) : 0;
}

static __always_inline void remember_told(__u64 id)
{
	__u8 told = 1;

	bpf_map_update_elem(&told_cgroups, &id, &told, BPF_ANY);
}

#ifdef BUILT_BY_BCC /* it has no variables */

static __always_inline int is_told(__u64 id)
{
	return bpf_map_lookup_elem(&told_cgroups, &id) != 0;
}

#else

/* What is busy is found with one load; an id is never given out again. */
static __always_inline int is_told(__u64 id)
{
	__u64 *last = &told_last[id % TOLD_LAST];

	if (*last == id)
		return 1;
	if (!bpf_map_lookup_elem(&told_cgroups, &id))
		return 0;
	*last = id;
	return 1;
}

#endif

VERIFIED_ALONE int walk_cgroup(__u64 node, __u64 id)
{
	const struct kernfs_node *kn = (const void *)node;
	void *ring = ring_of_cpu();
	struct walk_event *walk;

	walk = ring ? bpf_ringbuf_reserve(ring, sizeof(*walk), 0) : NULL;
	if (!walk) {
		if (ring)
			COUNT(drop_cgroup);
		return 0;
	}
	fill_header(&walk->header, EVENT_WALK, sizeof(*walk));
	walk->id = id;
	walk->depth = 0;
	walk->whole = 0;
	walk->pad = 0;
	/* What is left of a name's bytes is old: of messages that the reader has had. */
	for (int i = 0; i < WALK_DEPTH; i++) {
		const struct kernfs_node *parent = kernfs_parent(kn);

		if (!parent) {
			walk->whole = 1;
			break;
		}
		bpf_probe_read_kernel_str(walk->name[i], WALK_NAME, BPF_CORE_READ(kn, name));
		walk->depth = i + 1;
		kn = parent;
	}
	COUNT(cgroups);
	remember_told(id);
	bpf_ringbuf_submit(walk, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * The id of the task's cgroup, 0 where it cannot be read. What user space needs to know of it is in a ring
 * before the caller's message can be.
 */
static __always_inline __u64 tell_cgroup_of(int typed, const struct task_struct *task)
{
	/* In cgroup v1 the way leads by a place that no type tells. */
	const int known = typed && cgroup_subsys == CGROUP_V2;
	__u64 id;

	if (known)
		id = task->cgroups->dfl_cgrp->kn->id;
	else
		id = cgroup_id_of(task);
	if (!id) {
		COUNT(fail_cgroup);
	} else if (!is_told(id)) {
		const struct cgroup *cgroup = cgroup_of(task);

		walk_cgroup((__u64)BPF_CORE_READ(cgroup, kn), id);
	}
	return id;
}

static __always_inline __u64 tell_cgroup(const struct task_struct *task)
{
	return tell_cgroup_of(0, task);
}

#endif
