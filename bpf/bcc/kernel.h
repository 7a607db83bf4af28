/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What include/kernel.h and libbpf's headers are to the CO-RE object, for the build by bcc on the host:
 * the running kernel's own headers, and its words for what the shared sources say. Takes kernel.h's
 * include guard. Every read is an explicit bpf_probe_read_kernel(), so that nothing is left to bcc's
 * rewriter, which touches the main file only.
 */
#ifndef AUDIT_ENRICHER_KERNEL_H
#define AUDIT_ENRICHER_KERNEL_H

#define BUILT_BY_BCC

/* What bccload.py asks for of what is told beside records, and what such programs need of the record hook. */
#if !defined(WITH_TARGETS) && !defined(WITH_LINKS)
#define WITHOUT_ACTS
#endif
#ifndef WITH_LIVES
#define WITHOUT_LIVES
#endif
#ifndef WITH_PACKETS
#define WITHOUT_PACKETS
#endif

#include <linux/audit.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/ipc_namespace.h>
#include <linux/kernfs.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <linux/nsproxy.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/skbuff.h>
#include <linux/time_namespace.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>
#include <net/net_namespace.h>

/* Maps are made by user space and known here by descriptor: declarations give their types only. */
#undef SEC
#define SEC(name)
#undef __uint
#undef __type
#undef __array
#define __uint(name, value)  int(*name)[value]
#define __type(name, value)  typeof(value) *name
#define __array(name, value) typeof(value) *name[]

/* bcc loads function by function and knows no call between BPF functions. */
#undef __noinline
#define __noinline __always_inline

#define bpf_core_read(to, size, from)	   bpf_probe_read_kernel(to, size, (const void *)(from))
#define bpf_core_type_size(type)	   sizeof(type)
#define bpf_core_field_offset(type, field) offsetof(type, field)
#define __builtin_preserve_access_index(x) (x)
#ifdef CONFIG_TIME_NS
#define bpf_core_type_exists(type) 1
#else
#define bpf_core_type_exists(type) 0
#endif

/* BPF_CORE_READ(from, a[, b[, c]]): from->a[->b[->c]], 0 where it cannot be read. The comma drops `const`. */
#define READ_MEMBER(from, member)                                                                            \
	({                                                                                                   \
		typeof(((void)0, (from)->member)) read_ = 0;                                                 \
		bpf_probe_read_kernel(&read_, sizeof(read_), (const void *)&(from)->member);                 \
		read_;                                                                                       \
	})
#define READ_MEMBER_2(from, a, b)		READ_MEMBER(READ_MEMBER(from, a), b)
#define READ_MEMBER_3(from, a, b, c)		READ_MEMBER(READ_MEMBER_2(from, a, b), c)
#define READ_CHOSEN(one, two, three, name, ...) name
#define BPF_CORE_READ(from, ...)                                                                             \
	READ_CHOSEN(__VA_ARGS__, READ_MEMBER_3, READ_MEMBER_2, READ_MEMBER, )(from, __VA_ARGS__)

#define FOLLOW(typed, source, ...) BPF_CORE_READ(source, __VA_ARGS__)
#define HAVE_TYPED_TASK		   0

#define SOFTIRQ_SERVING SOFTIRQ_OFFSET

/* include/uapi/linux/netlink.h and audit.h, for headers that are older than the record types. */
#define NLMSG_TYPE_OFFSET 4
#ifndef AUDIT_DM_EVENT
#define AUDIT_DM_EVENT 1339
#endif
#ifndef AUDIT_NETFILTER_CFG
#define AUDIT_NETFILTER_CFG 1325
#endif
#define AUDIT_FIRST_SECURITY 1400
#define AUDIT_LAST_SECURITY  1499
#define AUDIT_FIRST_USER     1100
#define AUDIT_LAST_USER	     1199
#define AUDIT_FIRST_USER_2   2100
#define AUDIT_LAST_USER_2    2999

#endif
