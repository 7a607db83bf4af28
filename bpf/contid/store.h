/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The store of audit container identifiers: its maps beside those of include/contid.h, and what its programs
 * share. Linked into an object of its own, which is loaded only where the store is wanted and may be pinned.
 *
 * Who may write what. The service makes one request at a time; only its set replaces what a process has, and
 * only it makes identifiers. A fork and a cgroup only add processes that have none. An exit deletes, and
 * whoever deletes a process's entry gives back its count.
 */
#ifndef AUDIT_ENRICHER_CONTID_STORE_H
#define AUDIT_ENRICHER_CONTID_STORE_H

#include <bpf/bpf_core_read.h>

#include "contid.h"
#include "verify.h"

#define CONTID_GRANTS 1024
#define CONTID_RING   (256 * 1024)

#define EPERM	 1
#define ENOENT	 2
#define ESRCH	 3
#define EBUSY	 16
#define EEXIST	 17
#define EXDEV	 18
#define EINVAL	 22
#define ENOSPC	 28
#define EMLINK	 31
#define ENOTUNIQ 76

/* contid_request.op */
#define REQUEST_GET    1
#define REQUEST_SET    2
#define REQUEST_GRANT  3
#define REQUEST_REVOKE 4

/* contid_request.step: whom the service's next signal is aimed at. */
#define STEP_NONE   0
#define STEP_CALLER 1
#define STEP_TARGET 2
#define STEP_DONE   3

/* contid_outcome.how. Who enters one first has decided: no program may hold a lock on 5.10. */
#define SET_COMMITTED 1 /* whom the target forks from now on has it, whatever contid_tasks says yet */
#define SET_ABORTED   2 /* it forked before */
#define SET_LEFT      3 /* it ended before */
#define SET_FINISHED  4 /* contid_tasks says it */
#define SET_EXITED    5 /* the target ended between commit and finish: the setter cleans up */

struct contid_outcome {
	__u64 contid; /* where it is committed */
	__u64 how;
};

/* What the service asks for, and what came of it. */
struct contid_request {
	__u64 sequence; /* even, never twice: of commit or abort; the next: of finish */
	__u64 pending;	/* the same while the target is being set */
	__u64 service;	/* its thread, as bpf_get_current_pid_tgid() has it; 0: nobody asks */
	__u64 contid;
	__u64 cgroup;
	__u32 op;
	__u32 step;
	__u32 orchestrator;
	__u32 result;
	struct contid_key own; /* the service's */
	struct contid_key caller;
	struct contid_key target;
	__u64 caller_task;
	__u32 may;     /* the caller has the capability */
	__u32 granted; /* ... or the grant */
	__u32 depth;   /* of chain */
	__u32 pad;
	__u64 chain[CONTID_DEPTH]; /* what the target had */
};

/* Of things that nobody should see; one set, added to atomically. */
struct contid_counters {
	__u64 inherited;    /* processes that were made with one */
	__u64 full_tasks;   /* ... that should have been: no room */
	__u64 lost_ops;	    /* messages that found no room */
	__u64 fail_id;	    /* an identifier that a process has was not found */
	__u64 fail_request; /* a signal of the service that fits no request */
	__u64 requests;
	__u64 granted; /* grants ever made: while there was none, none has to be taken back */
};

struct contid_request_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct contid_request);
};

struct contid_grants_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONTID_GRANTS);
	__type(key, struct contid_key);
	__type(value, __u64);
};

/* By a cgroup's id. An identifier is bound to one at most, so there is room. */
struct contid_bound_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONTID_IDS);
	__type(key, __u64);
	__type(value, __u64);
};

/* By a request's sequence. The service empties it after each. */
struct contid_outcomes_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct contid_outcome);
};

struct contid_counters_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct contid_counters);
};

struct contid_ring_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CONTID_RING);
};

extern struct contid_request_map contid_request SEC(".maps");
extern struct contid_grants_map contid_grants SEC(".maps");
extern struct contid_bound_map contid_bound SEC(".maps");
extern struct contid_outcomes_map contid_outcomes SEC(".maps");
extern struct contid_counters_map contid_counters SEC(".maps");
extern struct contid_ring_map contid_ring SEC(".maps");
extern const volatile __u32 cgroup_hierarchy;

#define CONTID_COUNT(place)                                                                                  \
	({                                                                                                   \
		__u32 first_ = 0;                                                                            \
		struct contid_counters *set_ = bpf_map_lookup_elem(&contid_counters, &first_);               \
		if (set_)                                                                                    \
			__sync_fetch_and_add(&set_->place, 1);                                               \
	})

static __always_inline struct contid_request *the_request(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&contid_request, &first);
}

static __always_inline int same_key(const struct contid_key *a, const struct contid_key *b)
{
	return a->tgid == b->tgid && a->start == b->start;
}

/* Of any task, by its address. */
static __always_inline struct contid_key key_of(const struct task_struct *task)
{
	struct contid_key key = {};

	key.tgid = BPF_CORE_READ(task, tgid);
	key.start = BPF_CORE_READ(task, group_leader, start_boottime);
	return key;
}

/* A message to be filled in, all but its old chain set to nothing; NULL where there is no room. */
static __always_inline struct contid_event *begin_op(__u16 op, __u32 opid)
{
	struct contid_event *event = bpf_ringbuf_reserve(&contid_ring, sizeof(*event), 0);

	if (!event) {
		CONTID_COUNT(lost_ops);
		return 0;
	}
	event->header.type = EVENT_CONTID;
	event->header.version = EVENT_VERSION;
	event->header.size = sizeof(*event);
	event->header.time = bpf_ktime_get_boot_ns();
	event->contid = 0;
	__builtin_memset(event->old, 0, sizeof(event->old));
	event->old_depth = 0;
	event->opid = opid;
	event->op = op;
	event->orchestrator = 0;
	event->result = 0;
	return event;
}

/*
 * No program may hold a lock on 5.10, nor use what an atomic addition finds. So counting goes like this. Who
 * takes one off and reads 0 then is the last, or one of several that read 0: it says so (dead), reads once
 * more, and deletes; who of them deletes it has ended it. Who adds one without having it looks after that
 * whether it is said to end, and takes the one back. Each addition is a full barrier on x86.
 */

/* Where nothing holds it any more. Returns 1 to the one who ended it. */
static __always_inline int end_if_free(struct contid_id *id, const __u64 *contid)
{
	__u64 nothing = 0;

	asm volatile(
		""
		: "+r"(nothing)); /* of a known 0 clang makes another atomic operation, which 5.10 lacks */
	if (*(volatile __u64 *)&id->held)
		return 0;
	*(volatile __u32 *)&id->dead = 1;
	__sync_fetch_and_add(&id->held, nothing);
	if (*(volatile __u64 *)&id->held) {
		*(volatile __u32 *)&id->dead = 0;
		return 0;
	}
	return !bpf_map_delete_elem(&contid_ids, contid);
}

/* One process more that has what its maker has: it cannot end before. 0 or an errno. */
static __always_inline int hold(const __u64 *contid)
{
	struct contid_id *id = bpf_map_lookup_elem(&contid_ids, contid);

	if (!id)
		return -ENOENT;
	__sync_fetch_and_add(&id->held, 1);
	return 0;
}

/* See put_id(). Returns the identifier that this one was nested right in, if this one has ended by it; else
 * 0. */
VERIFIED_ALONE __u64 put_one(__u64 contid, __u32 opid, __u64 one)
{
	struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);
	struct contid_chain was = {};
	struct contid_event *event;
	__u64 cgroup;
	const __u64 *bound;

	if (!id) {
		CONTID_COUNT(fail_id);
		return 0;
	}
	/* What is there after the end may be another one's. */
	__builtin_memcpy(was.chain, id->chain, sizeof(was.chain));
	was.depth = id->depth;
	cgroup = id->cgroup;
	__sync_fetch_and_add(&id->held, -one);
	if (!end_if_free(id, &contid))
		return 0;
	event = begin_op(CONTID_DROP, opid);
	if (event) {
		__builtin_memcpy(event->old, was.chain, sizeof(event->old));
		event->old_depth = was.depth;
		bpf_ringbuf_submit(event, 0);
	}
	bound = cgroup ? bpf_map_lookup_elem(&contid_bound, &cgroup) : 0;
	if (bound && *bound == contid)
		bpf_map_delete_elem(&contid_bound, &cgroup);
	return was.chain[1];
}

/* One process less, or with CONTID_NESTED one identifier less below it; what that was the last of ends,
 * upwards. */
VERIFIED_ALONE int put_id(__u64 contid, __u32 opid, __u64 one)
{
	for (int i = 0; i < CONTID_DEPTH && contid; i++) {
		contid = put_one(contid, opid, one);
		one = CONTID_NESTED;
	}
	return 0;
}

/* One process more, of somebody who does not have it. 0, or an errno where it ends. */
VERIFIED_ALONE int join(__u64 contid)
{
	struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);

	/* Identifiers that are nested in it may keep it: it takes no process any more. */
	if (!id || !(__u32) * (volatile __u64 *)&id->held)
		return -ENOENT;
	__sync_fetch_and_add(&id->held, 1);
	if (!*(volatile __u32 *)&id->dead && id->chain[0] == contid &&
	    bpf_map_lookup_elem(&contid_ids, &contid) == id)
		return 0;
	/* Of an identifier that has taken the place it is taken back as well. */
	if (id->chain[0] == contid)
		put_id(contid, 0, 1);
	else
		__sync_fetch_and_add(&id->held, -1);
	return -ENOENT;
}

#endif
