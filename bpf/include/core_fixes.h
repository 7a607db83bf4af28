/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One accessor per kernel drift, each with what changed. Chosen by the existence of a field in the
 * running kernel's BTF, never by version: distributions backport.
 */
#ifndef AUDIT_ENRICHER_CORE_FIXES_H
#define AUDIT_ENRICHER_CORE_FIXES_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* 6.18, and Ubuntu's 5.19 to 6.8: the serial and the time moved into a struct audit_stamp. */
struct audit_stamp___new {
	struct timespec64 ctime;
	unsigned int serial;
};
struct audit_context___stamp {
	struct audit_stamp___new stamp;
};
/* The same kernels: a buffer may hold several records, linked in skb_list. */
struct audit_buffer___list {
	struct sk_buff_head skb_list;
};

/* 5.16: in_syscall became context, of enum {UNUSED, SYSCALL, URING}. */
struct audit_context___kind {
	enum { AUDIT_CTX_UNUSED } context; /* an int would not be taken for it */
};

/* 5.12: net_cookie became a plain u64 set at creation; before, it was made on first use. */
struct net___cookie {
	__u64 net_cookie;
};
/* up to 6.17: the mount namespace's sequence number is its unique id. */
struct mnt_namespace___seq {
	__u64 seq;
};
/* 6.18: every namespace has a unique id. */
struct ns_common___id {
	__u64 ns_id;
};

/* What a namespace's kind is known by, on all that we know; nothing rests on it. */
struct ns_common___ops {
	const void *ops;
};

/* 6.15: to be read under RCU, and renamed. */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

/* 6.2 to 6.14: the preempt count is part of struct pcpu_hot. */
struct pcpu_hot___count {
	int preempt_count;
};

/* arm64 keeps it in the task's thread_info; count is the low half of preempt_count. */
struct thread_info___arm64 {
	int preempt_count;
};
struct task_struct___arm64 {
	struct thread_info___arm64 thread_info;
};

#pragma clang attribute pop

/*
 * Not inlined: within a loop clang would compute both offsets ahead of the choice, and the one that
 * this kernel does not have is a poisoned instruction.
 */
static __noinline __u32 audit_context_serial(const struct audit_context *ctx)
{
	const struct audit_context___stamp *stamped = (const void *)ctx;

	if (bpf_core_field_exists(stamped->stamp))
		return BPF_CORE_READ(stamped, stamp.serial);
	return BPF_CORE_READ(ctx, serial);
}

/* When the call began, as exact as the clock's tick. */
static __noinline __attribute__((unused)) __u64 audit_context_began(const struct audit_context *ctx)
{
	const struct audit_context___stamp *stamped = (const void *)ctx;
	__u64 sec, nsec;

	if (bpf_core_field_exists(stamped->stamp)) {
		sec = BPF_CORE_READ(stamped, stamp.ctime.tv_sec);
		nsec = BPF_CORE_READ(stamped, stamp.ctime.tv_nsec);
	} else {
		sec = BPF_CORE_READ(ctx, ctime.tv_sec);
		nsec = BPF_CORE_READ(ctx, ctime.tv_nsec);
	}
	return sec * 1000000000 + nsec;
}

/* Whether the task is inside a system call, or an operation of io_uring's, that audit knows of. Not inlined:
 * as below. */
static __noinline __attribute__((unused)) int audit_context_in_call(const struct audit_context *ctx)
{
	const struct audit_context___kind *with = (const void *)ctx;

	if (bpf_core_field_exists(with->context))
		return BPF_CORE_READ(with, context) != 0;
	return BPF_CORE_READ(ctx, in_syscall) != 0;
}

#define BUFFER_SKB(typed, ab)	 FOLLOW(typed, ab, skb)
#define BUFFER_SERIAL(typed, ab) ((typed) ? known_serial((ab)->ctx) : audit_buffer_serial(ab))

/* As audit_context_serial(), _began() and _in_call(), of a context that the verifier knows the type of; 0
 * where there is none. */
static __always_inline __u32 known_serial(const struct audit_context *ctx)
{
	const struct audit_context___stamp *stamped = (const void *)ctx;

	if (!ctx)
		return 0;
	return bpf_core_field_exists(stamped->stamp) ? stamped->stamp.serial : ctx->serial;
}

static __always_inline __u64 known_began(const struct audit_context *ctx)
{
	const struct audit_context___stamp *stamped = (const void *)ctx;
	__u64 sec, nsec;

	if (bpf_core_field_exists(stamped->stamp)) {
		sec = stamped->stamp.ctime.tv_sec;
		nsec = stamped->stamp.ctime.tv_nsec;
	} else {
		sec = ctx->ctime.tv_sec;
		nsec = ctx->ctime.tv_nsec;
	}
	return sec * 1000000000 + nsec;
}

static __always_inline int known_in_call(const struct audit_context *ctx)
{
	const struct audit_context___kind *with = (const void *)ctx;

	return bpf_core_field_exists(with->context) ? with->context != 0 : ctx->in_syscall != 0;
}

/* The serial of the context that the record was started with, 0 where it had none. */
static __always_inline __u32 audit_buffer_serial(const struct audit_buffer *ab)
{
	const struct audit_context *ctx = BPF_CORE_READ(ab, ctx);

	return ctx ? audit_context_serial(ctx) : 0;
}

static __always_inline const struct sk_buff *audit_buffer_skb(const struct audit_buffer *ab)
{
	return BPF_CORE_READ(ab, skb);
}

static __always_inline int audit_buffer_has_list(void)
{
	const struct audit_buffer___list *ab = 0;

	return bpf_core_field_exists(ab->skb_list);
}

/* The list's head, which is where a walk ends; only where audit_buffer_has_list(). */
static __always_inline const struct sk_buff *audit_buffer_list(const struct audit_buffer *ab)
{
	const struct audit_buffer___list *many = (const void *)ab;

	return (const void *)__builtin_preserve_access_index(&many->skb_list);
}

static __always_inline const struct sk_buff *audit_buffer_first(int typed, const struct audit_buffer *ab)
{
	const struct audit_buffer___list *many = (const void *)ab;

	return typed ? many->skb_list.next : BPF_CORE_READ(many, skb_list.next);
}

static __always_inline int have_ns_id(void)
{
	const struct ns_common___id *ns = 0;

	return bpf_core_field_exists(ns->ns_id);
}

#define NS_ID(typed, ns) ns_id_of(typed, (const void *)__builtin_preserve_access_index(ns))

static __always_inline __u64 ns_id_of(int typed, const struct ns_common___id *ns)
{
	return have_ns_id() ? FOLLOW(typed, ns, ns_id) : 0;
}

static __always_inline __u64 ns_id(const struct ns_common *ns)
{
	return ns_id_of(0, (const void *)ns);
}

/* Into what is 0 before, and stays so where the kernel has none. */
static __always_inline void read_ns_id(__u64 *to, const struct ns_common *ns)
{
	if (have_ns_id())
		bpf_core_read(to, sizeof(*to), &((const struct ns_common___id *)ns)->ns_id);
}

/* The same for all namespaces of a kind; 0 where the kernel keeps it elsewhere. */
static __always_inline __u64 ns_kind(const struct ns_common *ns)
{
	const struct ns_common___ops *with_ops = (const void *)ns;
	__u64 ops = 0;

	if (bpf_core_field_exists(with_ops->ops))
		bpf_core_read(&ops, sizeof(ops), &with_ops->ops);
	return ops;
}

#define NSPROXY_MNT(typed, proxy) FOLLOW(typed, proxy, mnt_ns)

static __always_inline __u64 mnt_unique(int typed, const struct mnt_namespace *mnt)
{
	const struct mnt_namespace___seq *old = (const void *)mnt;

	return bpf_core_field_exists(old->seq) ? FOLLOW(typed, old, seq) : 0;
}

static __always_inline __u64 net_unique(int typed, const struct net *net)
{
	const struct net___cookie *with = (const void *)net;

	return bpf_core_field_exists(with->net_cookie) ? FOLLOW(typed, with, net_cookie) : 0;
}

static __always_inline const struct kernfs_node *kernfs_parent(const struct kernfs_node *kn)
{
	const struct kernfs_node___rcu *renamed = (const void *)kn;

	if (bpf_core_field_exists(renamed->__parent))
		return BPF_CORE_READ(renamed, __parent);
	return BPF_CORE_READ(kn, parent);
}

/*
 * x86: up to 6.1 and again from 6.15 a per-CPU variable of its own; between, a member of pcpu_hot; on
 * 5.10 in no BTF. Not as weak symbols: to tell that one is missing libbpf goes through all modules'
 * BTF, which needs CAP_SYS_ADMIN. So there are three objects, and the loader looks what the kernel has.
 */
#if defined(PREEMPT_COUNT_IN_PCPU_HOT)
extern const struct pcpu_hot___count pcpu_hot __ksym;
#elif defined(PREEMPT_COUNT_NOWHERE)
#elif defined(__TARGET_ARCH_x86)
extern const int __preempt_count __ksym;
#endif

/* Whether in_interrupt_context() can tell. */
static __always_inline int interrupts_are_known(void)
{
#if defined(PREEMPT_COUNT_NOWHERE)
	return 0;
#else
	return 1;
#endif
}

/* Whether this runs on top of an unrelated task: softirq, hardirq or NMI. */
static __always_inline int in_interrupt_context(void)
{
	int count = 0;
#if defined(PREEMPT_COUNT_IN_PCPU_HOT)
	const struct pcpu_hot___count *hot = bpf_this_cpu_ptr(&pcpu_hot);

	count = hot->preempt_count;
#elif defined(PREEMPT_COUNT_NOWHERE)
#elif defined(__TARGET_ARCH_x86)
	const int *own = bpf_this_cpu_ptr(&__preempt_count);

	count = *own;
#else
	const struct task_struct___arm64 *task = (const void *)bpf_get_current_task();

	bpf_core_read(&count, sizeof(count), &task->thread_info.preempt_count);
#endif
	return count & (SOFTIRQ_SERVING | HARDIRQ_MASK | NMI_MASK);
}

#endif
