// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Transitions: which namespaces a task leaves and enters by setns, unshare, clone and exec.
 *
 * setns and unshare are looked at where they begin and where they end, whichever way they go inside: what
 * differs is what was changed, a call that failed half way included. A clone is looked at once, at the
 * task_newtask tracepoint: the child is whole then, and has not run.
 */
#include "acts.h"

#define CHANGES_PER_SECOND 2000 /* on each CPU; a runtime makes some ten for a container */

/* Whether there is one more this second. Two that meet here may count as one: it is a bound, not an account.
 */
static __always_inline int within_limit(void)
{
	__u32 first = 0;
	struct bucket *bucket = bpf_map_lookup_elem(&change_bucket, &first);
	__u64 second = bpf_ktime_get_boot_ns() / 1000000000;

	if (!bucket)
		return 1;
	if (bucket->second != second) {
		bucket->second = second;
		bucket->count = 0;
	}
	return bucket->count++ < CHANGES_PER_SECOND;
}

/* A message to be filled in, or NULL. */
static __always_inline struct change_contid_event *begin_change(void)
{
	struct change_contid_event *event;
	void *ring;

	if (!within_limit()) {
		COUNT(limited_change);
		return 0;
	}
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event && ring)
		COUNT(drop_fact);
	return event;
}

static __always_inline void fill_change(struct change_event *event, __u64 link, __u16 op,
					const struct task_struct *actor)
{
	fill_header(&event->who.c.header, EVENT_CHANGE, sizeof(struct change_contid_event));
	event->link = link;
	event->actor_pid = BPF_CORE_READ(actor, tgid);
	event->actor_tid = BPF_CORE_READ(actor, pid);
	event->op = op;
	event->pad = 0;
}

/* Current is about to change its namespaces. */
static __always_inline int enter_call(void)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = pid ? BPF_CORE_READ(pid, level) : 0;
	__u64 key = (__u64)task;
	struct place place = {};
	struct namespaces to = {place.inum, place.unique, &place.missing};

	if (level >= LEVELS_MAX)
		level = LEVELS_MAX - 1;
	read_namespaces(to, task, pid, level);
	if (bpf_map_update_elem(&places, &key, &place, BPF_ANY))
		COUNT(fail_acts);
	return 0;
}

/* One message where something is another than it was. Returns 1 where that cannot be told. */
VERIFIED_ALONE int tell_change(__u64 link, __u32 op)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	__u64 key = (__u64)task;
	const struct place *place = bpf_map_lookup_elem(&places, &key);
	struct change_contid_event *with;
	struct change_event *event;
	int changed = 0;

	if (!place)
		return 0;
	with = begin_change();
	if (!with)
		return 1;
	event = &with->c;
	fill_facts(&event->who, task);
	fill_change(event, link, op, task);
	event->actor_cgroup = event->who.c.cgroup_id;
	event->before_missing = place->missing;
	__builtin_memcpy(event->before_inum, place->inum, sizeof(place->inum));
	__builtin_memcpy(event->before_unique, place->unique, sizeof(place->unique));
	/* Two namespaces of one kind may have had one inum; then the kernel has no unique ids either, or they
	 * differ. */
#pragma unroll
	for (int i = 0; i < NS_KINDS; i++)
		changed |=
			place->inum[i] != event->who.c.inum[i] || place->unique[i] != event->who.c.unique[i];
	if (changed) {
		fill_actors_chain(&with->contid, task);
		COUNT(facts);
		bpf_ringbuf_submit(with, 0);
	} else {
		bpf_ringbuf_discard(with, BPF_RB_NO_WAKEUP);
	}
	return 0;
}

/* It is through with it. */
static __always_inline int leave_call(__u16 op)
{
	__u64 key = bpf_get_current_task();
	struct act *act;

	if (!bpf_map_lookup_elem(&places, &key))
		return 0;
	act = begin_act((const void *)key);
	if (tell_change(act ? act->link : 0, op) && act)
		act->untold++;
	bpf_map_delete_elem(&places, &key);
	return 0;
}

SEC("fentry/ksys_unshare")
int BPF_PROG(unshare_enter)
{
	return enter_call();
}

SEC("fexit/ksys_unshare")
int BPF_PROG(unshare_leave)
{
	return leave_call(CHANGE_UNSHARE);
}

/* One entry for each way in: system calls of the machine, and of its 32-bit programs. */
#if defined(__TARGET_ARCH_x86)
#define SETNS	"__x64_sys_setns"
#define SETNS32 "__ia32_sys_setns"
#else
#define SETNS	"__arm64_sys_setns"
#define SETNS32 "__arm64_compat_sys_setns"
#endif

SEC("fentry/" SETNS)
int BPF_PROG(setns_enter)
{
	return enter_call();
}

SEC("fexit/" SETNS)
int BPF_PROG(setns_leave)
{
	return leave_call(CHANGE_SETNS);
}

SEC("fentry/" SETNS32)
int BPF_PROG(setns32_enter)
{
	return enter_call();
}

SEC("fexit/" SETNS32)
int BPF_PROG(setns32_leave)
{
	return leave_call(CHANGE_SETNS);
}

/* Where it exists, a task whose children are to be in another time namespace enters that itself at exec. */
SEC("fentry/exec_task_namespaces")
int BPF_PROG(exec_enter)
{
	return enter_call();
}

SEC("fexit/exec_task_namespaces")
int BPF_PROG(exec_leave)
{
	return leave_call(CHANGE_EXEC);
}

/* The number by which the namespace that a task's children are made in counts this pid; 0 where it does not.
 */
static __always_inline __u32 seen_from(const struct pid *pid, const struct pid *caller)
{
	const __u64 stride = bpf_core_type_size(struct upid);
	__u32 level = BPF_CORE_READ(caller, level);
	const struct upid *numbers, *at;

	if (level >= LEVELS_MAX || level > BPF_CORE_READ(pid, level))
		return 0;
	numbers = __builtin_preserve_access_index(&pid->numbers[0]);
	at = (const void *)numbers + level * stride;
	return BPF_CORE_READ(at, nr);
}

/* The child's namespaces may differ from its maker's. Returns 1 where that cannot be told. */
VERIFIED_ALONE int tell_clone(__u64 made, __u64 link)
{
	const struct task_struct *maker = (const void *)bpf_get_current_task();
	const struct pid *pid = BPF_CORE_READ(maker, group_leader, thread_pid);
	__u32 level = pid ? BPF_CORE_READ(pid, level) : 0;
	const struct task_struct *child = (const void *)made;
	struct change_contid_event *with = begin_change();
	struct change_event *event;
	struct namespaces to;

	if (!with)
		return 1;
	event = &with->c;
	if (level >= LEVELS_MAX)
		level = LEVELS_MAX - 1;
	fill_facts(&event->who, child);
	fill_change(event, link, CHANGE_CLONE, maker);
	event->actor_cgroup = tell_cgroup(maker);
	event->before_missing = 0;
	__builtin_memset(event->before_inum, 0, sizeof(event->before_inum));
	__builtin_memset(event->before_unique, 0, sizeof(event->before_unique));
	to = (struct namespaces){event->before_inum, event->before_unique, &event->before_missing};
	read_namespaces(to, maker, pid, level);
	fill_actors_chain(&with->contid, maker);
	COUNT(facts);
	bpf_ringbuf_submit(with, 0);
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(task_made, struct task_struct *child, __u64 clone_flags)
{
	const struct task_struct *maker = (const void *)bpf_get_current_task();
	const struct pid *made = BPF_CORE_READ(child, thread_pid);
	const struct pid *own = BPF_CORE_READ(maker, thread_pid);
	__u32 level, own_level;
	struct act *act = 0;
	int moved;

	if (!made || !own)
		return 0;
	level = BPF_CORE_READ(made, level);
	own_level = BPF_CORE_READ(own, level);
	/*
	 * Inherited as they are, nsproxy and credentials are the maker's own; a pid namespace may be entered
	 * with the same nsproxy, and is one level deeper then.
	 */
	moved = level != own_level || BPF_CORE_READ(child, nsproxy) != BPF_CORE_READ(maker, nsproxy) ||
		BPF_CORE_READ(child, real_cred, user_ns) != BPF_CORE_READ(maker, real_cred, user_ns);
	if (!moved && !own_level)
		return 0;
	act = begin_act(maker);
	if (act) {
		act->child_pid = BPF_CORE_READ(child, pid);
		act->child_seen = seen_from(made, own);
	}
	if (moved && tell_clone(number_of(child), act ? act->link : 0) && act)
		act->untold++;
	return 0;
}
