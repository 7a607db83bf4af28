// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The one definition of what the store's headers declare. No program lives here. */
#include "store.h"

const volatile __u32 cgroup_hierarchy = 0;

struct contid_tasks_map contid_tasks SEC(".maps");
struct contid_ids_map contid_ids SEC(".maps");
struct contid_gone_map contid_gone SEC(".maps");
struct contid_request_map contid_request SEC(".maps");
struct contid_grants_map contid_grants SEC(".maps");
struct contid_bound_map contid_bound SEC(".maps");
struct contid_outcomes_map contid_outcomes SEC(".maps");
struct contid_counters_map contid_counters SEC(".maps");
struct contid_ring_map contid_ring SEC(".maps");

/* As layout.bpf.c: what crosses to user space, for the object's BTF. */
const struct contid_event *layout_contid;
const struct contid_request *layout_request;
const struct contid_counters *layout_counters;
const struct contid_id *layout_id;

char LICENSE[] SEC("license") = "Dual BSD/GPL";
