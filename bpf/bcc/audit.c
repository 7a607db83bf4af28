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
#undef BPF_KRETPROBE
#define SEC(name)		 static __always_inline
#define BPF_PROG(name, ...)	 name(const void *ctx, ##__VA_ARGS__)
#define BPF_KPROBE(name, ...)	 name(struct pt_regs *ctx, ##__VA_ARGS__)
#define BPF_KRETPROBE(name, ...) name(struct pt_regs *ctx, ##__VA_ARGS__)
#include "audit.bpf.c"
#include "lost.bpf.c"
#include "cgroup.bpf.c"

#ifdef WITH_CHANGES
#include "change.bpf.c"
#endif
#ifdef WITH_TARGETS
#include "target.bpf.c"
#endif
#ifdef WITH_LIVES
#include "namespace.bpf.c"
#endif
#ifdef WITH_REFUSED
#include "refused.bpf.c"
#endif
#ifdef WITH_PACKETS
#include "netfilter.bpf.c"
#endif
#include "bcc/entered.h"

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

static __always_inline int on_unproved_buffer(const void *ctx, const struct audit_buffer *ab)
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
		return on_buffer(0, ab, STACK_OF(ctx));
	if (skb)
		return on_unplaced_record(skb);
	COUNT(fail_buffer);
	return 0;
}

static __always_inline int on_queued(const void *ctx, const struct sk_buff_head *list, struct sk_buff *skb)
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
#define on_unproved_buffer(ctx, ab) record_end(ctx, ab)
#define on_queued(ctx, list, skb)   record_queued(ctx, list, skb)
#endif

int bcc_record_end(struct pt_regs *ctx)
{
	return on_unproved_buffer(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_record_queued(struct pt_regs *ctx)
{
	return on_queued(ctx, (void *)PT_REGS_PARM1(ctx), (void *)PT_REGS_PARM2(ctx));
}

int bcc_event_exit(struct pt_regs *ctx)
{
	return event_exit(ctx);
}

/* What the task's last call left is over: an event that a rule cut short. */
int bcc_syscall_entry(struct pt_regs *ctx)
{
	close_silently_ended(bpf_get_current_task(), TALLY_ORPHAN);
	return 0;
}

int bcc_uring_exit(struct pt_regs *ctx)
{
	return uring_exit(ctx);
}

int bcc_record_lost(struct pt_regs *ctx)
{
	return record_lost(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_made(ctx, (void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_cgroup_rmdir(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_removed(ctx, (void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_cgroup_rename(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_renamed(ctx, (void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_cgroup_release(struct bpf_raw_tracepoint_args *ctx)
{
	return cgroup_released(ctx, (void *)ctx->args[0], (void *)ctx->args[1]);
}

int bcc_task_exit(struct bpf_raw_tracepoint_args *ctx)
{
	look_for_missed_return();
	return task_exit(ctx);
}

#ifdef WITH_CHANGES
int bcc_unshare_enter(struct pt_regs *ctx)
{
	return unshare_enter(ctx);
}

int bcc_unshare_leave(struct pt_regs *ctx)
{
	return unshare_leave(ctx);
}

int bcc_setns_enter(struct pt_regs *ctx)
{
	return setns_enter(ctx);
}

int bcc_setns_leave(struct pt_regs *ctx)
{
	return setns_leave(ctx);
}

int bcc_setns32_enter(struct pt_regs *ctx)
{
	return setns32_enter(ctx);
}

int bcc_setns32_leave(struct pt_regs *ctx)
{
	return setns32_leave(ctx);
}

int bcc_exec_enter(struct pt_regs *ctx)
{
	return exec_enter(ctx);
}

int bcc_exec_leave(struct pt_regs *ctx)
{
	return exec_leave(ctx);
}

int bcc_task_made(struct bpf_raw_tracepoint_args *ctx)
{
	look_for_missed_return();
	return task_made(ctx, (void *)ctx->args[0], ctx->args[1]);
}
#endif

#ifdef WITH_TARGETS
int bcc_signal_sent(struct pt_regs *ctx)
{
	return signal_sent(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_task_traced(struct pt_regs *ctx)
{
	return task_traced(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_pidfd_made(struct pt_regs *ctx)
{
	return pidfd_made(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_pidfd_robbed(struct pt_regs *ctx)
{
	return pidfd_robbed(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_pidfd_found(struct pt_regs *ctx)
{
	return pidfd_found(ctx, 0, (void *)PT_REGS_RC(ctx));
}

int bcc_pidfd_used(struct pt_regs *ctx)
{
	return pidfd_used(ctx, 0, NULL, (void *)PT_REGS_RC(ctx));
}
#endif

#ifdef WITH_REFUSED
int bcc_message_received(struct pt_regs *ctx)
{
	return message_received(ctx, (void *)PT_REGS_PARM1(ctx), (void *)PT_REGS_PARM2(ctx));
}
#endif

#ifdef WITH_LIVES
int bcc_uts_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM3(ctx));
}

int bcc_uts_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? uts_copied(ctx, 0, NULL, (void *)old, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_ipc_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM3(ctx));
}

int bcc_ipc_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? ipc_copied(ctx, 0, NULL, (void *)old, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_mnt_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM2(ctx));
}

int bcc_mnt_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? mnt_copied(ctx, 0, (void *)old, NULL, NULL, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_net_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM3(ctx));
}

int bcc_net_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? net_copied(ctx, 0, NULL, (void *)old, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_pid_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM3(ctx));
}

int bcc_pid_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? pid_copied(ctx, 0, NULL, (void *)old, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_cgroup_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM3(ctx));
}

int bcc_cgroup_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? cgroup_copied(ctx, 0, NULL, (void *)old, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_time_copied_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM3(ctx));
}

int bcc_time_copied(struct pt_regs *ctx)
{
	__u64 old = entered_with();

	return old ? time_copied(ctx, 0, NULL, (void *)old, (void *)PT_REGS_RC(ctx)) : 0;
}

int bcc_user_made_enter(struct pt_regs *ctx)
{
	return enter_with(PT_REGS_PARM1(ctx));
}

int bcc_user_made(struct pt_regs *ctx)
{
	__u64 cred = entered_with();

	return cred ? user_made(ctx, (void *)cred, PT_REGS_RC(ctx)) : 0;
}

int bcc_inum_freed(struct pt_regs *ctx)
{
	return inum_freed(ctx, PT_REGS_PARM1(ctx));
}

int bcc_ns_freed(struct pt_regs *ctx)
{
	return ns_freed(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_task_executed(struct bpf_raw_tracepoint_args *ctx)
{
	look_for_missed_return();
	return task_executed(ctx, (void *)ctx->args[0]);
}

int bcc_task_cloned(struct bpf_raw_tracepoint_args *ctx)
{
	return look_for_missed_return();
}
#endif

#ifdef WITH_PACKETS
int bcc_packet_by_target(struct pt_regs *ctx)
{
	return packet_by_target(ctx, (void *)PT_REGS_PARM1(ctx), (void *)PT_REGS_PARM2(ctx));
}

int bcc_packet_by_expression(struct pt_regs *ctx)
{
	return packet_by_expression(ctx, (void *)PT_REGS_PARM1(ctx), (void *)PT_REGS_PARM2(ctx),
				    (void *)PT_REGS_PARM3(ctx));
}

int bcc_table_gone(struct pt_regs *ctx)
{
	return table_gone(ctx, (void *)PT_REGS_PARM1(ctx));
}

int bcc_about_over(struct pt_regs *ctx)
{
	return about_over(ctx);
}
#endif
