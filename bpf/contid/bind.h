/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Cgroups that an identifier is bound to: who comes into one, or into one below, takes it. */
#ifndef AUDIT_ENRICHER_CONTID_BIND_H
#define AUDIT_ENRICHER_CONTID_BIND_H

#include "core_fixes.h"
#include "store.h"

#define BOUND_ABOVE 16 /* as deep below a bound cgroup as is looked for it */

/* What the cgroup of this node is bound to, or the closest one above it; 0 for none. */
VERIFIED_ALONE __u64 bound_to(__u64 node)
{
	const struct kernfs_node *kn = (const void *)node;

	for (int i = 0; i < BOUND_ABOVE && kn; i++) {
		__u64 id = BPF_CORE_READ(kn, id);
		const __u64 *bound = bpf_map_lookup_elem(&contid_bound, &id);

		if (bound)
			return *bound;
		kn = kernfs_parent(kn);
	}
	return 0;
}

/* Whether contid is nested in the other one, or is it. */
VERIFIED_ALONE int is_within(__u64 contid, __u64 outer)
{
	const struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);

	if (!id)
		return 0;
	for (int i = 0; i < CONTID_DEPTH; i++)
		if (id->chain[i] == outer)
			return 1;
	return 0;
}

/* A process came into a bound cgroup; tells so. */
VERIFIED_ALONE int tell_bound(__u64 contid, __u64 old, __u32 opid, __u32 result)
{
	const struct contid_id *had = old ? bpf_map_lookup_elem(&contid_ids, &old) : 0;
	struct contid_event *event = begin_op(CONTID_SET, opid);

	if (!event)
		return 0;
	event->contid = contid;
	event->orchestrator = 1;
	event->result = result;
	if (had) {
		__builtin_memcpy(event->old, had->chain, sizeof(event->old));
		event->old_depth = had->depth;
	}
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/*
 * What a task that is made right into a cgroup has; own is what it would have else. Into a cgroup of its own
 * identifier, or of one that its own is nested in, changes nothing. One that has another keeps it, which is
 * told.
 */
static __always_inline __u64 contid_of_cgroup(const struct task_struct *child, __u64 own)
{
	__u64 bound;

	if (cgroup_hierarchy)
		return own; /* a task is made into cgroups of v2 only, and those are not watched */
	bound = bound_to((__u64)BPF_CORE_READ(child, cgroups, dfl_cgrp, kn));
	if (!bound || (own && is_within(own, bound)))
		return own;
	if (own && !is_within(bound, own)) {
		tell_bound(bound, own, BPF_CORE_READ(child, tgid), EEXIST);
		return own;
	}
	tell_bound(bound, own, BPF_CORE_READ(child, tgid), 0);
	return bound;
}

#endif
