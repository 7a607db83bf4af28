/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The "audit(SEC.MS:SERIAL): " of a record's text, the one key that is there on every kernel. */
#ifndef AUDIT_ENRICHER_STAMP_H
#define AUDIT_ENRICHER_STAMP_H

#include "core_fixes.h"
#include "emit.h"

#define STAMP_PREFIX 6	/* "audit(" */
#define STAMP_WINDOW 48 /* "audit(", 20 + 1 + 3 + 1 + 10 digits and separators, ")" */

/* 1 where the byte is zero, else 0; value is at most 255. No comparison: see below. */
static __always_inline __u64 is_zero(__u64 value)
{
	return (value - 1) >> 63;
}

/*
 * 0, or -1 where the text does not start with a stamp (counted). Every separator shifts the three
 * numbers, so that after ')' they are second, millisecond and serial. Arithmetic instead of branches:
 * the verifier would follow each branch at each of the 42 places, a million instructions in all.
 */
static __noinline int parse_text(const unsigned char *data, struct event_stamp *stamp)
{
	__u64 first = 0, second = 0, third = 0, separators = 0, ended = 0;
	char text[STAMP_WINDOW];

	if (bpf_probe_read_kernel(text, sizeof(text), data + NLMSG_HDRLEN)) {
		COUNT(fail_text);
		return -1;
	}
#pragma clang loop unroll(disable)
	for (int i = STAMP_PREFIX; i < STAMP_WINDOW; i++) {
		__u64 c = (unsigned char)text[i];
		__u64 shift, keep;

		ended |= is_zero(c ^ ')');
		shift = (is_zero(c ^ '.') | is_zero(c ^ ':')) & (ended ^ 1);
		separators += shift;
		shift = -shift;		     /* all ones at a separator */
		keep = ~shift & (ended - 1); /* all ones at a digit */
		first = (second & shift) | (first & ~shift);
		second = (third & shift) | (second & ~shift);
		third = ((third * 10 + c - '0') & keep) | (third & ~keep & ~shift);
	}
	if (text[0] != 'a' || text[1] != 'u' || text[5] != '(' || separators != 2 || !ended) {
		COUNT(fail_stamp);
		return -1;
	}
	stamp->sec = first;
	stamp->ms = second;
	stamp->serial = third;
	return 0;
}

#ifdef BUILT_BY_BCC

static __always_inline int call_stamp(int typed, const struct audit_buffer *ab, struct event_stamp *stamp)
{
	return -1;
}

static __always_inline int parse_stamp(const unsigned char *data, struct event_stamp *stamp)
{
	return parse_text(data, stamp);
}

#else

/* 0 and what audit_log_start() has put into the text of a record of a call; -1 for others, whose text tells.
 */
static __always_inline int call_stamp(int typed, const struct audit_buffer *ab, struct event_stamp *stamp)
{
	const struct audit_context *context = ab ? FOLLOW(typed, ab, ctx) : NULL;
	__u64 began;

	if (!context || !(typed ? known_in_call(context) : audit_context_in_call(context)))
		return -1;
	began = typed ? known_began(context) : audit_context_began(context);
	stamp->sec = began / 1000000000;
	stamp->ms = began % 1000000000 / 1000000;
	stamp->serial = typed ? known_serial(context) : audit_context_serial(context);
	return 0;
}

VERIFIED_ALONE int parse_aside(__u64 data)
{
	__u32 first = 0;
	struct event_stamp *stamp = bpf_map_lookup_elem(&parsed, &first);

	if (!stamp) {
		COUNT(fail_stamp);
		return -1;
	}
	return parse_text((const void *)data, stamp);
}

/*
 * By way of a place of this CPU, since a function that is verified alone gives back no more than one number.
 * The kernel runs a program a second time on a CPU only when it is through with it, whoever takes the CPU
 * from it.
 */
static __always_inline int parse_stamp(const unsigned char *data, struct event_stamp *stamp)
{
	__u32 first = 0;
	const struct event_stamp *from;

#ifdef HAVE_CASTS /* what a cast leads to is no number to newer verifiers */
	if (parse_aside(number_of(data)))
		return -1;
#else
	if (parse_aside((__u64)data))
		return -1;
#endif
	from = bpf_map_lookup_elem(&parsed, &first);
	if (!from)
		return -1;
	*stamp = *from;
	return 0;
}

#endif

#endif
