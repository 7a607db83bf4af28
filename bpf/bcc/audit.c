// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The programs as bcc compiles them on the host: the shared sources' functions behind kprobes, kretprobes
 * and a raw tracepoint, which need no BTF. bcc takes this file as its main one: functions here, and no
 * other, become programs (enricher/sources/bpf/bccload.py, docs/adr/0007-bcc-loader.md).
 */
#include "bcc/kernel.h"
#include "bcc/maps.h"
#include "bcc/core_fixes.h"

/* From here on SEC() begins a program of the CO-RE object, which is a plain function to us. */
#undef SEC
#undef BPF_PROG
#undef BPF_KPROBE
#define SEC(name)	      static __always_inline
#define BPF_PROG(name, ...)   name(__VA_ARGS__)
#define BPF_KPROBE(name, ...) name(__VA_ARGS__)
#include "audit.bpf.c"
#include "lost.bpf.c"
#include "cgroup.bpf.c"

#ifdef BY_PROOF
/* A record whose place is not known: whose it is can be said, which others belong to it cannot. */
static __always_inline int on_unplaced_record(const struct sk_buff *skb)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const unsigned char *data = BPF_CORE_READ(skb, data);
	struct event_stamp stamp = {};
	__u16 type = 0;
	__u16 flags;

	COUNT(records);
	if (bpf_probe_read_kernel(&type, sizeof(type), data + NLMSG_TYPE_OFFSET)) {
		COUNT(fail_type);
		COUNT(uncounted);
		return 0;
	}
	if (parse_stamp(data, &stamp)) {
		COUNT(uncounted);
		return 0;
	}
	flags = subject_flags(task, type);
	if (!interrupts_are_known() && type >= AUDIT_FIRST_SECURITY && type <= AUDIT_LAST_SECURITY)
		flags &= ~CONTEXT_SUBJECT;
	emit_context(&stamp, type, flags | CONTEXT_UNTRACKED);
	return 0;
}

/* Current is the nonce's sender. */
static __always_inline void prove_mnt(void)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct mnt_namespace *mnt = BPF_CORE_READ(task, nsproxy, mnt_ns);

	if (mnt && BPF_CORE_READ(mnt, ns.inum) == OWN_MNT_INUM)
		LEARNED->mnt = 1;
}

static __always_inline int on_unproved_buffer(const struct audit_buffer *ab)
{
	const struct sk_buff *skb;

	if (!ab)
		return 0;
	if (is_own_context(ab))
		LEARNED->context = 1;
	skb = audit_buffer_skb(ab);
	if (!LEARNED->record) {
		if (!skb || !holds_nonce(BPF_CORE_READ(skb, data)) || word_at(ab, BUFFER_CTX)) {
			COUNT(fail_queue_unknown);
			return 0;
		}
		LEARNED->record = 1;
		prove_mnt();
	}
	if (is_own_context(ab) || (LEARNED->context && !word_at(ab, BUFFER_CTX)))
		return on_buffer(0, ab, NULL);
	if (skb)
		return on_unplaced_record(skb);
	COUNT(fail_buffer);
	return 0;
}

static __always_inline int on_queued(const struct sk_buff_head *list, const struct sk_buff *skb)
{
	if (!audit_queue) {
		if (!holds_nonce(BPF_CORE_READ(skb, data))) {
			COUNT(fail_queue_unknown);
			return 0;
		}
		audit_queue = (__u64)list;
		prove_mnt();
	}
	if ((__u64)list == audit_queue)
		return on_unplaced_record(skb);
	COUNT(queue_other);
	return 0;
}
#else
#define on_unproved_buffer(ab) record_end(ab)
#define on_queued(list, skb)   record_queued(list, skb)
#endif

int bcc_record_end(struct pt_regs *ctx)
{
	return on_unproved_buffer((void *)PT_REGS_PARM1(ctx));
}

int bcc_record_queued(struct pt_regs *ctx)
{
	return on_queued((void *)PT_REGS_PARM1(ctx), (void *)PT_REGS_PARM2(ctx));
}

int bcc_event_exit(struct pt_regs *ctx)
{
	return event_exit();
}

/* What the task's last call left is over: an event that a rule cut short. */
int bcc_syscall_entry(struct pt_regs *ctx)
{
	close_silently_ended(bpf_get_current_task(), TALLY_ORPHAN);
	return 0;
}

int bcc_uring_exit(struct pt_regs *ctx)
{
	return uring_exit();
}

int bcc_record_lost(struct pt_regs *ctx)
{
	return record_lost((void *)PT_REGS_PARM1(ctx));
}

int bcc_cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_made((void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_cgroup_rmdir(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_removed((void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_cgroup_rename(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_renamed((void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_cgroup_release(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_released((void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_task_exit(struct bpf_raw_tracepoint_args *ctx)
{
	return task_exit();
}
