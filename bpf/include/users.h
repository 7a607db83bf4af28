/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How a user namespace numbers users and groups: told once for each state of its maps, before the first
 * message about a task in it. The kernel keeps the lower ids of an extent as the initial user namespace has
 * them, however deep the namespace is (map_write() in kernel/user_namespace.c): no map above is needed.
 */
#ifndef AUDIT_ENRICHER_USERS_H
#define AUDIT_ENRICHER_USERS_H

#include "emit.h"
#include "task.h"

#ifdef WITHOUT_LIVES /* the build by bcc, where no program says when a number is given back */

static __always_inline void tell_users(const struct task_struct *task)
{
}

#else

static __always_inline void forget_users(__u32 inum)
{
	bpf_map_delete_elem(&told_users, &inum);
}

/* Everything but the extents. */
static __always_inline void fill_users(struct users_event *event, const struct user_namespace *ns, __u32 inum,
				       const struct told_users *now, __u32 size)
{
	const struct user_namespace *above = BPF_CORE_READ(ns, parent);

	fill_header(&event->header, EVENT_USERS, size);
	event->inum = inum;
	event->level = BPF_CORE_READ(ns, level);
	event->owner_uid = BPF_CORE_READ(ns, owner.val);
	event->owner_gid = BPF_CORE_READ(ns, group.val);
	event->uid_count = now->uids;
	event->gid_count = now->gids;
	event->pad = 0;
	__builtin_memset(event->above, 0, sizeof(event->above));
	__builtin_memset(event->unique, 0, sizeof(event->unique));
	event->unique[0] = now->unique;
	__builtin_memset(event->uid, 0, sizeof(event->uid));
	__builtin_memset(event->gid, 0, sizeof(event->gid));
	for (int i = 0; i < USERS_LEVELS && above; i++) {
		event->above[i] = BPF_CORE_READ(above, ns.inum);
		event->unique[i + 1] = ns_id(__builtin_preserve_access_index(&above->ns));
		above = BPF_CORE_READ(above, parent);
	}
}

/* count extents of a map, wherever it has them; to has room for most. Returns 0, or what the read failed
 * with. */
static __always_inline long read_extents(struct id_extent *to, const struct uid_gid_map *map, __u64 count,
					 __u64 most)
{
	const void *from = __builtin_preserve_access_index(&map->extent[0]);
	__u64 size = count * sizeof(*to);

	if (count > USERS_EXTENTS)
		from = BPF_CORE_READ(map, forward);
	KEEP_COMPARING(size);
	if (size > most)
		size = most;
	return bpf_probe_read_kernel(to, size, from);
}

#define READ_EXTENTS(to, map, count) read_extents(to, __builtin_preserve_access_index(map), count, sizeof(to))

static __noinline int emit_users(const struct user_namespace *ns, __u32 inum, const struct told_users *now)
{
	void *ring = ring_of_cpu();
	long failed;

	if (!ring)
		return 0;
	if (now->uids <= USERS_EXTENTS && now->gids <= USERS_EXTENTS) {
		struct users_event *event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);

		if (!event)
			goto dropped;
		fill_users(event, ns, inum, now, sizeof(*event));
		failed = READ_EXTENTS(event->uid, &ns->uid_map, now->uids);
		failed |= READ_EXTENTS(event->gid, &ns->gid_map, now->gids);
		if (failed) {
			COUNT(fail_users);
			bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
			return 0;
		}
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	} else {
		struct users_large_event *large = bpf_ringbuf_reserve(ring, sizeof(*large), 0);

		if (!large)
			goto dropped;
		fill_users(&large->u, ns, inum, now, sizeof(*large));
		/* What is left of the room for extents is old: of messages that the reader has had. */
		failed = READ_EXTENTS(large->uid, &ns->uid_map, now->uids);
		failed |= READ_EXTENTS(large->gid, &ns->gid_map, now->gids);
		if (failed) {
			COUNT(fail_users);
			bpf_ringbuf_discard(large, BPF_RB_NO_WAKEUP);
			return 0;
		}
		bpf_ringbuf_submit(large, BPF_RB_NO_WAKEUP);
	}
	COUNT(facts);
	/* Not before: a task on another CPU may rest on it at once. */
	bpf_map_update_elem(&told_users, &inum, now, BPF_ANY);
	return 0;
dropped:
	COUNT(drop_users);
	return 0;
}

/*
 * To be called before a message about a task is put into a ring; it costs a task of the host three reads. A
 * map that is being written has no extents before it has them all (smp_wmb() in map_write()).
 */
VERIFIED_ALONE int tell_users_of(__u64 of)
{
	const struct task_struct *task = (const void *)of;
	const struct user_namespace *ns;
	const struct cred *cred;
	struct told_users now = {};
	struct told_users *told;
	__u32 inum = 0;

	/* By way of what is there anyway: more than 32 bytes here are 64 of the 512 of all that is called. */
	bpf_core_read(&now.ns, sizeof(now.ns), &task->real_cred);
	cred = (const void *)now.ns;
	bpf_core_read(&now.ns, sizeof(now.ns), &cred->user_ns);
	ns = (const void *)now.ns;
	if (ns)
		bpf_core_read(&inum, sizeof(inum), &ns->level);
	if ((int)inum <= 0)
		return 0;
	bpf_core_read(&inum, sizeof(inum), &ns->ns.inum);
	read_ns_id(&now.unique, __builtin_preserve_access_index(&ns->ns));
	bpf_core_read(&now.uids, sizeof(now.uids), &ns->uid_map.nr_extents);
	bpf_core_read(&now.gids, sizeof(now.gids), &ns->gid_map.nr_extents);
	told = bpf_map_lookup_elem(&told_users, &inum);
	if (!told || told->ns != now.ns || told->unique != now.unique || told->uids != now.uids ||
	    told->gids != now.gids)
		emit_users(ns, inum, &now);
	return 0;
}

static __always_inline void tell_users(const struct task_struct *task)
{
	tell_users_of((__u64)task);
}

#endif

#endif
