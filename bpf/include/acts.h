/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a task does within a system call, before the call's serial can be known: the link that a message
 * about it carries, and the message that says which stamp the link became.
 */
#ifndef AUDIT_ENRICHER_ACTS_H
#define AUDIT_ENRICHER_ACTS_H

#include "emit.h"
#include "task.h"
#include "underway.h"

#ifdef WITHOUT_ACTS /* the build by bcc has no programs that begin one */

static __always_inline void tell_link(__u64 key, const struct event_stamp *stamp)
{
}

static __always_inline void end_act(__u64 key)
{
}

#else

/*
 * Of an earlier call, whose end nobody saw: the kernel skips a program for a task while another that it
 * preempted is inside of it on the same CPU. Two calls are told apart by the serial, or before the records by
 * what was called and when, which leaves equal calls within a tick.
 */
static __always_inline int is_over(const struct act *act, const struct audit_context *context)
{
	return (act->serial && act->serial != audit_context_serial(context)) ||
	       act->began != audit_context_began(context) || act->major != BPF_CORE_READ(context, major) ||
	       act->argument != BPF_CORE_READ(context, argv[0]);
}

/*
 * The act of the current call, begun where there is none yet; NULL where no record can come of it: the task
 * has no context (audit is off), or is outside of a call, where nothing would end the act.
 */
static __always_inline struct act *act_of(const struct task_struct *task)
{
	const struct audit_context *context = BPF_CORE_READ(task, audit_context);
	__u64 key = (__u64)task;
	struct act fresh = {};
	struct act *act;

	if (!context || !audit_context_in_call(context))
		return 0;
	act = bpf_map_lookup_elem(&acts, &key);
	if (act && !is_over(act, context))
		return act;
	if (!act)
		count_begun(key);
	fresh.link = bpf_ktime_get_boot_ns();
	fresh.major = BPF_CORE_READ(context, major);
	fresh.argument = BPF_CORE_READ(context, argv[0]);
	fresh.began = audit_context_began(context);
	if (bpf_map_update_elem(&acts, &key, &fresh, BPF_ANY)) {
		if (!act)
			count_ended(key);
		COUNT(fail_acts);
		return 0;
	}
	return bpf_map_lookup_elem(&acts, &key);
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
	if (!bpf_map_delete_elem(&acts, &key))
		count_ended(key);
}

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

#endif

#endif
