/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which audit container identifier a process has: the maps, as the programs that keep them (contid/) and
 * those that only look (context.h) both know them.
 *
 * A number stands here for the value with all bits inverted, so that 0 is "none" and every value can be set
 * but the one that means unset.
 */
#ifndef AUDIT_ENRICHER_CONTID_H
#define AUDIT_ENRICHER_CONTID_H

#include "kernel.h"
#include "events.h"

#define CONTID_IDS   4096  /* identifiers in use at a time */
#define CONTID_TASKS 65536 /* processes that have one; user space may say otherwise before loading */
#define CONTID_GONE  4096  /* processes that ended last */

/* A process: threads share it, and an exec keeps it, whichever thread executes. */
struct contid_key {
	__u64 start; /* start_boottime of the group's leader */
	__u32 tgid;
	__u32 pad;
};

/* An identifier from the first process that has it to the last. */
struct contid_id {
	__u64 chain[CONTID_DEPTH]; /* itself, then those that it is nested in */
	struct contid_key owner;   /* who set it first */
	__u64 cgroup;		   /* that it is bound to, or 0 */
	__u64 held;		   /* processes whose own it is; CONTID_NESTED for each right below it */
	__u32 depth;		   /* how many of chain[] are valid */
	__u32 dead;		   /* about to end: nobody new may have it */
};

#define CONTID_NESTED (1ULL << 32)

/* What a process had that is gone, for the records of its threads that are still on their way out. */
struct contid_chain {
	__u64 chain[CONTID_DEPTH];
	__u32 depth;
	__u32 pad;
};

struct contid_tasks_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONTID_TASKS);
	__type(key, struct contid_key);
	__type(value, __u64); /* 0: it is being set */
};

struct contid_ids_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONTID_IDS);
	__type(key, __u64);
	__type(value, struct contid_id);
};

struct contid_gone_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, CONTID_GONE);
	__type(key, struct contid_key);
	__type(value, struct contid_chain);
};

extern struct contid_tasks_map contid_tasks SEC(".maps");
extern struct contid_ids_map contid_ids SEC(".maps");
extern struct contid_gone_map contid_gone SEC(".maps");

/*
 * What a process has, 0 for nothing. An entry's memory is used again at once when it is replaced or deleted,
 * so what was read counts only if the entry is still the process's: it is replaced once or twice in a life.
 */
static __always_inline __u64 contid_of(const struct contid_key *key)
{
	const __u64 *found = bpf_map_lookup_elem(&contid_tasks, key);
	const __u64 *again;
	__u64 contid;

	if (!found)
		return 0;
	contid = *(const volatile __u64 *)found;
	again = bpf_map_lookup_elem(&contid_tasks, key);
	if (!again)
		return 0;
	if (again != found)
		contid = *(const volatile __u64 *)again;
	return contid;
}

#define PF_EXITING 0x00000004 /* include/linux/sched.h */

/* Whether there is a store: in programs that only look. Set before load. */
extern const volatile __u32 contid_on;

/* As contid_of(), of a process that may be through with its end: other threads had it deleted. */
static __always_inline __u64 contid_of_ending(const struct contid_key *key, __u32 task_flags)
{
	__u64 contid = contid_of(key);
	const struct contid_chain *gone;

	if (contid || !(task_flags & PF_EXITING))
		return contid;
	gone = bpf_map_lookup_elem(&contid_gone, key);
	return gone ? gone->chain[0] : 0;
}

/*
 * The chain of what was found. An identifier that has ended since, and whose place is another's by now, is
 * one of a process that ended: either map has it whole, or nothing is said.
 */
static __always_inline void fill_chain(struct contid_tail *to, const struct contid_key *key, __u64 contid)
{
	const struct contid_id *id = bpf_map_lookup_elem(&contid_ids, &contid);
	const struct contid_chain *gone;

	to->pad = 0;
	to->depth = 0;
	__builtin_memset(to->chain, 0, sizeof(to->chain));
	if (id) {
		__builtin_memcpy(to->chain, id->chain, sizeof(to->chain));
		if (*(const volatile __u64 *)&id->chain[0] == contid) {
			to->depth = id->depth;
			return;
		}
	}
	gone = bpf_map_lookup_elem(&contid_gone, key);
	if (gone && gone->chain[0] == contid) {
		__builtin_memcpy(to->chain, gone->chain, sizeof(to->chain));
		to->depth = gone->depth;
	}
}

#endif
