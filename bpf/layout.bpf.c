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
