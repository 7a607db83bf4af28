// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Requests of the service. It writes what it wants into contid_request, then sends the signal 0 to the
 * caller's pidfd and to the target's: security_task_kill() is where a program gets hold of both tasks without
 * looking up a number, which could be another's by then.
 *
 * A set and a fork of the target meet like this. The target is noted as pending; then its children and
 * threads are read; then "committed" is entered in contid_outcomes, where who enters first has decided. A
 * fork links the child to its parent first and looks for the note after that (inherit.bpf.c). So either the
 * child is seen here, or the fork sees the note: before the commit it enters "aborted", after it the child
 * has the identifier. Each addition and each entry between store and load is what orders them.
 */
#include "store.h"

#define CAP_AUDIT_CONTROL 30
#define ANCESTORS_MAX	  64 /* a container in a container in a session is some twenty deep */
#define THREADS_MAX	  64 /* of an orchestrator's target: runc's init has six */

/* Whether the process with this key made the task, or made who did, and so on. */
VERIFIED_ALONE int is_below(__u64 address, __u64 start, __u32 tgid)
{
	const struct task_struct *task = (const void *)address;

	for (int i = 0; i < ANCESTORS_MAX; i++) {
		__u32 id;

		task = BPF_CORE_READ(task, group_leader, real_parent);
		id = BPF_CORE_READ(task, tgid);
		if (!id)
			return 0;
		if (id == tgid && BPF_CORE_READ(task, group_leader, start_boottime) == start)
			return 1;
	}
	return 0;
}

static __always_inline int has_children(const struct task_struct *task)
{
	return (__u64)BPF_CORE_READ(task, children.next) !=
	       (__u64)task + bpf_core_field_offset(struct task_struct, children);
}

/* Of any thread of the process. */
VERIFIED_ALONE int any_children(__u64 address)
{
	const struct task_struct *task = (const void *)address;
	const struct signal_struct *signal = BPF_CORE_READ(task, signal);
	__u64 head = (__u64)signal + bpf_core_field_offset(struct signal_struct, thread_head);
	__u64 next = (__u64)BPF_CORE_READ(signal, thread_head.next);

	for (int i = 0; i < THREADS_MAX; i++) {
		if (next == head)
			return 0;
		task = (const void *)(next - bpf_core_field_offset(struct task_struct, thread_node));
		if (has_children(task))
			return 1;
		next = (__u64)BPF_CORE_READ(task, thread_node.next);
	}
	return 1; /* more threads than are looked at */
}

/* Whether the target is what it must be to be set: EBUSY where it is not, ESRCH where it is gone. */
VERIFIED_ALONE int is_busy(__u64 address, __u32 orchestrator)
{
	const struct task_struct *task = (const void *)address;

	if (!BPF_CORE_READ(task, signal, live.counter))
		return ESRCH;
	if (orchestrator)
		return any_children(address) ? EBUSY : 0;
	if (has_children(task) || (__u64)BPF_CORE_READ(task, group_leader) != address ||
	    BPF_CORE_READ(task, signal, nr_threads) != 1)
		return EBUSY;
	return 0;
}

/* The caller's turn: what it is and what it may. */
VERIFIED_ALONE int note_caller(__u64 address)
{
	const struct task_struct *task = (const void *)address;
	struct contid_request *request = the_request();
	const struct cred *cred = BPF_CORE_READ(task, real_cred);
	struct contid_key key = key_of(task);
	__u64 capabilities = 0;

	if (!request)
		return 0;
	bpf_core_read(&capabilities, sizeof(capabilities), &cred->cap_effective);
	request->may = !BPF_CORE_READ(cred, user_ns, level) && capabilities >> CAP_AUDIT_CONTROL & 1;
	request->granted = bpf_map_lookup_elem(&contid_grants, &key) != 0;
	request->caller = key;
	request->own = key_of((const void *)bpf_get_current_task());
	request->caller_task = address;
	request->step = STEP_TARGET;
	return 0;
}

/* What the target has now, into the request. Returns its own identifier, 0 for none. */
VERIFIED_ALONE __u64 note_chain(void)
{
	struct contid_request *request = the_request();
	const struct contid_id *id;
	struct contid_key key;
	__u64 contid;

	if (!request)
		return 0;
	key = request->target;
	contid = contid_of(&key);
	id = contid ? bpf_map_lookup_elem(&contid_ids, &contid) : 0;
	if (!id)
		return 0;
	__builtin_memcpy(request->chain, id->chain, sizeof(id->chain));
	request->depth = id->depth;
	return id->chain[0] == contid ? contid : 0;
}

/* Whether what the target has may be replaced: inherited from an orchestrator above the caller. */
VERIFIED_ALONE int is_nesting(__u64 old)
{
	const struct contid_request *request = the_request();
	const struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &old);
	struct contid_key owner, key;

	if (!request || !id)
		return 0;
	/* Its task_struct may be another's by now, and nobody nests for one that is gone. */
	key = key_of((const void *)request->caller_task);
	if (!same_key(&key, &request->caller))
		return 0;
	owner = id->owner;
	if (same_key(&owner, &request->caller) || (request->orchestrator && same_key(&owner, &request->own)))
		return 0;
	return is_below(request->caller_task, owner.start, owner.tgid);
}

/* An identifier that is in use: 0 and a process more is counted, or an errno. */
VERIFIED_ALONE int join_id(__u64 old)
{
	const struct contid_request *request = the_request();
	struct contid_key owner;
	struct contid_id *id;
	__u64 contid;

	if (!request)
		return EINVAL;
	contid = request->contid;
	id = bpf_map_lookup_elem(&contid_ids, &contid);
	if (!id)
		return ENOENT;
	owner = request->orchestrator ? request->own : request->caller;
	if (!same_key(&owner, &id->owner))
		return ENOTUNIQ;
	/* What it is nested in was settled when it was set first. */
	if (id->chain[1] != old)
		return old ? EEXIST : ENOTUNIQ;
	return join(contid) ? ENOTUNIQ : 0;
}

/* A new one, with one process. 0 or an errno. */
VERIFIED_ALONE int make_id(__u64 old)
{
	const struct contid_request *request = the_request();
	struct contid_id fresh = {};
	struct contid_id *above;
	__u64 contid;

	if (!request)
		return EINVAL;
	contid = request->contid;
	fresh.chain[0] = contid;
	fresh.depth = 1;
	fresh.held = 1;
	fresh.owner = request->orchestrator ? request->own : request->caller;
	if (old) {
		above = bpf_map_lookup_elem(&contid_ids, &old);
		if (!above)
			return ESRCH;
		if (above->depth >= CONTID_DEPTH)
			return EMLINK;
		for (int i = 1; i < CONTID_DEPTH; i++)
			fresh.chain[i] = above->chain[i - 1];
		fresh.depth = above->depth + 1;
		__sync_fetch_and_add(&above->held, CONTID_NESTED);
		/* The target was its last, and has just ended: nobody is committed then. */
		if (*(volatile __u32 *)&above->dead || bpf_map_lookup_elem(&contid_ids, &old) != above) {
			put_id(old, 0, CONTID_NESTED);
			return ESRCH;
		}
	}
	if (bpf_map_update_elem(&contid_ids, &contid, &fresh, BPF_NOEXIST)) {
		if (old)
			put_id(old, 0, CONTID_NESTED);
		return ENOSPC;
	}
	return 0;
}

/* Nobody has got it: as if it had not been made. old: what it would be nested in. */
VERIFIED_ALONE int unmake_id(__u64 contid, __u64 old)
{
	struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);

	if (!id)
		return 0;
	__sync_fetch_and_add(&id->held, -1);
	if (end_if_free(id, &contid) && old)
		put_id(old, 0, CONTID_NESTED);
	return 0;
}

/* Enters the outcome, 0; or the errno of what was entered before. */
VERIFIED_ALONE int decide(__u64 sequence, __u64 contid, __u32 how)
{
	struct contid_outcome mine = {contid, how};
	const struct contid_outcome *other;

	if (!bpf_map_update_elem(&contid_outcomes, &sequence, &mine, BPF_NOEXIST))
		return 0;
	other = bpf_map_lookup_elem(&contid_outcomes, &sequence);
	return other && other->how == SET_ABORTED ? EBUSY : ESRCH;
}

/* Whether the caller may set this target, without regard to what it has. */
VERIFIED_ALONE int may_set(__u64 address)
{
	const struct contid_request *request = the_request();
	int busy;

	if (!request)
		return EINVAL;
	busy = is_busy(address, request->orchestrator);
	if (busy)
		return busy;
	if (same_key(&request->target, &request->caller))
		return EXDEV;
	if (!request->orchestrator && !is_below(address, request->caller.start, request->caller.tgid))
		return EXDEV;
	return 0;
}

/* The target's entry, in which the identifier is put in the end: room for it is had before. 0 or an errno. */
static __always_inline int reserve(const struct contid_key *key)
{
	__u64 none = 0;
	long failed = bpf_map_update_elem(&contid_tasks, key, &none, BPF_NOEXIST);

	if (!failed)
		return 0;
	return failed == -EEXIST ? EBUSY : ENOSPC; /* a cgroup has just given it one */
}

/* From pending to committed; 0 or an errno. */
VERIFIED_ALONE int commit(__u64 old)
{
	struct contid_request *request = the_request();
	struct contid_key key;
	__u64 contid;
	__u32 made;
	int result;

	if (!request)
		return EINVAL;
	key = request->target;
	contid = request->contid;
	if (!old) {
		result = reserve(&key);
		if (result)
			return result;
	}
	result = join_id(old);
	made = result == ENOENT;
	if (made)
		result = make_id(old);
	if (!result) {
		result = decide(request->sequence, contid, SET_COMMITTED);
		if (!result) {
			bpf_map_update_elem(&contid_tasks, &key, &contid, BPF_EXIST);
			return 0;
		}
		unmake_id(contid, made ? old : 0);
	}
	if (!old)
		bpf_map_delete_elem(&contid_tasks, &key);
	return result;
}

/* The identifier's members that only the service changes. */
VERIFIED_ALONE int bind_id(__u64 contid, __u64 cgroup)
{
	struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);
	__u64 before;

	if (!id || !cgroup)
		return 0;
	before = id->cgroup;
	if (before && before != cgroup)
		bpf_map_delete_elem(&contid_bound, &before);
	id->cgroup = cgroup;
	bpf_map_update_elem(&contid_bound, &cgroup, &contid, BPF_ANY);
	return 0;
}

VERIFIED_ALONE int tell_set(__u32 result)
{
	const struct contid_request *request = the_request();
	struct contid_event *event;

	if (!request)
		return 0;
	event = begin_op(CONTID_SET, request->target.tgid);
	if (!event)
		return 0;
	event->contid = request->contid;
	event->orchestrator = request->orchestrator;
	event->result = result;
	__builtin_memcpy(event->old, request->chain, sizeof(event->old));
	event->old_depth = request->depth;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Pending from here on. The addition orders this before what is read of the target. */
VERIFIED_ALONE __u64 begin_set(__u64 address)
{
	struct contid_request *request = the_request();

	if (!request)
		return 0;
	request->target = key_of((const void *)address);
	*(volatile __u64 *)&request->pending = request->sequence;
	CONTID_COUNT(requests);
	return note_chain();
}

/* The target's turn of a set. */
VERIFIED_ALONE int set(__u64 address)
{
	__u64 old = begin_set(address);
	struct contid_request *request = the_request();
	struct contid_key key;
	int result;

	if (!request)
		return 0;
	key = request->target;
	if (!request->contid)
		result = EINVAL;
	else if (!request->may && (request->orchestrator || !request->granted))
		result = EPERM;
	else
		result = may_set(address);
	if (!result && old && !is_nesting(old))
		result = EEXIST;
	if (!result)
		result = commit(old);
	request->result = result;
	tell_set(result);
	if (!result) {
		bind_id(request->contid, request->cgroup);
		if (old)
			put_id(old, key.tgid, 1);
		/* Else it ended meanwhile, and left the entry to us. */
		if (decide(request->sequence + 1, 0, SET_FINISHED) &&
		    !bpf_map_delete_elem(&contid_tasks, &key))
			put_id(request->contid, key.tgid, 1);
	}
	request->pending = 0;
	return 0;
}

/* The target's turn of a grant, or of taking it back. */
VERIFIED_ALONE int grant(__u64 address)
{
	struct contid_request *request = the_request();
	struct contid_key key = key_of((const void *)address);
	__u64 yes = 1;
	int result = 0;

	if (!request)
		return 0;
	if (!request->may && !request->granted)
		result = EPERM;
	else if (same_key(&key, &request->caller) ||
		 !is_below(address, request->caller.start, request->caller.tgid))
		result = EXDEV;
	else if (request->op == REQUEST_REVOKE)
		bpf_map_delete_elem(&contid_grants, &key);
	else if (bpf_map_update_elem(&contid_grants, &key, &yes, BPF_ANY))
		result = ENOSPC;
	if (!result && request->op == REQUEST_GRANT) {
		CONTID_COUNT(granted);
		/* It may have ended before anybody knew that there is one to take back. */
		if (!BPF_CORE_READ((const struct task_struct *)address, signal, live.counter)) {
			bpf_map_delete_elem(&contid_grants, &key);
			result = ESRCH;
		}
	}
	request->result = result;
	return 0;
}

VERIFIED_ALONE int look(__u64 address)
{
	struct contid_request *request = the_request();

	if (!request)
		return 0;
	request->target = key_of((const void *)address);
	note_chain();
	request->result = 0;
	return 0;
}

SEC("fentry/security_task_kill")
int BPF_PROG(contid_asked, struct task_struct *task, void *info, int number)
{
	struct contid_request *request = the_request();
	__u64 address;

	if (!request || number || request->service != bpf_get_current_pid_tgid())
		return 0;
	address = number_of(task);
	if (request->step == STEP_CALLER) {
		note_caller(address);
		return 0;
	}
	if (request->step != STEP_TARGET) {
		CONTID_COUNT(fail_request);
		return 0;
	}
	if (request->op == REQUEST_SET)
		set(address);
	else if (request->op == REQUEST_GET)
		look(address);
	else
		grant(address);
	request->step = STEP_DONE;
	return 0;
}
