// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The one definition of what maps.h declares. No program lives here. */
#include "maps.h"
#include "contid.h"

const volatile __u64 nonce_high = 0;
const volatile __u64 nonce_low = 0;
const volatile __u32 cgroup_hierarchy = 0;
const volatile __u32 cgroup_subsys = 0;
const volatile __u32 contid_on = 0;
__u64 told_last[TOLD_LAST] = {};
__u64 begun_inside[BEGUN_INSIDE] = {};
__u64 places_taken = 0;
struct host_namespaces host = {};

/* One ring per CPU: user space makes them under one memory budget and puts them in before attaching. */
struct rings_map rings SEC(".maps");
struct open_events_map open_events SEC(".maps");
struct told_cgroups_map told_cgroups SEC(".maps");
struct acts_map acts SEC(".maps");
struct places_map places SEC(".maps");
struct buckets_map change_bucket SEC(".maps");
struct members_map members SEC(".maps");
struct found_map found SEC(".maps");
struct seen_map seen SEC(".maps");
struct abouts_map abouts SEC(".maps");
struct told_users_map told_users SEC(".maps");
struct refused_senders_map refused_senders SEC(".maps");
struct buckets_map refused_bucket SEC(".maps");
struct parsed_map parsed SEC(".maps");
struct counters_map counters SEC(".maps");
/* The store's, where it is on; else as small as can be, and never looked at. */
struct contid_tasks_map contid_tasks SEC(".maps");
struct contid_ids_map contid_ids SEC(".maps");
struct contid_gone_map contid_gone SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";
