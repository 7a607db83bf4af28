/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Private structures on a kernel without BTF: where something is looked for is a candidate, and it is
 * used only once a record has proved it. Nothing is believed of what is not proved: then a context says
 * UNTRACKED (no count of its records will follow), or a namespace is missing.
 *
 *   the record in an audit_buffer   its text, read through that pointer, holds the nonce
 *   no list of records beside it    the nonce record's next word is NULL: the head of a list never is,
 *                                   and USER_AVC has no context, whose place that is
 *   the context in an audit_buffer  it equals current->audit_context, which is public. This is compared
 *                                   for each record anew; that NULL there means "no context" is believed
 *                                   after the first that was equal
 *   the serial in an audit_context  not looked for: a record with the task's own context has in its
 *                                   text the serial of that
 *   ns_common in a mnt_namespace    the nonce's sender is user space's own process, whose inum was read
 *                                   from /proc/self/ns/mnt
 */
#ifndef AUDIT_ENRICHER_BCC_PROOF_H
#define AUDIT_ENRICHER_BCC_PROOF_H

#include "include/stamp.h"

/* Never asked: what needs it (the queue hook of the shared sources) is not used here. */
static __always_inline __u32 audit_context_serial(const struct audit_context *ctx)
{
	return 0;
}

static __always_inline int is_own_context(const struct audit_buffer *ab)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	__u64 ctx = word_at(ab, BUFFER_CTX);

	return ctx && ctx == (__u64)BPF_CORE_READ(task, audit_context);
}

/* Of a record with a context outside of a system call as well: its event then ends with the next one's start.
 */
static __always_inline __u32 audit_buffer_serial(const struct audit_buffer *ab)
{
	const struct sk_buff *skb = audit_buffer_skb(ab);
	struct event_stamp stamp = {};

	if (!is_own_context(ab) || !skb || parse_stamp(BPF_CORE_READ(skb, data), &stamp))
		return 0;
	return stamp.serial;
}

#endif
