/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a task does within a system call, before the call's serial can be known: the link that a message
 * about it carries, and the message that says which stamp the link became.
 */
#ifndef AUDIT_ENRICHER_ACTS_H
#define AUDIT_ENRICHER_ACTS_H

#include "contid.h"
#include "emit.h"
#include "task.h"

#ifdef WITHOUT_ACTS /* the build by bcc, where it is not known by what audit tells one call from another */

static __always_inline struct act *begin_act(const struct task_struct *task)
{
	return 0;
}

static __always_inline void tell_link(__u64 key, const struct event_stamp *stamp)
{
}

static __always_inline void end_act(__u64 key)
{
}

#else

/*
 * Of an earlier call: nothing looks at the end of one that is not recorded, since that would be a look at
 * every system call of the host. Two calls are told apart by the serial, or before the records by what was
 * called and when, which leaves equal calls within a tick, of which the first was not recorded.
 */
static __always_inline int is_over(const struct act *act, const struct audit_context *context)
{
	return (act->serial && act->serial != audit_context_serial(context)) ||
	       act->began != audit_context_began(context) || act->major != BPF_CORE_READ(context, major) ||
	       act->argument[0] != BPF_CORE_READ(context, argv[0]) ||
	       act->argument[1] != BPF_CORE_READ(context, argv[1]) ||
	       act->argument[2] != BPF_CORE_READ(context, argv[2]) ||
	       act->argument[3] != BPF_CORE_READ(context, argv[3]);
}

/*
 * The act of the current call, begun here; NULL where no record can come of it: the task has no context
 * (audit is off), or is outside of a call.
 */
static __always_inline struct act *begin_act(const struct task_struct *task)
{
	const struct audit_context *context = BPF_CORE_READ(task, audit_context);
	__u64 key = (__u64)task;
	struct act fresh = {};

	if (!context || !audit_context_in_call(context))
		return 0;
	fresh.link = bpf_ktime_get_boot_ns();
	fresh.major = BPF_CORE_READ(context, major);
	bpf_core_read(fresh.argument, sizeof(fresh.argument), &context->argv);
	fresh.began = audit_context_began(context);
	if (bpf_map_update_elem(&acts, &key, &fresh, BPF_ANY)) {
		COUNT(fail_acts);
		return 0;
	}
	return bpf_map_lookup_elem(&acts, &key);
}

/* The same where a call may come by here more than once. */
static __always_inline struct act *act_of(const struct task_struct *task)
{
	const struct audit_context *context = BPF_CORE_READ(task, audit_context);
	__u64 key = (__u64)task;
	struct act *act = bpf_map_lookup_elem(&acts, &key);

	if (act && context && audit_context_in_call(context) && !is_over(act, context))
		return act;
	return begin_act(task);
}

VERIFIED_ALONE int emit_link(__u64 key, __u64 sec, __u32 ms, __u32 serial)
{
	struct act *act = bpf_map_lookup_elem(&acts, &key);
	const struct audit_context *context = BPF_CORE_READ((const struct task_struct *)key, audit_context);
	struct event_stamp stamp = {sec, ms, serial};
	struct link_event *event;
	void *ring;

	if (!act || !context || is_over(act, context))
		return 0;
	act->serial = serial;
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event) {
		if (ring)
			COUNT(drop_fact);
		return 0;
	}
	fill_header(&event->header, EVENT_LINK, sizeof(*event));
	event->stamp = stamp;
	event->link = act->link;
	event->tid = BPF_CORE_READ((const struct task_struct *)key, pid);
	event->untold = act->untold;
	event->child_pid = act->child_pid;
	event->child_seen = act->child_seen;
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline void tell_link(__u64 key, const struct event_stamp *stamp)
{
	emit_link(key, stamp->sec, stamp->ms, stamp->serial);
}

static __always_inline void end_act(__u64 key)
{
	bpf_map_delete_elem(&acts, &key);
}

#endif

/* Fills in everything but the header; for a task other than current what it has is read while it cannot go.
 */
static __always_inline void fill_facts(struct task_facts *who, const struct task_struct *task)
{
	const struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = pid ? BPF_CORE_READ(pid, level) : 0;

	if (level >= LEVELS_MAX)
		level = LEVELS_MAX - 1;
	__builtin_memset(&who->c.stamp, 0, sizeof(who->c.stamp));
	__builtin_memset(who->more, 0, sizeof(who->more));
	who->c.record_type = 0;
	who->c.flags = 0;
	fill_context(&who->c, who->more, task, pid, level);
}

/*
 * The chain of a task that acts, so is not through with its end; depth 0 where it has none or there is no
 * store. Filled in last: behind its branches the verifier has little left to look at once for each.
 */
static __always_inline void fill_actors_chain(struct contid_tail *to, const struct task_struct *actor)
{
	struct contid_key key = {};
	__u64 contid = 0;

	if (contid_on) {
		key.tgid = BPF_CORE_READ(actor, tgid);
		key.start = BPF_CORE_READ(actor, group_leader, start_boottime);
		contid = contid_of(&key);
	}
	if (contid) {
		fill_chain(to, &key, contid);
	} else {
		to->pad = 0;
		to->depth = 0;
		__builtin_memset(to->chain, 0, sizeof(to->chain));
	}
}

#endif
