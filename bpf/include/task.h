/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reads who acts: ids, namespaces, the pid at every level, the cgroup. */
#ifndef AUDIT_ENRICHER_TASK_H
#define AUDIT_ENRICHER_TASK_H

#include "cgroup.h"
#include "core_fixes.h"
#include "maps.h"

/*
 * One namespace: inum, and a unique id where the kernel has one. ns_common's offset within the
 * namespace differs by kind, hence a macro over the typed pointer.
 */
#define READ_NAMESPACE(typed, place, slot, pointer, legacy_unique)                                           \
	({                                                                                                   \
		__u32 inum_ = 0;                                                                             \
		if (!(pointer)) {                                                                            \
			*(place).missing |= 1U << (slot);                                                    \
		} else {                                                                                     \
			inum_ = FOLLOW(typed, pointer, ns.inum);                                             \
			if (!inum_) {                                                                        \
				*(place).missing |= 1U << (slot);                                            \
				COUNT(fail_namespace);                                                       \
			} else {                                                                             \
				(place).unique[slot] =                                                       \
					have_ns_id() ? NS_ID(typed, &(pointer)->ns) : (legacy_unique);       \
			}                                                                                    \
		}                                                                                            \
		(place).inum[slot] = inum_;                                                                  \
	})

/* Where the numbers of a task's namespaces go; each message has them in its own place. */
struct namespaces {
	__u32 *inum;
	__u64 *unique;
	__u32 *missing;
};

/* The bits of the kinds that are read through nsproxy: all but these two. */
#define OF_NSPROXY (((1U << NS_KINDS) - 1) & ~(1U << NS_PID) & ~(1U << NS_USER))

#ifdef BUILT_BY_BCC /* it has no variables */

#define IS_HOSTS(which, pointer) 0
#define TAKE_HOSTS(to, slot)

#else

/* Whether a pointer is to what the host itself has, all of which is known without a look. */
#define IS_HOSTS(which, pointer) ((pointer) && (__u64)(pointer) == host.which)

/* Its numbers. */
#define TAKE_HOSTS(to, slot)                                                                                 \
	({                                                                                                   \
		(to).inum[slot] = host.inum[slot];                                                           \
		(to).unique[slot] = host.unique[slot];                                                       \
	})

#endif

/* Returns 0 where the task has none any more. */
static __always_inline int read_nsproxy(int typed, struct namespaces to, const struct task_struct *task)
{
	const struct nsproxy *proxy = FOLLOW(typed, task, nsproxy);
	const struct pid_namespace *pid_children = 0;
	const struct time_namespace *time = 0, *time_children = 0;
	const struct cgroup_namespace *cgroup = 0;
	const struct uts_namespace *uts = 0;
	const struct ipc_namespace *ipc = 0;
	const struct mnt_namespace *mnt = 0;
	const struct net *net = 0;

	if (IS_HOSTS(proxy, proxy)) {
#pragma unroll
		for (int slot = 0; slot < NS_KINDS; slot++)
			if (OF_NSPROXY >> slot & 1)
				TAKE_HOSTS(to, slot);
		*to.missing |= host.missing;
		return 1;
	}
	if (proxy) {
		mnt = NSPROXY_MNT(typed, proxy);
		uts = FOLLOW(typed, proxy, uts_ns);
		ipc = FOLLOW(typed, proxy, ipc_ns);
		net = FOLLOW(typed, proxy, net_ns);
		cgroup = FOLLOW(typed, proxy, cgroup_ns);
		pid_children = FOLLOW(typed, proxy, pid_ns_for_children);
		/* Without CONFIG_TIME_NS the struct is declared and never defined. */
		if (bpf_core_type_exists(struct time_namespace)) {
			time = FOLLOW(typed, proxy, time_ns);
			time_children = FOLLOW(typed, proxy, time_ns_for_children);
		}
	}
	READ_NAMESPACE(typed, to, NS_MNT, mnt, mnt_unique(typed, mnt));
	READ_NAMESPACE(typed, to, NS_UTS, uts, 0);
	READ_NAMESPACE(typed, to, NS_IPC, ipc, 0);
	READ_NAMESPACE(typed, to, NS_NET, net, net_unique(typed, net));
	READ_NAMESPACE(typed, to, NS_CGROUP, cgroup, 0);
	READ_NAMESPACE(typed, to, NS_PID_FOR_CHILDREN, pid_children, 0);
	READ_NAMESPACE(typed, to, NS_TIME, time, 0);
	READ_NAMESPACE(typed, to, NS_TIME_FOR_CHILDREN, time_children, 0);
	return proxy != 0;
}

/*
 * Hides from clang what it knows of a variable's range. Knowing that level is small it would end a loop by
 * comparing pointers for equality, of which the verifier learns no bound (seen in the build by bcc).
 */
#define KEEP_COMPARING(variable) asm volatile("" : "+r"(variable))

/* numbers[0..level] of the thread group's pid: one {namespace, pid} per level, outermost first. */
static __always_inline void read_levels(struct context_event *event, struct pid_level *more,
					const struct pid *pid, __u32 level)
{
	const struct upid *numbers = __builtin_preserve_access_index(&pid->numbers[0]);
	const __u64 stride = bpf_core_type_size(struct upid);
	const struct pid_namespace *ns;
	const struct upid *at;

	for (__u32 i = 0; i < LEVELS_INLINE; i++) {
		KEEP_COMPARING(level);
		if (i > level)
			break;
		at = (const void *)numbers + i * stride;
		event->level[i].pid = BPF_CORE_READ(at, nr);
		ns = BPF_CORE_READ(at, ns);
		if (!ns)
			COUNT(fail_pids);
		event->level[i].ns = BPF_CORE_READ(ns, ns.inum);
	}
	if (!more)
		return;
	for (__u32 i = LEVELS_INLINE; i < LEVELS_MAX; i++) {
		KEEP_COMPARING(level);
		if (i > level)
			break;
		at = (const void *)numbers + i * stride;
		more[i - LEVELS_INLINE].pid = BPF_CORE_READ(at, nr);
		ns = BPF_CORE_READ(at, ns);
		if (!ns)
			COUNT(fail_pids);
		more[i - LEVELS_INLINE].ns = BPF_CORE_READ(ns, ns.inum);
	}
}

/* The pid namespace that the task itself is in; nsproxy only has its children's. */
static __always_inline const struct pid_namespace *own_pid_namespace(const struct pid *pid, __u32 level)
{
	const struct upid *numbers = __builtin_preserve_access_index(&pid->numbers[0]);
	const struct upid *own = (const void *)numbers + (__u64)level * bpf_core_type_size(struct upid);

	return BPF_CORE_READ(own, ns);
}

/* Not that of cred, which overlayfs and others override for a moment: real_cred is what /proc shows. */
static __always_inline const struct user_namespace *user_of(int typed, const struct task_struct *task)
{
	return FOLLOW(typed, task, real_cred, user_ns);
}

/*
 * All but NS_PID; to is filled with zeros before, user is the task's. Returns 0 where the task has no nsproxy
 * any more.
 */
static __always_inline int read_most(int typed, struct namespaces to, const struct task_struct *task,
				     const struct user_namespace *user)
{
	int serving = read_nsproxy(typed, to, task);

	if (IS_HOSTS(user, user))
		TAKE_HOSTS(to, NS_USER);
	else
		READ_NAMESPACE(typed, to, NS_USER, user, 0);
	return serving;
}

static __always_inline void read_own_pid(struct namespaces to, const struct pid *pid, __u32 level)
{
	const struct pid_namespace *own = 0;

	if (pid)
		own = own_pid_namespace(pid, level);
	else
		COUNT(fail_pids);
	READ_NAMESPACE(0, to, NS_PID, own, 0);
}

/* All ten. */
static __always_inline int read_namespaces(struct namespaces to, const struct task_struct *task,
					   const struct pid *pid, __u32 level)
{
	read_own_pid(to, pid, level);
	return read_most(0, to, task, user_of(0, task));
}

/*
 * Everything about a task but the stamp, type and flags, which the caller has set; more may be NULL. pid is
 * its group's, of no type that the verifier would know; user its user namespace.
 */
static __always_inline void fill_context_of(int typed, struct context_event *event, struct pid_level *more,
					    const struct task_struct *task, const struct user_namespace *user,
					    const struct pid *pid, __u32 level)
{
	struct namespaces to = {event->inum, event->unique, &event->missing};

	event->missing = 0;
	event->pid = FOLLOW(typed, task, tgid);
	event->tid = FOLLOW(typed, task, pid);
	event->ppid = FOLLOW(typed, task, real_parent, tgid);
	event->auid = FOLLOW(typed, task, loginuid.val);
	event->ses = FOLLOW(typed, task, sessionid);
	event->start = FOLLOW(typed, task, group_leader, start_boottime);
	event->cgroup_id = tell_cgroup_of(typed, task);
	bpf_core_read(event->comm, sizeof(event->comm), &task->comm);
	__builtin_memset(event->inum, 0, sizeof(event->inum));
	__builtin_memset(event->unique, 0, sizeof(event->unique));
	__builtin_memset(event->level, 0, sizeof(event->level));
	if (!read_most(typed, to, task, user)) {
		/* exit_task_work runs after exit_task_namespaces: EVENT_LISTENER op=disconnect. */
		event->flags |= CONTEXT_AFTER_SERVING;
		COUNT(fail_nsproxy);
	}
	event->levels = 0;
	if (pid && !level) {
		const struct pid *own = typed ? task->group_leader->thread_pid : pid;
		const struct pid_namespace *ns = FOLLOW(typed, own, numbers[0].ns);

		if (IS_HOSTS(pid, ns))
			TAKE_HOSTS(to, NS_PID);
		else
			READ_NAMESPACE(typed, to, NS_PID, ns, 0);
		event->levels = 1;
		event->level[0].pid = FOLLOW(typed, own, numbers[0].nr);
		event->level[0].ns = event->inum[NS_PID];
		return;
	}
	read_own_pid(to, pid, level);
	if (pid) {
		event->levels = level + 1;
		read_levels(event, more, pid, level);
	}
}

static __always_inline void fill_context(struct context_event *event, struct pid_level *more,
					 const struct task_struct *task, const struct pid *pid, __u32 level)
{
	fill_context_of(0, event, more, task, user_of(0, task), pid, level);
}

#endif
