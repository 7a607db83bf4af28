/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The message of the current task as the subject of an event, and what is known of it there. */
#ifndef AUDIT_ENRICHER_CONTEXT_H
#define AUDIT_ENRICHER_CONTEXT_H

#include "contid.h"
#include "task.h"
#include "users.h"

/* Of the current task. */
static __always_inline __u32 task_flags(const struct task_struct *task)
{
#ifndef BUILT_BY_BCC
	if (HAVE_TYPED_TASK)
		return bpf_get_current_task_btf()->flags;
#endif
	return BPF_CORE_READ(task, flags);
}

static __always_inline __u16 subject_flags(const struct task_struct *task, __u16 type)
{
	__u16 flags = 0;

	if (task_flags(task) & PF_KTHREAD)
		flags |= CONTEXT_KTHREAD;
	if (in_interrupt_context())
		flags |= CONTEXT_INTERRUPT;
	/* Written for a packet or a block, on top of whoever is there, in an interrupt or not. */
	if (!flags && type != AUDIT_NETFILTER_PKT && type != AUDIT_DM_EVENT && type != AUDIT_MAC_IPSEC_EVENT)
		flags = CONTEXT_SUBJECT;
	return flags;
}

/* A record without a tally to come: whether it was counted is known now. */
static __always_inline void account_alone(__u32 flags, int sent)
{
	if (sent && flags & CONTEXT_STANDALONE) {
		COUNT(standalone);
		COUNT(counted);
	} else if (flags & (CONTEXT_STANDALONE | CONTEXT_UNTRACKED)) {
		COUNT(uncounted);
	}
}

/* See emit_stamped(); typed: the verifier knows that task is one. */
static __always_inline int emit_of(int typed, const struct task_struct *task, const struct event_stamp *stamp,
				   __u32 type, __u32 flags)
{
	const struct task_struct *same = (const void *)bpf_get_current_task();
	const struct pid *known = FOLLOW(typed, task, group_leader, thread_pid), *pid = known;
	__u32 level = known ? FOLLOW(typed, known, level) : 0;
	const struct user_namespace *user = user_of(typed, task);
	void *ring = ring_of_cpu();
	struct contid_key key = {};
	__u64 contid = 0;

	if (typed && level)
		pid = BPF_CORE_READ(same, group_leader, thread_pid);

	if (!ring) {
		account_alone(flags, 0);
		return 0;
	}
	if (contid_on) {
		key.tgid = FOLLOW(typed, task, tgid);
		key.start = FOLLOW(typed, task, group_leader, start_boottime);
		contid = contid_of_ending(&key, FOLLOW(typed, task, flags));
	}
	if (flags & CONTEXT_SUBJECT && user && !IS_HOSTS(user, user) && FOLLOW(typed, user, level) > 0)
		tell_users(same);
	if (level >= LEVELS_MAX)
		level = LEVELS_MAX - 1;
	if (level < LEVELS_INLINE) {
		struct context_event *event;
		__u32 size = sizeof(*event);

		if (contid) {
			struct context_contid_event *with = bpf_ringbuf_reserve(ring, sizeof(*with), 0);

			size = sizeof(*with);
			if (with)
				fill_chain(&with->contid, &key, contid);
			event = (void *)with;
		} else {
			event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
		}
		if (!event) {
			COUNT(drop_context);
			account_alone(flags, 0);
			return 0;
		}
		fill_header(&event->header, EVENT_CONTEXT, size);
		event->stamp = *stamp;
		event->record_type = type;
		event->flags = flags;
		fill_context_of(typed, event, NULL, task, user, pid, level);
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	} else {
		struct context_deep_event *deep;
		__u32 size = sizeof(*deep);

		if (contid) {
			struct context_deep_contid_event *with = bpf_ringbuf_reserve(ring, sizeof(*with), 0);

			size = sizeof(*with);
			if (with)
				fill_chain(&with->contid, &key, contid);
			deep = (void *)with;
		} else {
			deep = bpf_ringbuf_reserve(ring, sizeof(*deep), 0);
		}
		if (!deep) {
			COUNT(drop_context);
			account_alone(flags, 0);
			return 0;
		}
		__builtin_memset(deep->more, 0, sizeof(deep->more));
		fill_header(&deep->c.header, EVENT_CONTEXT, size);
		deep->c.stamp = *stamp;
		deep->c.record_type = type;
		deep->c.flags = flags;
		fill_context(&deep->c, deep->more, same, pid, level);
		bpf_ringbuf_submit(deep, BPF_RB_NO_WAKEUP);
	}
	COUNT(contexts);
	account_alone(flags, 1);
	return 0;
}

VERIFIED_ALONE int emit_stamped(__u64 sec, __u32 ms, __u32 serial, __u32 type, __u32 flags)
{
	struct event_stamp stamp = {sec, ms, serial};

#ifndef BUILT_BY_BCC
	if (HAVE_TYPED_TASK)
		return emit_of(1, bpf_get_current_task_btf(), &stamp, type, flags);
#endif
	return emit_of(0, (const void *)bpf_get_current_task(), &stamp, type, flags);
}

static __always_inline void emit_context(const struct event_stamp *stamp, __u32 type, __u32 flags)
{
	emit_stamped(stamp->sec, stamp->ms, stamp->serial, type, flags);
}

#endif
