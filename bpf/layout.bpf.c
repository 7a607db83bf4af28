// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Names every struct that crosses to user space, so that the object's own BTF describes it: user
 * space compares that with what it decodes, in a test and at every start. Pointers, because BTF
 * keeps what a global mentions and nothing that only a function's locals mention; never followed.
 */
#include "kernel.h"
#include "events.h"

const struct context_event *layout_context;
const struct context_deep_event *layout_context_deep;
const struct tally_event *layout_tally;
const struct counters *layout_counters;
const struct cgroup_event *layout_cgroup;
const struct walk_event *layout_walk;
const struct task_facts *layout_task_facts;
const struct link_event *layout_link;
const struct change_event *layout_change;
const struct target_event *layout_target;
const struct namespace_event *layout_namespace;
const struct users_event *layout_users;
const struct users_large_event *layout_users_large;
const struct id_extent *layout_extent;
const struct refused_event *layout_refused;
const struct packet_event *layout_packet;
const struct member_event *layout_member;
const struct contid_tail *layout_contid;
const struct context_contid_event *layout_context_contid;
const struct context_deep_contid_event *layout_context_deep_contid;
const struct target_contid_event *layout_target_contid;
const struct change_contid_event *layout_change_contid;
const struct namespace_contid_event *layout_namespace_contid;
const struct refused_contid_event *layout_refused_contid;
