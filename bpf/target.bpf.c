// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Whom a signal or a trace is aimed at: each task that the kernel is about to write an OBJ_PID record of,
 * with its namespaces and its cgroup at that moment. Both functions note the task in the audit context of the
 * caller; their records come at the end of the call, when the target may be gone.
 */
#include "acts.h"

#define TARGETS_MAX 256 /* of one call: kill(-1) reaches every process */

static __always_inline int on_target(const struct task_struct *task)
{
	const struct task_struct *actor = (const void *)bpf_get_current_task();
	const struct audit_context *context = BPF_CORE_READ(actor, audit_context);
	struct target_event *event;
	struct act *act;
	void *ring;

	/* Without a rule that could ask for it nothing is recorded. */
	if (!task || !context || BPF_CORE_READ(context, dummy))
		return 0;
	act = act_of(actor);
	if (!act || act->targets >= TARGETS_MAX)
		return 0;
	act->targets++;
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event) {
		if (ring)
			COUNT(drop_fact);
		return 0;
	}
	fill_header(&event->who.c.header, EVENT_TARGET, sizeof(*event));
	fill_facts(&event->who, task);
	event->link = act->link;
	event->actor_tid = BPF_CORE_READ(actor, pid);
	event->pad = 0;
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("fentry/audit_signal_info_syscall")
int BPF_PROG(signal_sent, struct task_struct *task)
{
	return on_target(task);
}

SEC("fentry/__audit_ptrace")
int BPF_PROG(task_traced, struct task_struct *task)
{
	return on_target(task);
}
