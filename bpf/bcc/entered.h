/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What fexit has and a return probe has not: the arguments of the call. A probe at the entry keeps the one
 * that is needed, by the task. The kernel has room for so many calls under way of one function, and leaves
 * the return of any further out in silence. So what was kept and not fetched tells that a return was missed,
 * at the task's next call of this kind, clone, exec or at its end; what cannot be fetched tells of an entry.
 */
#ifndef AUDIT_ENRICHER_BCC_ENTERED_H
#define AUDIT_ENRICHER_BCC_ENTERED_H

#include "maps.h"

#ifdef WITH_LIVES

static __always_inline int look_for_missed_return(void)
{
	__u64 key = bpf_get_current_task();

	if (bpf_map_lookup_elem(&entered, &key) && !bpf_map_delete_elem(&entered, &key))
		COUNT(drop_namespace);
	return 0;
}

static __always_inline int enter_with(__u64 argument)
{
	__u64 key = bpf_get_current_task();

	look_for_missed_return();
	if (bpf_map_update_elem(&entered, &key, &argument, BPF_ANY))
		COUNT(drop_namespace);
	return 0;
}

/* What this call was entered with, 0 where that is not known. */
static __always_inline __u64 entered_with(void)
{
	__u64 key = bpf_get_current_task();
	const __u64 *argument = bpf_map_lookup_elem(&entered, &key);
	__u64 found;

	if (!argument) {
		COUNT(drop_namespace);
		return 0;
	}
	found = *argument;
	bpf_map_delete_elem(&entered, &key);
	return found;
}

#else

static __always_inline int look_for_missed_return(void)
{
	return 0;
}

#endif

#endif
