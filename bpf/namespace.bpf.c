// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Lifetimes: a message when a namespace has been made, and one when nothing keeps it any more.
 *
 * The functions that copy or make a namespace of each kind are looked at where they return: a namespace that
 * is not the old one is new, and no task is in it yet. All numbers, of every kind, are given back through
 * proc_free_inum(), before which nobody can be given the same one again; so the two messages of one life are
 * between those of any other life of that number. A number of which nothing was told is that of a
 * namespace that was there before, or of a creation that failed inside: its end is told all the same.
 */
#include "acts.h"
#include "users.h"

static __always_inline int tell_made(__u16 kind, __u32 inum, __u64 unique, __u32 parent, __u32 level,
				     const struct user_namespace *owner)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	struct namespace_contid_event *with;
	struct namespace_event *event;
	void *ring = ring_of_cpu();

	with = ring ? bpf_ringbuf_reserve(ring, sizeof(*with), 0) : NULL;
	if (!with) {
		COUNT(drop_namespace);
		return 0;
	}
	event = &with->n;
	fill_header(&event->header, EVENT_NAMESPACE, sizeof(*with));
	event->unique = unique;
	event->inum = inum;
	event->kind = kind;
	event->op = NAMESPACE_MADE;
	event->parent = parent;
	event->owner = BPF_CORE_READ(owner, ns.inum);
	event->level = level;
	event->creator_pid = BPF_CORE_READ(task, tgid);
	event->creator_tid = BPF_CORE_READ(task, pid);
	event->creator_start = BPF_CORE_READ(task, group_leader, start_boottime);
	event->creator_cgroup = tell_cgroup(task);
	event->creator_uid = BPF_CORE_READ(task, real_cred, uid.val);
	bpf_core_read(event->creator_comm, sizeof(event->creator_comm), &task->comm);
	fill_actors_chain(&with->contid, task);
	COUNT(facts);
	bpf_ringbuf_submit(with, 0);
	return 0;
}

static __always_inline int is_new(const void *made, const void *old)
{
	return made && made != old && (unsigned long)made < (unsigned long)-4095;
}

static __always_inline __u64 unique_of(const struct ns_common *ns, __u64 legacy)
{
	return have_ns_id() ? ns_id(ns) : legacy;
}

#define TELL(kind, type, made, legacy)                                                                       \
	tell_made(kind, BPF_CORE_READ((const struct type *)(made), ns.inum),                                 \
		  unique_of(__builtin_preserve_access_index(&((const struct type *)(made))->ns), legacy), 0, \
		  0, BPF_CORE_READ((const struct type *)(made), user_ns))

SEC("fexit/copy_utsname")
int BPF_PROG(uts_copied, __u64 flags, void *user, struct uts_namespace *old, struct uts_namespace *made)
{
	return is_new(made, old) ? TELL(NS_UTS, uts_namespace, made, 0) : 0;
}

SEC("fexit/copy_ipcs")
int BPF_PROG(ipc_copied, __u64 flags, void *user, struct ipc_namespace *old, struct ipc_namespace *made)
{
	return is_new(made, old) ? TELL(NS_IPC, ipc_namespace, made, 0) : 0;
}

SEC("fexit/copy_mnt_ns")
int BPF_PROG(mnt_copied, __u64 flags, struct mnt_namespace *old, void *user, void *fs,
	     struct mnt_namespace *made)
{
	return is_new(made, old) ? TELL(NS_MNT, mnt_namespace, made, mnt_unique(0, made)) : 0;
}

SEC("fexit/copy_net_ns")
int BPF_PROG(net_copied, __u64 flags, void *user, struct net *old, struct net *made)
{
	return is_new(made, old) ? TELL(NS_NET, net, made, net_unique(0, made)) : 0;
}

SEC("fexit/copy_cgroup_ns")
int BPF_PROG(cgroup_copied, __u64 flags, void *user, struct cgroup_namespace *old,
	     struct cgroup_namespace *made)
{
	return is_new(made, old) ? TELL(NS_CGROUP, cgroup_namespace, made, 0) : 0;
}

SEC("fexit/copy_time_ns")
int BPF_PROG(time_copied, __u64 flags, void *user, struct time_namespace *old, struct time_namespace *made)
{
	return is_new(made, old) ? TELL(NS_TIME, time_namespace, made, 0) : 0;
}

SEC("fexit/copy_pid_ns")
int BPF_PROG(pid_copied, __u64 flags, void *user, struct pid_namespace *old, struct pid_namespace *made)
{
	if (!is_new(made, old))
		return 0;
	return tell_made(NS_PID, BPF_CORE_READ(made, ns.inum),
			 unique_of(__builtin_preserve_access_index(&made->ns), 0),
			 BPF_CORE_READ(made, parent, ns.inum), BPF_CORE_READ(made, level),
			 BPF_CORE_READ(made, user_ns));
}

/* A user namespace is owned by its parent. */
SEC("fexit/create_user_ns")
int BPF_PROG(user_made, struct cred *cred, int error)
{
	const struct user_namespace *made, *parent;

	if (error)
		return 0;
	made = BPF_CORE_READ(cred, user_ns);
	parent = BPF_CORE_READ(made, parent);
	/* Where the end of the number's last life was missed (re-entry), what was told is of another. */
	forget_users(BPF_CORE_READ(made, ns.inum));
	return tell_made(NS_USER, BPF_CORE_READ(made, ns.inum),
			 unique_of(__builtin_preserve_access_index(&made->ns), 0),
			 BPF_CORE_READ(parent, ns.inum), BPF_CORE_READ(made, level), parent);
}

static __always_inline int tell_freed(__u32 inum, __u64 unique)
{
	struct namespace_event *event;
	void *ring = ring_of_cpu();

	forget_users(inum);
	/* Whose number this is next has sent nothing yet. */
	bpf_map_delete_elem(&refused_senders, &inum);
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event) {
		COUNT(drop_namespace);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	fill_header(&event->header, EVENT_NAMESPACE, sizeof(*event));
	event->inum = inum;
	event->unique = unique;
	event->op = NAMESPACE_FREED;
	COUNT(facts);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("fentry/proc_free_inum")
int BPF_PROG(inum_freed, unsigned int inum)
{
	return tell_freed(inum, 0);
}

/* Instead of that one, where there is such a function: it knows the unique id as well. */
SEC("fentry/__ns_common_free")
int BPF_PROG(ns_freed, const struct ns_common *ns)
{
	return tell_freed(BPF_CORE_READ(ns, inum), ns_id(ns));
}

/*
 * Which containers are in which namespaces: told at exec, once for each cgroup and set of namespaces. A
 * container's own program is the first of its cgroup to be executed.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(task_executed, struct task_struct *task)
{
	const struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = pid ? BPF_CORE_READ(pid, level) : 0;
	struct member_event *event;
	struct member_key key = {};
	struct namespaces to;
	__u32 missing = 0;
	__u8 told = 1;
	void *ring;

	if (level >= LEVELS_MAX)
		level = LEVELS_MAX - 1;
	key.cgroup_id = tell_cgroup(task);
	key.mnt = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	key.net = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	key.user = BPF_CORE_READ(task, real_cred, user_ns, ns.inum);
	if (pid)
		key.pid = BPF_CORE_READ(own_pid_namespace(pid, level), ns.inum);
	if (bpf_map_lookup_elem(&members, &key))
		return 0;
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event) {
		if (ring)
			COUNT(drop_fact);
		return 0;
	}
	fill_header(&event->header, EVENT_MEMBER, sizeof(*event));
	event->cgroup_id = key.cgroup_id;
	event->pid = BPF_CORE_READ(task, tgid);
	event->pad = 0;
	event->start = BPF_CORE_READ(task, group_leader, start_boottime);
	__builtin_memset(event->inum, 0, sizeof(event->inum));
	__builtin_memset(event->unique, 0, sizeof(event->unique));
	to = (struct namespaces){event->inum, event->unique, &missing};
	read_namespaces(to, task, pid, level);
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	bpf_map_update_elem(&members, &key, &told, BPF_ANY);
	return 0;
}
