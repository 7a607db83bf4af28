/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Whether a task may have an event or an act that is not over. Asked at every system call of every task that
 * audit looks at, nearly always in vain: two look-ups in hash maps would cost more than a short call itself.
 *
 * Tasks share a slot. What is put into a map is counted before, and what was taken out of it after: a slot of
 * zero means that there is nothing, and one that is too high costs a look-up.
 */
#ifndef AUDIT_ENRICHER_UNDERWAY_H
#define AUDIT_ENRICHER_UNDERWAY_H

#include "maps.h"

#ifdef WITHOUT_ACTS /* the build by bcc has no variables, and no acts */

static __always_inline void count_begun(__u64 key)
{
}

static __always_inline void count_ended(__u64 key)
{
}

static __always_inline int is_under_way(__u64 key)
{
	return 1;
}

#else

/* Of the address by the golden ratio: its low bits are those of the allocator, and the same for all. */
static __always_inline __u64 *slot_of(__u64 key)
{
	return &under_way[(key * 0x9e3779b97f4a7c15ULL) >> (64 - UNDER_WAY_BITS)];
}

static __always_inline void count_begun(__u64 key)
{
	__sync_fetch_and_add(slot_of(key), 1);
}

static __always_inline void count_ended(__u64 key)
{
	__sync_fetch_and_add(slot_of(key), -1);
}

static __always_inline int is_under_way(__u64 key)
{
	return *slot_of(key) != 0;
}

#endif

#endif
