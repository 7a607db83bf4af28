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

/* The shared sources name a map by its variable; the type of that says which descriptor is meant. */
#define MAP_OF(variable)                                                                                     \
	MAP_BY_FD(_Generic((variable), struct rings_map *                                                    \
			   : RINGS_FD, struct open_events_map *                                              \
			   : OPEN_EVENTS_FD, struct told_cgroups_map *                                       \
			   : TOLD_CGROUPS_FD, struct counters_map *                                          \
			   : COUNTERS_FD))
#define bpf_map_lookup_elem(map, key)		    bpf_map_lookup_elem(MAP_OF(map), key)
#define bpf_map_update_elem(map, key, value, flags) bpf_map_update_elem(MAP_OF(map), key, value, flags)
#define bpf_map_delete_elem(map, key)		    bpf_map_delete_elem(MAP_OF(map), key)

/* There are no variables either: settings are macros, and what is learned is the element of an array. */
#define nonce_high	 NONCE_HIGH
#define nonce_low	 NONCE_LOW
#define cgroup_hierarchy ((__u32)CGROUP_HIERARCHY)
#define cgroup_subsys	 ((__u32)CGROUP_SUBSYS)

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
_Static_assert(EVENT_VERSION == DECODED_VERSION, "EVENT_VERSION");
_Static_assert(OPEN_EVENTS_MAX == OPEN_EVENTS_MADE, "OPEN_EVENTS_MAX");
_Static_assert(TOLD_CGROUPS_MAX == TOLD_CGROUPS_MADE, "TOLD_CGROUPS_MAX");

#endif
