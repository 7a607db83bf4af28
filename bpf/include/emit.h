/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reserve, submit, count the drop: the only way a message leaves the kernel side. */
#ifndef AUDIT_ENRICHER_EMIT_H
#define AUDIT_ENRICHER_EMIT_H

#include "maps.h"
#include "verify.h"

/* The ring of this CPU, or NULL (counted). */
static __always_inline void *ring_of_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();
	void *ring = bpf_map_lookup_elem(&rings, &cpu);

	if (!ring)
		COUNT(fail_ring);
	return ring;
}

static __always_inline void fill_header(struct event_header *header, __u16 type, __u32 size)
{
	header->type = type;
	header->version = EVENT_VERSION;
	header->size = size;
	header->time = bpf_ktime_get_boot_ns();
}

/* wakeup: BPF_RB_NO_WAKEUP where a netlink record will come and drive the drain, else BPF_RB_FORCE_WAKEUP. */
static __always_inline void emit_tally(const struct open_event *open, __u16 flags, __u64 wakeup)
{
	struct tally_event *tally;
	void *ring = ring_of_cpu();

	tally = ring ? bpf_ringbuf_reserve(ring, sizeof(*tally), 0) : NULL;
	if (!tally) {
		if (ring)
			COUNT(drop_tally);
		COUNT_MANY(uncounted, open->records);
		return;
	}
	fill_header(&tally->header, EVENT_TALLY, sizeof(*tally));
	tally->stamp = open->stamp;
	tally->records = open->records;
	tally->flags = flags;
	tally->runs = open->runs;
	if (open->truncated)
		tally->flags |= TALLY_TRUNCATED;
	__builtin_memcpy(tally->run, open->run, sizeof(tally->run));
	COUNT(tallies);
	COUNT_MANY(counted, open->records);
	if (flags & TALLY_ORPHAN)
		COUNT(orphans);
	bpf_ringbuf_submit(tally, wakeup);
}

#endif
