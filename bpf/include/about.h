/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The net namespace that a record without a subject is about: noted at the entry of the function that writes
 * the record (netfilter.bpf.c), told when the record is finished, forgotten at the function's exit.
 *
 * Noted by task: on a CPU others may run in between, since a packet of the task's own is evaluated with
 * preemption on. A packet in an interrupt has the interrupted task for current. What tells the two apart on
 * every kernel is the stack: interrupts have their own, or take the task's further down. A note counts for a
 * record only where this is finished a little below the place on the stack at which the function was entered.
 * A note that an interrupt took away leaves the record without one.
 */
#ifndef AUDIT_ENRICHER_ABOUT_H
#define AUDIT_ENRICHER_ABOUT_H

#include "emit.h"

#ifdef WITHOUT_PACKETS /* the build by bcc, where no program notes one */

#define STACK_OF(ctx) NULL

static __always_inline void tell_about(const struct event_stamp *stamp, __u16 type, const void *here)
{
}

#else

/* A program's context is on the stack that the kernel runs on: registers or arguments that were saved there.
 */
#define STACK_OF(ctx) ((const void *)(ctx))

/* Less than the page that keeps two stacks apart; from entry to record there are some hundred bytes. */
#define ABOUT_DEPTH   4096
/* A note that no exit took away: the kernel has only so many return probes at a time. */
#define ABOUT_NS      1000000000ULL

static __always_inline void tell_about(const struct event_stamp *stamp, __u16 type, const void *here)
{
	__u64 key = bpf_get_current_task();
	struct packet_event *event;
	struct about *about;
	void *ring;

	if (type != AUDIT_NETFILTER_PKT && type != AUDIT_NETFILTER_CFG)
		return;
	about = bpf_map_lookup_elem(&abouts, &key);
	if (!about || about->stack - number_of(here) >= ABOUT_DEPTH ||
	    bpf_ktime_get_boot_ns() - about->time >= ABOUT_NS)
		return;
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event) {
		if (ring)
			COUNT(drop_fact);
		return;
	}
	fill_header(&event->header, EVENT_PACKET, sizeof(*event));
	event->stamp = *stamp;
	event->unique = about->unique;
	event->inum = about->inum;
	event->record_type = type;
	event->pad = 0;
	COUNT(facts);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	bpf_map_delete_elem(&abouts, &key);
}

#endif

#endif
