// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What was there before the other programs: for each task, at the start, the namespaces that it has and the
 * cgroup that it is in. User space reads the iterator to its end, a few tasks at a time, and empties the
 * rings in between (enricher/sources/bpf/baseline.py).
 *
 * None of these tasks is current, so why may their members be believed?
 *
 * - The task itself: the iterator holds a reference.
 * - Its user and pid namespace: the program runs under rcu_read_lock(); bpf_iter_run_prog() does that for
 *   every program that may not sleep. Credentials that a task has had as its own, and struct pid, are freed
 *   a grace period after they were given up, and keep their namespaces until then.
 * - Its cgroup: as these. A css_set keeps its cgroup, and is freed after a grace period.
 * - nsproxy is another matter: what setns(), unshare() or the end of the task take away is freed at once,
 *   with the namespaces that nobody else keeps, and its memory may be the next one's. But a task keeps what
 *   it has, and no nsproxy changes while a task has it. So pointer and numbers are read twice, the pointer
 *   a third time, and they count only where nothing differs. Where the pointer was the same all the time,
 *   so was what is in it. A task that left it in between and got the same memory back for another nsproxy
 *   shows that in its numbers; where it does not, the numbers are those that it had at both ends.
 *
 * The time of the messages is between the two readings, a moment at which the namespaces lived: the message
 * about the end of one has a later time, and that about its making an earlier one, whatever CPU they come
 * from. By that user space knows of a number that was given to another one meanwhile (correlate/lives.py).
 */
#include "cgroup.h"
#include "users.h"

#define KTHREADD 2

/* One namespace that is pointed to: its numbers, and those of the user namespace that owns it. */
#define SEE(to, slot, pointer, legacy_unique)                                                                \
	({                                                                                                   \
		struct seen_namespace *at_ = &(to)->ns[slot];                                                \
		at_->parent = 0;                                                                             \
		at_->level = 0;                                                                              \
		at_->owner = 0;                                                                              \
		at_->unique = 0;                                                                             \
		at_->inum = 0;                                                                               \
		if (pointer) {                                                                               \
			(to)->failed |= !!bpf_core_read(&at_->inum, sizeof(at_->inum), &(pointer)->ns.inum); \
			at_->unique = have_ns_id() ? ns_id(&(pointer)->ns) : (legacy_unique);                \
		}                                                                                            \
	})

#define SEE_OWNED(to, slot, pointer, legacy_unique)                                                          \
	({                                                                                                   \
		SEE(to, slot, pointer, legacy_unique);                                                       \
		if (pointer)                                                                                 \
			(to)->ns[slot].owner = BPF_CORE_READ(pointer, user_ns, ns.inum);                     \
	})

#define SEE_PID(to, slot, pointer)                                                                           \
	({                                                                                                   \
		SEE_OWNED(to, slot, pointer, 0);                                                             \
		if (pointer) {                                                                               \
			(to)->ns[slot].parent = BPF_CORE_READ(pointer, parent, ns.inum);                     \
			(to)->ns[slot].level = BPF_CORE_READ(pointer, level);                                \
		}                                                                                            \
	})

static __always_inline void see_nsproxy(struct seen_task *to, const struct nsproxy *proxy)
{
	const struct pid_namespace *pid_children = BPF_CORE_READ(proxy, pid_ns_for_children);
	const struct cgroup_namespace *cgroup = BPF_CORE_READ(proxy, cgroup_ns);
	const struct uts_namespace *uts = BPF_CORE_READ(proxy, uts_ns);
	const struct ipc_namespace *ipc = BPF_CORE_READ(proxy, ipc_ns);
	const struct time_namespace *time = 0, *time_children = 0;
	const struct net *net = BPF_CORE_READ(proxy, net_ns);
	const struct mnt_namespace *mnt = NSPROXY_MNT(0, proxy);

	/* Without CONFIG_TIME_NS the struct is declared and never defined. */
	if (bpf_core_type_exists(struct time_namespace)) {
		time = BPF_CORE_READ(proxy, time_ns);
		time_children = BPF_CORE_READ(proxy, time_ns_for_children);
	}
	SEE_OWNED(to, NS_MNT, mnt, mnt_unique(0, mnt));
	SEE_OWNED(to, NS_UTS, uts, 0);
	SEE_OWNED(to, NS_IPC, ipc, 0);
	SEE_OWNED(to, NS_NET, net, net_unique(0, net));
	SEE_OWNED(to, NS_CGROUP, cgroup, 0);
	SEE_OWNED(to, NS_TIME, time, 0);
	SEE_OWNED(to, NS_TIME_FOR_CHILDREN, time_children, 0);
	SEE_PID(to, NS_PID_FOR_CHILDREN, pid_children);
}

/* Returns 0 where the task has no namespaces any more. */
static __noinline int see_task(const struct task_struct *task, struct seen_task *to)
{
	const struct user_namespace *user = BPF_CORE_READ(task, real_cred, user_ns);
	const struct nsproxy *proxy = BPF_CORE_READ(task, nsproxy);
	const struct pid *pid = BPF_CORE_READ(task, thread_pid);
	const struct pid_namespace *own;
	__u32 level;

	to->proxy = (__u64)proxy;
	to->pid = (__u64)pid;
	to->failed = 0;
	if (!proxy || !pid || !user)
		return 0;
	to->cgroup = cgroup_id_of(task);
	see_nsproxy(to, proxy);
	level = BPF_CORE_READ(pid, level);
	if (level >= LEVELS_MAX)
		level = LEVELS_MAX - 1;
	own = own_pid_namespace(pid, level);
	SEE_PID(to, NS_PID, own);
	SEE(to, NS_USER, user, 0);
	/* It is its parent's, as when it is made (namespace.bpf.c). */
	to->ns[NS_USER].parent = BPF_CORE_READ(user, parent, ns.inum);
	to->ns[NS_USER].owner = to->ns[NS_USER].parent;
	to->ns[NS_USER].level = BPF_CORE_READ(user, level);
	return 1;
}

static __always_inline int differ(const struct seen_task *one, const struct seen_task *other)
{
	int differences = one->proxy != other->proxy || one->pid != other->pid ||
			  one->cgroup != other->cgroup || one->failed || other->failed;

	for (int i = 0; i < NS_KINDS; i++)
		differences |=
			one->ns[i].unique != other->ns[i].unique || one->ns[i].inum != other->ns[i].inum ||
			one->ns[i].owner != other->ns[i].owner || one->ns[i].parent != other->ns[i].parent ||
			one->ns[i].level != other->ns[i].level;
	return differences;
}

/* Returns whether there was no room for it. */
static __noinline int tell_found(const struct seen_namespace *ns, __u32 kind, __u64 time)
{
	struct found_key key = {ns->inum, kind};
	struct namespace_event *event;
	__u8 told = 1;
	void *ring;

	if (!key.inum || bpf_map_lookup_elem(&found, &key))
		return 0;
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event)
		return 1;
	__builtin_memset(event, 0, sizeof(*event));
	fill_header(&event->header, EVENT_NAMESPACE, sizeof(*event));
	event->header.time = time;
	event->unique = ns->unique;
	event->inum = key.inum;
	event->kind = kind;
	event->op = NAMESPACE_FOUND;
	event->parent = ns->parent;
	event->owner = ns->owner;
	event->level = ns->level;
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	bpf_map_update_elem(&found, &key, &told, BPF_ANY);
	return 0;
}

/* As task_executed() (namespace.bpf.c), and told once by both. Returns whether there was no room for it. */
static __noinline int tell_member(const struct task_struct *task, const struct seen_task *is, __u64 time)
{
	struct member_event *event;
	struct member_key key = {};
	__u8 told = 1;
	void *ring;

	key.cgroup_id = is->cgroup;
	key.mnt = is->ns[NS_MNT].inum;
	key.net = is->ns[NS_NET].inum;
	key.pid = is->ns[NS_PID].inum;
	key.user = is->ns[NS_USER].inum;
	if (bpf_map_lookup_elem(&members, &key))
		return 0;
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event)
		return 1;
	fill_header(&event->header, EVENT_MEMBER, sizeof(*event));
	event->header.time = time;
	event->cgroup_id = is->cgroup;
	event->pid = BPF_CORE_READ(task, tgid);
	event->pad = 0;
	event->start = BPF_CORE_READ(task, group_leader, start_boottime);
	for (int i = 0; i < NS_KINDS; i++) {
		event->inum[i] = is->ns[i].inum;
		event->unique[i] = is->ns[i].unique;
	}
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	bpf_map_update_elem(&members, &key, &told, BPF_ANY);
	return 0;
}

static __always_inline int look_at(const struct task_struct *task)
{
	__u32 first = 0, second = 1;
	struct seen_task *was = bpf_map_lookup_elem(&seen, &first);
	struct seen_task *is = bpf_map_lookup_elem(&seen, &second);
	int dropped = 0;
	__u64 cgroup, time;

	if (!was || !is)
		return BASELINE_DROPPED;
	/* Not in between: it takes long where the cgroup's names have to be told. */
	cgroup = tell_cgroup(task);
	if (!see_task(task, was))
		return BASELINE_GONE;
	/* Its read barriers keep the processor from reading ahead. */
	time = bpf_ktime_get_boot_ns();
	if (!see_task(task, is) || (__u64)BPF_CORE_READ(task, nsproxy) != is->proxy || differ(was, is) ||
	    is->cgroup != cgroup)
		return BASELINE_CHANGED;
	tell_users((const void *)number_of(task));
	for (int i = 0; i < NS_KINDS; i++) {
		__u32 kind = i == NS_PID_FOR_CHILDREN ? NS_PID : i == NS_TIME_FOR_CHILDREN ? NS_TIME : i;

		dropped |= tell_found(&is->ns[i], kind, time);
	}
	dropped |= tell_member(task, is, time);
	return dropped ? BASELINE_DROPPED : BASELINE_TOLD;
}

/*
 * kthreadd, by the number that it has on every boot: see struct host_namespaces. None of its pointers ever
 * changes, so what was read through them is theirs.
 */
static __always_inline void learn_host(const struct task_struct *task)
{
	__u32 second = 1;
	const struct seen_task *is = bpf_map_lookup_elem(&seen, &second);

	if (host.proxy || !is || BPF_CORE_READ(task, tgid) != KTHREADD ||
	    !(BPF_CORE_READ(task, flags) & PF_KTHREAD))
		return;
	host.missing = 0;
	for (int slot = 0; slot < NS_KINDS; slot++) {
		host.inum[slot] = is->ns[slot].inum;
		host.unique[slot] = is->ns[slot].unique;
		if (OF_NSPROXY >> slot & 1 && !host.inum[slot])
			host.missing |= 1U << slot;
	}
	host.user = (__u64)BPF_CORE_READ(task, real_cred, user_ns);
	host.pid = (__u64)BPF_CORE_READ(task, thread_pid, numbers[0].ns);
	/* Its calls are barriers enough: who reads the pointer finds the numbers. */
	bpf_ktime_get_boot_ns();
	host.proxy = is->proxy;
}

SEC("iter/task")
int task_found(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	const struct task_struct *task = ctx->task;
	__u8 outcome;

	if (!task)
		return 0; /* there are no more */
	outcome = look_at(task);
	if (outcome == BASELINE_TOLD)
		learn_host(task);
	/* Also what a read() ends at: it returns when it has as many bytes as it was asked for. */
	bpf_seq_write(seq, &outcome, sizeof(outcome));
	return 0;
}
