/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the verifier is spared: functions that it looks at once, and numbers in place of typed pointers. */
#ifndef AUDIT_ENRICHER_VERIFY_H
#define AUDIT_ENRICHER_VERIFY_H

#include "kernel.h"

/*
 * Before a function that many paths lead to: the kernel verifies it by itself, once for each program, and not
 * again on every path. That is what makes loading quick, and keeps the largest program far from the
 * verifier's limit of a million instructions. On 5.10 such a function takes numbers only, no pointers. It is
 * weak since every object that includes it has it. bcc takes what is not static for a program.
 */
#ifdef BUILT_BY_BCC
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

#endif
