/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The accessors of include/core_fixes.h, whose include guard is taken, for the build by bcc. Public
 * structures come from the kernel's headers. Private ones (audit_buffer, audit_context, mnt_namespace)
 * have offsets from the kernel's BTF, or, where that is missing, offsets that are believed only once
 * they are proved (proof.h). What is known is a macro that bccfacts.py defines.
 */
#ifndef AUDIT_ENRICHER_CORE_FIXES_H
#define AUDIT_ENRICHER_CORE_FIXES_H

#include "maps.h"

static __always_inline __u64 word_at(const void *base, __u64 offset)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), base + offset);
	return word;
}

/* Only what we read, where it is. */
struct mnt_namespace {
	union {
		struct {
			char before_ns[MNT_NS];
			struct ns_common ns;
		};
#ifdef MNT_USER_NS
		struct {
			char before_user_ns[MNT_USER_NS];
			struct user_namespace *user_ns;
		};
#endif
	};
};

#ifndef WITHOUT_ACTS
struct audit_context {
	union {
		struct {
			char before_dummy[CONTEXT_DUMMY];
			int dummy;
		};
		struct {
			char before_major[CONTEXT_MAJOR];
			int major;
		};
		struct {
			char before_argv[CONTEXT_ARGV];
			unsigned long argv[4];
		};
	};
};

static __always_inline __u64 audit_context_began(const struct audit_context *ctx)
{
	struct timespec64 time = {};

	bpf_probe_read_kernel(&time, sizeof(time), (const void *)ctx + CONTEXT_CTIME);
	return (__u64)time.tv_sec * 1000000000 + (__u64)time.tv_nsec;
}

static __always_inline int audit_context_in_call(const struct audit_context *ctx)
{
	int kind = 0;

	bpf_probe_read_kernel(&kind, sizeof(kind), (const void *)ctx + CONTEXT_KIND);
	return kind != 0;
}
#endif

#define NSPROXY_MNT(typed, proxy) nsproxy_mnt(proxy)

static __always_inline const struct mnt_namespace *nsproxy_mnt(const struct nsproxy *proxy)
{
#ifdef BY_PROOF
	if (!LEARNED->mnt)
		return NULL;
#endif
	return BPF_CORE_READ(proxy, mnt_ns);
}

static __always_inline __u64 mnt_unique(int typed, const struct mnt_namespace *mnt)
{
#ifdef MNT_SEQ
	return word_at(mnt, MNT_SEQ);
#else
	return 0;
#endif
}

static __always_inline int have_ns_id(void)
{
#ifdef HAVE_NS_ID
	return 1;
#else
	return 0;
#endif
}

#define NS_ID(typed, ns) ns_id(ns)

static __always_inline __u64 ns_id(const struct ns_common *ns)
{
#ifdef HAVE_NS_ID
	return BPF_CORE_READ(ns, ns_id);
#else
	return 0;
#endif
}

/* The same for all namespaces of a kind; 0 where the kernel keeps it elsewhere. */
static __always_inline __u64 ns_kind(const struct ns_common *ns)
{
#ifdef HAVE_NS_OPS
	return (__u64)BPF_CORE_READ(ns, ops);
#else
	return 0;
#endif
}

static __always_inline void read_ns_id(__u64 *to, const struct ns_common *ns)
{
	*to = ns_id(ns);
}

static __always_inline __u64 net_unique(int typed, const struct net *net)
{
#ifdef HAVE_NET_COOKIE
	return BPF_CORE_READ(net, net_cookie);
#else
	return 0;
#endif
}

#ifndef KERNFS_PARENT
#define KERNFS_PARENT parent /* __parent from 6.15 on; Debian's bcc has not been seen to compile there */
#endif

static __always_inline const struct kernfs_node *kernfs_parent(const struct kernfs_node *kn)
{
	return BPF_CORE_READ(kn, KERNFS_PARENT);
}

static __always_inline int interrupts_are_known(void)
{
#if defined(PREEMPT_COUNT_ID) || defined(PREEMPT_COUNT_ADDRESS) || defined(CONFIG_ARM64)
	return 1;
#else
	return 0;
#endif
}

static __always_inline int in_interrupt_context(void)
{
	int count = 0;
#if defined(PREEMPT_COUNT_ID)
	const void *variable = bpf_this_cpu_ptr(KERNEL_VARIABLE(PREEMPT_COUNT_ID));

	count = *(const int *)(variable + PREEMPT_COUNT_OFFSET);
#elif defined(PREEMPT_COUNT_ADDRESS)
	/* per_cpu_ptr(), of symbols that /proc/kallsyms gives by name. */
	__u64 cpu = bpf_get_smp_processor_id();
	__u64 area = word_at((const void *)PER_CPU_OFFSETS, cpu * sizeof(__u64));

	bpf_probe_read_kernel(&count, sizeof(count), (const void *)(area + PREEMPT_COUNT_ADDRESS));
#elif defined(CONFIG_ARM64)
	const struct task_struct *task = (const void *)bpf_get_current_task();

	count = BPF_CORE_READ(task, thread_info.preempt.count);
#endif
	return count & (SOFTIRQ_SERVING | HARDIRQ_MASK | NMI_MASK);
}

static __always_inline int audit_buffer_has_list(void)
{
#ifdef BUFFER_LIST
	return 1;
#else
	return 0;
#endif
}

static __always_inline const struct sk_buff *audit_buffer_list(const struct audit_buffer *ab)
{
#ifdef BUFFER_LIST
	return (const void *)ab + BUFFER_LIST;
#else
	return NULL;
#endif
}

static __always_inline const struct sk_buff *audit_buffer_first(int typed, const struct audit_buffer *ab)
{
#ifdef BUFFER_LIST
	return (const void *)word_at(ab, BUFFER_LIST); /* sk_buff_head.next is its first member */
#else
	return NULL;
#endif
}

static __always_inline const struct sk_buff *audit_buffer_skb(const struct audit_buffer *ab)
{
	return (const void *)word_at(ab, BUFFER_SKB);
}

#define BUFFER_SKB(typed, ab)	 audit_buffer_skb(ab)
#define BUFFER_SERIAL(typed, ab) audit_buffer_serial(ab)

#ifdef BY_PROOF
#include "proof.h"
#else
static __always_inline __u32 audit_context_serial(const struct audit_context *ctx)
{
	__u32 serial = 0;

	bpf_probe_read_kernel(&serial, sizeof(serial), (const void *)ctx + CONTEXT_SERIAL);
	return serial;
}

static __always_inline __u32 audit_buffer_serial(const struct audit_buffer *ab)
{
	const struct audit_context *ctx = (const void *)word_at(ab, BUFFER_CTX);

	return ctx ? audit_context_serial(ctx) : 0;
}
#endif

#endif
