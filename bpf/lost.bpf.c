// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What the kernel says it lost. A record that audit_log_start could not make reaches neither the end
 * hook nor netlink: audit_log_lost() is its only trace, and the `lost` of AUDIT_GET, which needs
 * CAP_AUDIT_CONTROL to read, does not tell one cause from another.
 *
 * The causes are told apart by the message, whose beginnings have been the same since 2.6. One of them is
 * no loss to a multicast reader: the hold and retry queues are auditd's (kernel/audit.c, kauditd_hold_skb).
 */
#include "emit.h"

#define WORD(a, b, c, d, e, f, g, h)                                                                         \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |             \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

#define RATE_LIMIT WORD('r', 'a', 't', 'e', ' ', 'l', 'i', 'm') /* "rate limit exceeded" */
#define BACKLOG	   WORD('b', 'a', 'c', 'k', 'l', 'o', 'g', ' ') /* "backlog limit exceeded" */
#define MEMORY	   WORD('o', 'u', 't', ' ', 'o', 'f', ' ', 'm') /* "out of memory in ..." */
#define QUEUE	   WORD('k', 'a', 'u', 'd', 'i', 't', 'd', ' ') /* "kauditd hold queue overflow" */

SEC("fentry/audit_log_lost")
int BPF_PROG(record_lost, const char *message)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), message);
	if (word == RATE_LIMIT)
		COUNT(lost_rate_limit);
	else if (word == BACKLOG)
		COUNT(lost_backlog);
	else if (word == MEMORY)
		COUNT(lost_memory);
	else if (word == QUEUE)
		COUNT(lost_queue);
	else
		COUNT(lost_other);
	return 0;
}
