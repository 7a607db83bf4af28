/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reserve, submit, count the drop: the only way a message leaves the kernel side. */
#ifndef AUDIT_ENRICHER_EMIT_H
#define AUDIT_ENRICHER_EMIT_H

#include "maps.h"

/*
 * Before a function that many paths lead to: the kernel verifies it by itself, once for each program, and not
 * again on every path. That is what makes loading quick, and keeps the largest program far from the
 * verifier's limit of a million instructions. On 5.10 such a function takes numbers only, no pointers. It is
 * weak since every object that includes it has it. bcc takes what is not static for a program.
 */
#ifdef WITHOUT_ACTS
#define VERIFIED_ALONE static __noinline
#else
#define VERIFIED_ALONE __attribute__((weak)) __noinline
#endif

/* An address that the verifier knows the type of, which is no number to it: through memory it is one. */
static __always_inline __u64 number_of(const void *address)
{
	const void *volatile place = address;
	__u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), (const void *)&place);
	return number;
}

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
