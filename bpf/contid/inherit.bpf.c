// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Whom a process makes has what it has, from before it runs; with the last thread of a process its own ends.
 *
 * task_newtask runs when the child is linked to its parent and before it can run; sched_process_fork is later
 * and not for every task. Inherited is from who calls: with CLONE_PARENT real_parent is another.
 */
#include "bind.h"
#include "store.h"

#define CLONE_THREAD	  0x00010000 /* include/uapi/linux/sched.h */
#define CLONE_INTO_CGROUP 0x200000000ULL

/*
 * Current is making a process or a thread: if it is being given an identifier right now that fails, or if it
 * has it already but contid_tasks does not say so yet the new process has it too. Returns that.
 */
VERIFIED_ALONE __u64 meet_set(__u32 thread)
{
	struct contid_outcome aborted = {0, SET_ABORTED};
	const struct contid_request *request = the_request();
	const struct contid_outcome *found;
	__u64 sequence;

	if (!request)
		return 0;
	sequence = *(const volatile __u64 *)&request->pending;
	/* Threads have what their process has: all of an orchestrator's target get it in one step. */
	if (!sequence || (thread && request->orchestrator))
		return 0;
	if (!bpf_map_update_elem(&contid_outcomes, &sequence, &aborted, BPF_NOEXIST))
		return 0;
	found = bpf_map_lookup_elem(&contid_outcomes, &sequence);
	return found && found->how == SET_COMMITTED ? found->contid : 0;
}

/* The child takes it: counted first, so that it cannot end in between. */
VERIFIED_ALONE int give(__u64 contid, __u64 start, __u32 tgid)
{
	struct contid_key key = {};

	key.start = start;
	key.tgid = tgid;
	if (hold(&contid)) {
		CONTID_COUNT(fail_id);
		return -ENOENT;
	}
	if (bpf_map_update_elem(&contid_tasks, &key, &contid, BPF_NOEXIST)) {
		put_id(contid, tgid, 1);
		/* While one build's programs take over from another's both run. */
		if (contid_of(&key) == contid)
			return 0;
		CONTID_COUNT(full_tasks);
		return -ENOSPC;
	}
	CONTID_COUNT(inherited);
	return 0;
}

/* own is the child's process; into_cgroup: it may be in another cgroup than its maker. */
static __always_inline int on_newtask(const struct task_struct *child, struct contid_key own,
				      __u32 into_cgroup)
{
	const struct task_struct *maker = (const void *)bpf_get_current_task();
	const struct contid_request *request = the_request();
	struct contid_key key = {};
	__u64 contid = 0;
	__u32 thread;

	key.tgid = bpf_get_current_pid_tgid() >> 32;
	thread = own.tgid == key.tgid;
	if (thread && !(request && request->target.tgid == key.tgid))
		return 0;
	key.start = BPF_CORE_READ(maker, group_leader, start_boottime);
	if (request && same_key(&request->target, &key))
		contid = meet_set(thread);
	if (thread)
		return 0;
	if (!contid)
		contid = contid_of(&key);
	if (into_cgroup)
		contid = contid_of_cgroup(child, contid);
	if (contid)
		give(contid, own.start, own.tgid);
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(contid_newtask, struct task_struct *child, __u64 clone_flags)
{
	struct contid_key own = {};

	own.start = child->start_boottime;
	own.tgid = child->tgid;
	return on_newtask(child, own, (clone_flags & CLONE_INTO_CGROUP) != 0);
}

/*
 * Once more, by a program of another kind. Where tasks are preempted in tracepoints (7.2) the kernel leaves a
 * tracepoint's program out on a CPU on which one was preempted in it: 1 of 80 sets against forks ended with a
 * child that had nothing. In a kprobe no task is preempted. The child is woken right after task_newtask, and
 * here it has not run yet. Whoever comes second finds the entry made, or deleted.
 */
SEC("kprobe/wake_up_new_task")
int BPF_KPROBE(contid_newtask_again, struct task_struct *child)
{
	const struct task_struct *maker = (const void *)bpf_get_current_task();
	struct contid_key own = {};

	own.tgid = BPF_CORE_READ(child, tgid);
	own.start = BPF_CORE_READ(child, start_boottime);
	if (own.tgid != bpf_get_current_pid_tgid() >> 32 && bpf_map_lookup_elem(&contid_tasks, &own))
		return 0;
	return on_newtask(child, own, BPF_CORE_READ(child, cgroups) != BPF_CORE_READ(maker, cgroups));
}

/* The process that ends is the one that is being set: 1 where the setter will clean up. */
VERIFIED_ALONE int leave_set(void)
{
	struct contid_outcome left = {0, SET_LEFT}, exited = {0, SET_EXITED};
	const struct contid_request *request = the_request();
	const struct contid_outcome *found;
	__u64 sequence;

	if (!request)
		return 0;
	sequence = *(const volatile __u64 *)&request->pending;
	if (!sequence || !bpf_map_update_elem(&contid_outcomes, &sequence, &left, BPF_NOEXIST))
		return 0;
	found = bpf_map_lookup_elem(&contid_outcomes, &sequence);
	if (!found || found->how != SET_COMMITTED)
		return 0;
	sequence++;
	if (!bpf_map_update_elem(&contid_outcomes, &sequence, &exited, BPF_NOEXIST))
		return 1;
	found = bpf_map_lookup_elem(&contid_outcomes, &sequence);
	return found && found->how == SET_EXITED; /* by the other program of this end, or by another thread */
}

/* Other threads may not have written their last records yet. */
VERIFIED_ALONE int remember_gone(__u64 contid, __u64 start, __u32 tgid)
{
	const struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);
	struct contid_chain gone = {};
	struct contid_key key = {};

	if (!id)
		return 0;
	key.start = start;
	key.tgid = tgid;
	__builtin_memcpy(gone.chain, id->chain, sizeof(gone.chain));
	gone.depth = id->depth;
	bpf_map_update_elem(&contid_gone, &key, &gone, BPF_ANY);
	return 0;
}

static __always_inline int any_granted(void)
{
	__u32 first = 0;
	const struct contid_counters *counters = bpf_map_lookup_elem(&contid_counters, &first);

	return counters && counters->granted;
}

/*
 * do_exit() counts signal->live down, lets go of the audit context, then comes here. Several threads may see
 * 0 here; one of them deletes the entry. many: it has other threads, which are on their way out.
 */
static __always_inline int on_exit(struct contid_key key, __u32 many)
{
	const struct contid_request *request = the_request();
	__u64 contid;

	if (any_granted())
		bpf_map_delete_elem(&contid_grants, &key);
	if (request && same_key(&request->target, &key) && leave_set())
		return 0;
	contid = contid_of(&key);
	if (contid && many)
		remember_gone(contid, key.start, key.tgid);
	if (!bpf_map_delete_elem(&contid_tasks, &key) && contid)
		put_id(contid, key.tgid, 1);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(contid_exit, struct task_struct *task)
{
	struct contid_key key = {};

	if (task->signal->live.counter)
		return 0;
	key.tgid = task->tgid;
	key.start = task->group_leader->start_boottime;
	return on_exit(key, task->signal->nr_threads > 1);
}

/* As contid_newtask_again: do_exit() calls it a little later; others do for a task that goes on. */
SEC("kprobe/exit_sem")
int BPF_KPROBE(contid_exit_again, struct task_struct *task)
{
	struct contid_key key;

	if ((__u64)task != bpf_get_current_task() || BPF_CORE_READ(task, signal, live.counter))
		return 0;
	key = key_of(task);
	if (!bpf_map_lookup_elem(&contid_tasks, &key) && !any_granted())
		return 0;
	return on_exit(key, BPF_CORE_READ(task, signal, nr_threads) > 1);
}
