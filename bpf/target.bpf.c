// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Whom a signal, a trace or a pidfd is aimed at, with its namespaces and its cgroup at that moment. Of the
 * first two the kernel is about to write an OBJ_PID record: its functions note the task in the audit context
 * of the caller; their records come at the end of the call, when the target may be gone. A pidfd is but a
 * number in the records.
 */
#include "acts.h"
#include "contid.h"

#define TARGETS_MAX   256 /* of one call: kill(-1) reaches every process */
#define NR_PIDFD_OPEN 434 /* on every architecture */

/* What nsproxy leads to, read again. */
struct reading {
	__u32 inum[NS_KINDS];
	__u32 missing;
	__u32 pad;
	__u64 unique[NS_KINDS];
};

/*
 * Whether what was read through the nsproxy of a task other than current may be something else's: it is freed
 * at once when the task gives it up. Equal numbers of two readings through one pointer are the task's own
 * (baseline.bpf.c says why); first is what the pointer was before the first. The second reading is made in
 * room of the ring, which is given back: what is there the verifier does not follow, on the stack it does.
 */
static __always_inline int nsproxy_changed(void *ring, const struct task_struct *task,
					   const struct context_event *was, __u64 first)
{
	struct reading *again = bpf_ringbuf_reserve(ring, sizeof(*again), 0);
	int differences;

	if (!again)
		return 1;
	struct namespaces to = {again->inum, again->unique, &again->missing};
	__u64 second = (__u64)BPF_CORE_READ(task, nsproxy);

	__builtin_memset(again, 0, sizeof(*again));
	read_nsproxy(0, to, task);
	differences = first != second || (__u64)BPF_CORE_READ(task, nsproxy) != second ||
		      again->missing != (was->missing & OF_NSPROXY);
	for (int i = 0; i < NS_KINDS; i++)
		if (OF_NSPROXY >> i & 1)
			differences |= again->inum[i] != was->inum[i] || again->unique[i] != was->unique[i];
	bpf_ringbuf_discard(again, BPF_RB_NO_WAKEUP);
	return differences;
}

/* Unknown, and never those of another task. */
static __always_inline void forget_nsproxy(struct context_event *event)
{
	event->missing |= OF_NSPROXY;
	for (int i = 0; i < NS_KINDS; i++)
		if (OF_NSPROXY >> i & 1) {
			event->inum[i] = 0;
			event->unique[i] = 0;
		}
}

VERIFIED_ALONE int tell_target(__u64 aimed_at, __u64 link, __u32 by_pidfd)
{
	const struct task_struct *actor = (const void *)bpf_get_current_task();
	const struct task_struct *task = (const void *)aimed_at;
	__u64 proxy = (__u64)BPF_CORE_READ(task, nsproxy);
	struct contid_key key = {};
	struct target_event *event;
	__u32 size = sizeof(*event);
	void *ring = ring_of_cpu();
	__u64 contid = 0;

	if (!ring)
		return 0;
	if (contid_on) {
		key.tgid = BPF_CORE_READ(task, tgid);
		key.start = BPF_CORE_READ(task, group_leader, start_boottime);
		contid = contid_of_ending(&key, BPF_CORE_READ(task, flags));
	}
	if (contid) {
		struct target_contid_event *with = bpf_ringbuf_reserve(ring, sizeof(*with), 0);

		size = sizeof(*with);
		if (with)
			fill_chain(&with->contid, &key, contid);
		event = (void *)with;
	} else {
		event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
	}
	if (!event) {
		COUNT(drop_fact);
		return 0;
	}
	fill_header(&event->who.c.header, EVENT_TARGET, size);
	fill_facts(&event->who, task);
	if (nsproxy_changed(ring, task, &event->who.c, proxy))
		forget_nsproxy(&event->who.c);
	event->link = link;
	event->actor_tid = BPF_CORE_READ(actor, pid);
	event->by_pidfd = by_pidfd;
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int on_target(const struct task_struct *task, int by_pidfd)
{
	const struct task_struct *actor = (const void *)bpf_get_current_task();
	const struct audit_context *context = BPF_CORE_READ(actor, audit_context);
	struct act *act;

	/* Without a rule that could ask for it nothing is recorded. */
	if (!task || !context || BPF_CORE_READ(context, dummy))
		return 0;
	act = act_of(actor);
	if (!act || act->targets >= TARGETS_MAX)
		return 0;
	act->targets++;
	tell_target(number_of(task), act->link, by_pidfd);
	return 0;
}

SEC("fentry/audit_signal_info_syscall")
int BPF_PROG(signal_sent, struct task_struct *task)
{
	return on_target(task, 0);
}

SEC("fentry/__audit_ptrace")
int BPF_PROG(task_traced, struct task_struct *task)
{
	return on_target(task, 0);
}

/* Of whom a struct pid is, as pid_task() has it; the kernel frees neither while a program runs (RCU). */
static __always_inline int on_pid(const struct pid *pid)
{
	const struct hlist_node *first = pid ? BPF_CORE_READ(pid, tasks[0].first) : NULL;

	/* A process that is gone has no task any more. */
	if (!first)
		return 0;
	return on_target((const void *)first - bpf_core_field_offset(struct task_struct, pid_links), 1);
}

/*
 * pidfd_open(): it looks for the process, then makes the descriptor. On some kernels the first is a call of
 * its own, on others the second; so do other calls, which aim at nobody. It aims at one.
 */
static __always_inline int on_opened(const struct pid *pid)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct audit_context *context = BPF_CORE_READ(task, audit_context);
	__u64 key = (__u64)task;
	const struct act *act;

	if (!context || BPF_CORE_READ(context, major) != NR_PIDFD_OPEN)
		return 0;
	act = bpf_map_lookup_elem(&acts, &key);
	return act && act->targets && !is_over(act, context) ? 0 : on_pid(pid);
}

SEC("fexit/find_get_pid")
int BPF_PROG(pidfd_found, int number, struct pid *pid)
{
	return on_opened(pid);
}

SEC("fentry/pidfd_prepare")
int BPF_PROG(pidfd_made, struct pid *pid)
{
	return on_opened(pid);
}

/* pidfd_getfd(). */
SEC("fentry/pidfd_getfd")
int BPF_PROG(pidfd_robbed, struct pid *pid)
{
	return on_pid(pid);
}

/* waitid(), process_madvise() and process_mrelease(). */
SEC("fexit/pidfd_get_pid")
int BPF_PROG(pidfd_used, unsigned int fd, unsigned int *flags, struct pid *pid)
{
	return (unsigned long)pid < (unsigned long)-4095 ? on_pid(pid) : 0; /* no error in its place */
}
