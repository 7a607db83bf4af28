/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Settings, maps and counters that every program family shares. Defined in maps.bpf.c, declared
 * here: the files are compiled one by one and linked into one object.
 */
#ifndef AUDIT_ENRICHER_MAPS_H
#define AUDIT_ENRICHER_MAPS_H

#include "kernel.h"
#include "events.h"

/*
 * The self-test's nonce: sixteen characters as two big-endian words, so that a shift register over
 * the text finds it. Set before load.
 */
extern const volatile __u64 nonce_high;
extern const volatile __u64 nonce_low;

/*
 * The hierarchy that tells containers apart: its number, 0 for cgroup v2, and the subsystem by which a task's
 * place in it is found, CGROUP_V2 for cgroup v2. Set before load.
 */
#define CGROUP_V2 0xffffffffU
extern const volatile __u32 cgroup_hierarchy;
extern const volatile __u32 cgroup_subsys;

struct ring_map {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
};

struct rings_map {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1); /* user space sets the number of possible CPUs */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__array(values, struct ring_map);
};

/* One event that a task has begun and the kernel is not done with. */
struct open_event {
	struct event_stamp stamp;
	__u32 records;
	__u16 flags; /* CONTEXT_* of the context that was sent */
	__u16 runs;  /* valid ones of run[]; the last one is the one that grows */
	__u32 truncated;
	__u32 told; /* its serial, once its count was told */
	struct tally_run run[TALLY_RUNS];
};

/*
 * Keyed by the address of the task_struct: 5.10 has no task storage for tracing programs, and a tid
 * changes hands when a thread execs. An entry stays from a task's first event to the task's
 * end, since to insert one costs more than all that is done with it; where many tasks have one, it lives from
 * an event's first record to its last.
 */
#define OPEN_EVENTS_MAX 16384

struct open_events_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OPEN_EVENTS_MAX);
	__type(key, __u64);
	__type(value, struct open_event);
};

/*
 * The cgroups that user space was told of. One that falls out is told of again: a walk costs a few
 * microseconds and no more.
 */
#define TOLD_CGROUPS_MAX 16384

struct told_cgroups_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TOLD_CGROUPS_MAX);
	__type(key, __u64);
	__type(value, __u8);
};

/*
 * A system call that did something to be told beside its records. Keyed as open_events. Nothing looks at the
 * end of the call, so it shows whose it is: a link never speaks of an earlier one. What is left behind falls
 * out some time.
 */
#define ACTS_MAX 8192

struct act {
	__u64 link;
	__u32 child_pid;
	__u32 child_seen;
	__u32 targets;
	__u32 untold;
	__u32 serial; /* of its records, once the link was told; else 0 */
	__s32 major;
	__u64 argument[4];
	__u64 began; /* by the clock's tick */
};

struct acts_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ACTS_MAX);
	__type(key, __u64);
	__type(value, struct act);
};

/* Where a task was when it entered setns or unshare; keyed as open_events, gone when the call returns. */
#define CALLS_MAX 4096

struct place {
	__u32 inum[NS_KINDS];
	__u32 missing;
	__u32 pad;
	__u64 unique[NS_KINDS];
};

struct places_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CALLS_MAX);
	__type(key, __u64);
	__type(value, struct place);
};

/* The second that is being counted, and how often something came in it. */
struct bucket {
	__u64 second;
	__u64 count;
};

struct buckets_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
};

/* Which sets of namespaces were told of, by cgroup; one that falls out is told of again. */
#define MEMBERS_MAX 16384

struct member_key {
	__u64 cgroup_id;
	__u32 mnt;
	__u32 net;
	__u32 pid;
	__u32 user;
};

struct members_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MEMBERS_MAX);
	__type(key, struct member_key);
	__type(value, __u8);
};

/*
 * Namespaces that the look at the start has told of; one that falls out is told of again. A number that is
 * given out later is told of when its namespace is made.
 */
#define FOUND_MAX 16384

struct found_key {
	__u32 inum;
	__u32 kind;
};

struct found_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FOUND_MAX);
	__type(key, struct found_key);
	__type(value, __u8);
};

/*
 * A task as it was seen once. Twice for the one at which the start looks: too much for the stack, and nobody
 * else runs that program.
 */
struct seen_namespace {
	__u64 unique;
	__u32 inum;
	__u32 owner;
	__u32 parent;
	__u32 level;
};

struct seen_task {
	__u64 proxy;
	__u64 pid;
	__u64 cgroup;
	__u64 failed;
	struct seen_namespace ns[NS_KINDS];
};

struct seen_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct seen_task);
};

/*
 * What a record is about that has no subject: noted while the function that writes it runs, by the task
 * that is current then, which is whoever it is.
 */
#define ABOUTS_MAX 1024 /* as many run at a time: one on each CPU, and those that were preempted in it */

struct about {
	__u64 stack; /* where the function was entered */
	__u64 time;
	__u64 unique;
	__u32 inum;
	__u32 pad;
};

struct abouts_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ABOUTS_MAX);
	__type(key, __u64);
	__type(value, struct about);
};

/*
 * The user namespaces whose maps user space was told of, by inum: of which namespace, and with how many
 * extents, since each map is written once, and later than the namespace is made. Deleted when the number is
 * given back. One that falls out is told of again.
 */
#define TOLD_USERS_MAX 4096

struct told_users {
	__u64 ns;     /* address */
	__u64 unique; /* 0 where the kernel has none */
	__u32 uids;
	__u32 gids;
};

struct told_users_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TOLD_USERS_MAX);
	__type(key, __u32);
	__type(value, struct told_users);
};

/* Messages that were refused, by the inum of the sender's user namespace. */
#define REFUSED_SENDERS_MAX 1024

struct refused_senders_map {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, REFUSED_SENDERS_MAX);
	__type(key, __u32);
	__type(value, struct bucket);
};

/* The stamp that was parsed last. */
struct parsed_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_stamp);
};

struct counters_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* user space sets the number of possible CPUs */
	__type(key, __u32);
	__type(value, struct counters);
};

/* The ids of cgroups that user space was told of and that were asked for last. */
#define TOLD_LAST 256
extern __u64 told_last[TOLD_LAST];

/* Tasks whose event began inside of a call, by their address: see settle() in audit.bpf.c. */
#define BEGUN_INSIDE 64
extern __u64 begun_inside[BEGUN_INSIDE];

/* Entries of open_events; roughly, where tasks are preempted between two steps. */
extern __u64 places_taken;

/*
 * The host's own namespaces, those of the kernel's threads. Of one of these pointers all is known: what they
 * point to lives as long as kthreadd, which has them and never ends. Learned by the look at the start
 * (baseline.bpf.c); 0 before, and where there was none.
 */
struct host_namespaces {
	__u64 proxy; /* set last */
	__u64 user;
	__u64 pid;
	__u32 missing; /* of what is in nsproxy */
	__u32 pad;
	__u32 inum[NS_KINDS];
	__u64 unique[NS_KINDS];
};
extern struct host_namespaces host;

extern struct rings_map rings SEC(".maps");
extern struct open_events_map open_events SEC(".maps");
extern struct told_cgroups_map told_cgroups SEC(".maps");
extern struct acts_map acts SEC(".maps");
extern struct places_map places SEC(".maps");
extern struct buckets_map change_bucket SEC(".maps");
extern struct members_map members SEC(".maps");
extern struct found_map found SEC(".maps");
extern struct seen_map seen SEC(".maps");
extern struct abouts_map abouts SEC(".maps");
extern struct told_users_map told_users SEC(".maps");
extern struct refused_senders_map refused_senders SEC(".maps");
extern struct buckets_map refused_bucket SEC(".maps");
extern struct parsed_map parsed SEC(".maps");
extern struct counters_map counters SEC(".maps");

/*
 * COUNT(place): one more at this place. An atomic add whose result is not used (5.10 has no other):
 * an interrupt between load and store would lose one, and the ledger adds these figures up.
 */
#define COUNT(place) COUNT_MANY(place, 1)
#define COUNT_MANY(place, n)                                                                                 \
	({                                                                                                   \
		__u32 cpu_ = bpf_get_smp_processor_id();                                                     \
		struct counters *set_ = bpf_map_lookup_elem(&counters, &cpu_);                               \
		if (set_)                                                                                    \
			__sync_fetch_and_add(&set_->place, n);                                               \
	})

#endif
