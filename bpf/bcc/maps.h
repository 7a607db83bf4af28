/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The maps by descriptor: enricher/sources/bpf/bccload.py makes them and says which is which. */
#ifndef AUDIT_ENRICHER_BCC_MAPS_H
#define AUDIT_ENRICHER_BCC_MAPS_H

#include "kernel.h"
#include "include/maps.h"

#define MAP_BY_FD(fd) ((void *)bpf_pseudo_fd(1, fd)) /* BPF_PSEUDO_MAP_FD */
#define MAP_VALUE_BY_FD(fd)                                                                                  \
	((void *)bpf_pseudo_fd(2, fd)) /* BPF_PSEUDO_MAP_VALUE: of an array's one element */
#define KERNEL_VARIABLE(id) ((void *)bpf_pseudo_fd(3, id)) /* BPF_PSEUDO_BTF_ID */

/* Two are of one type, by which they cannot be told apart. */
struct refused_bucket_map {
	int unused;
};
#define refused_bucket (*(struct refused_bucket_map *)0)

/*
 * What a function was called with that a return probe has to know, by the task: none of them calls another
 * of them.
 */
#define ENTERED_MAX 4096

struct entered_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTERED_MAX);
	__type(key, __u64);
	__type(value, __u64);
};
extern struct entered_map entered;

struct contid_tasks_map;
struct contid_ids_map;
struct contid_gone_map;

/* The shared sources name a map by its variable; the type of that says which descriptor is meant. */
#define MAP_OF(variable)                                                                                     \
	MAP_BY_FD(_Generic((variable), struct rings_map *                                                    \
			   : RINGS_FD, struct open_events_map *                                              \
			   : OPEN_EVENTS_FD, struct told_cgroups_map *                                       \
			   : TOLD_CGROUPS_FD, struct acts_map *                                              \
			   : ACTS_FD, struct places_map *                                                    \
			   : PLACES_FD, struct buckets_map *                                                 \
			   : CHANGE_BUCKET_FD, struct members_map *                                          \
			   : MEMBERS_FD, struct abouts_map *                                                 \
			   : ABOUTS_FD, struct told_users_map *                                              \
			   : TOLD_USERS_FD, struct refused_senders_map *                                     \
			   : REFUSED_SENDERS_FD, struct refused_bucket_map *                                 \
			   : REFUSED_BUCKET_FD, struct entered_map *                                         \
			   : ENTERED_FD, struct contid_tasks_map *                                           \
			   : CONTID_TASKS_FD, struct contid_ids_map *                                        \
			   : CONTID_IDS_FD, struct contid_gone_map *                                         \
			   : CONTID_GONE_FD, struct counters_map *                                           \
			   : COUNTERS_FD))
#define bpf_map_lookup_elem(map, key) bpf_map_lookup_elem(MAP_OF(map), (void *)(key))
#define bpf_map_update_elem(map, key, value, flags)                                                          \
	bpf_map_update_elem(MAP_OF(map), (void *)(key), (void *)(value), flags)
#define bpf_map_delete_elem(map, key) bpf_map_delete_elem(MAP_OF(map), (void *)(key))

/* It uses these names. */
#include "include/contid.h"

/* There are no variables either: settings are macros, and what is learned is the element of an array. */
#define nonce_high	 NONCE_HIGH
#define nonce_low	 NONCE_LOW
#define cgroup_hierarchy ((__u32)CGROUP_HIERARCHY)
#define cgroup_subsys	 ((__u32)CGROUP_SUBSYS)
#define contid_on	 CONTID_ON

struct learned {
	__u64 queue;   /* address of the kernel's audit_queue */
	__u64 record;  /* the record is where we look for it in an audit_buffer */
	__u64 context; /* and so is its audit_context */
	__u64 mnt;     /* and the ns_common in a mnt_namespace */
};
#define LEARNED	    ((struct learned *)MAP_VALUE_BY_FD(LEARNED_FD))
#define audit_queue (LEARNED->queue)

/* User space has made the maps and decodes the messages by its own figures: no other build of it will do. */
CHECK_SIZE(struct learned, LEARNED_SIZE);
CHECK_SIZE(struct open_event, OPEN_EVENT_SIZE);
CHECK_SIZE(struct counters, COUNTERS_SIZE);
CHECK_SIZE(struct context_event, CONTEXT_SIZE);
CHECK_SIZE(struct tally_event, TALLY_SIZE);
CHECK_SIZE(struct cgroup_event, CGROUP_SIZE);
CHECK_SIZE(struct walk_event, WALK_SIZE);
CHECK_SIZE(struct context_contid_event, CONTEXT_CONTID_SIZE);
CHECK_SIZE(struct link_event, LINK_SIZE);
CHECK_SIZE(struct change_contid_event, CHANGE_SIZE);
CHECK_SIZE(struct target_event, TARGET_SIZE);
CHECK_SIZE(struct namespace_contid_event, NAMESPACE_SIZE);
CHECK_SIZE(struct users_event, USERS_SIZE);
CHECK_SIZE(struct refused_contid_event, REFUSED_SIZE);
CHECK_SIZE(struct packet_event, PACKET_SIZE);
CHECK_SIZE(struct member_event, MEMBER_SIZE);
CHECK_SIZE(struct act, ACT_SIZE);
CHECK_SIZE(struct place, PLACE_SIZE);
CHECK_SIZE(struct bucket, BUCKET_SIZE);
CHECK_SIZE(struct member_key, MEMBER_KEY_SIZE);
CHECK_SIZE(struct told_users, TOLD_USERS_SIZE);
CHECK_SIZE(struct about, ABOUT_SIZE);
_Static_assert(EVENT_VERSION == DECODED_VERSION, "EVENT_VERSION");
_Static_assert(OPEN_EVENTS_MAX == OPEN_EVENTS_MADE, "OPEN_EVENTS_MAX");
_Static_assert(TOLD_CGROUPS_MAX == TOLD_CGROUPS_MADE, "TOLD_CGROUPS_MAX");
_Static_assert(CALLS_MAX == PLACES_MADE, "CALLS_MAX");
_Static_assert(ENTERED_MAX == ENTERED_MADE, "ENTERED_MAX");

#endif
