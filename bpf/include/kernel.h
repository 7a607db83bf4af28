/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Only the kernel structures' members that we read, by name: preserve_access_index lets libbpf find
 * the real offsets in the running kernel's BTF, so order, size and neighbours do not matter here.
 * Where a member moved between kernels see core_fixes.h.
 */
#ifndef AUDIT_ENRICHER_KERNEL_H
#define AUDIT_ENRICHER_KERNEL_H

/* Tells bpf_tracing.h that pt_regs has the kernel's member names, as it would with a vmlinux.h. */
#define __VMLINUX_H__

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#ifndef __ksym
#error "libbpf headers too old"
#endif

typedef unsigned char u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define PF_KTHREAD   0x00200000 /* include/linux/sched.h, stable since 2.6 */
#define PF_IO_WORKER 0x00000010 /* 5.12 */

/* preempt_count: include/linux/preempt.h. PREEMPT_RT keeps the softirq bit elsewhere
 * (docs/kernel-support.md). */
#define SOFTIRQ_SERVING 0x00000100
#define HARDIRQ_MASK	0x000f0000
#define NMI_MASK	0x00f00000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* The registers of a kprobe that hold the first arguments, and the stack. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long sp;
};
#else
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
};
#endif

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

struct ns_common {
	unsigned int inum;
};

struct user_namespace;

struct uts_namespace {
	struct ns_common ns;
	struct user_namespace *user_ns;
};
struct ipc_namespace {
	struct ns_common ns;
	struct user_namespace *user_ns;
};
struct mnt_namespace {
	struct ns_common ns;
	struct user_namespace *user_ns;
};
struct pid_namespace {
	struct ns_common ns;
	unsigned int level;
	struct pid_namespace *parent;
	struct user_namespace *user_ns;
};
struct net {
	struct ns_common ns;
	struct user_namespace *user_ns;
};
struct cgroup_namespace {
	struct ns_common ns;
	struct user_namespace *user_ns;
};
struct time_namespace {
	struct ns_common ns;
	struct user_namespace *user_ns;
};
/* As many as UID_GID_MAP_MAX_BASE_EXTENTS are in the map itself; of more, forward is an array of 340. */
struct uid_gid_extent {
	__u32 first;
	__u32 lower_first;
	__u32 count;
};
struct uid_gid_map {
	__u32 nr_extents;
	union {
		struct uid_gid_extent extent[5];
		struct uid_gid_extent *forward;
	};
};
struct user_namespace {
	struct ns_common ns;
	struct uid_gid_map uid_map;
	struct uid_gid_map gid_map;
	int level;
	struct user_namespace *parent;
	kuid_t owner;
	kgid_t group;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns;
	struct time_namespace *time_ns_for_children;
	struct cgroup_namespace *cgroup_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[1]; /* by enum pid_type; the first is of whom the number itself is */
	struct upid numbers[1];
};

/* 6.3: one number of 64 bits; where the order of bytes is little endian that is the same. */
typedef struct {
	__u32 cap[2];
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

struct list_head {
	struct list_head *next;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;	/* threads that have not begun to exit */
	int nr_threads; /* threads that are not released yet */
	struct list_head thread_head;
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct audit_context;

struct nlmsghdr {
	__u32 nlmsg_len;
	__u16 nlmsg_type;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct list_head children;
	struct task_struct *group_leader;
	struct list_head thread_node;
	struct signal_struct *signal;
	struct pid *thread_pid;
	struct hlist_node pid_links[1];
	__u64 start_boottime;
	const struct cred *real_cred;
	const struct cred *cred;
	struct css_set *cgroups;
	char comm[16];
	struct nsproxy *nsproxy;
	struct audit_context *audit_context;
	kuid_t loginuid;
	unsigned int sessionid;
};

/* What a program of SEC("iter/task") is given. */
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct sk_buff {
	struct sk_buff *next;
	unsigned char *data;
};

struct sk_buff_head {
	struct sk_buff *next;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
};

struct nf_hook_state {
	struct net_device *in;
	struct net_device *out;
	struct net *net;
};

struct audit_buffer {
	struct sk_buff *skb;
	struct audit_context *ctx;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};
struct audit_context {
	unsigned int serial;
	int dummy;
	int major;
	int in_syscall;
	struct timespec64 ctime;
	unsigned long argv[4];
};

#pragma clang attribute pop

/*
 * A member at the end of a chain of pointers. typed is a constant: where the verifier knows what source
 * points to, each step is one load; else it is a call of a helper, some sixty instructions.
 */
#define FOLLOW(typed, source, ...)                                                                           \
	((typed) ? ___arrow(source, __VA_ARGS__) : BPF_CORE_READ(source, __VA_ARGS__))

/*
 * An address as a pointer that the verifier knows the type of, to read from: since 6.2, and free. Not as a
 * weak symbol, which libbpf would look for in all modules where there is none; there are objects without it.
 */
#ifdef HAVE_CASTS
extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym;
#define CAST(type, address) ((const type *)bpf_rdonly_cast(address, bpf_core_type_id_kernel(type)))
#endif

/* Whether there is a current task that the verifier knows the type of: since 5.11. */
#define HAVE_TYPED_TASK bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)

/* include/uapi/linux/netlink.h and audit.h: ABI, so plain offsets are right. */
#define NLMSG_TYPE_OFFSET 4
#define NLMSG_HDRLEN	  16

#define AUDIT_USER	      1005
#define AUDIT_FIRST_USER      1100
#define AUDIT_USER_AVC	      1107
#define AUDIT_LAST_USER	      1199
#define AUDIT_SYSCALL	      1300
#define AUDIT_EOE	      1320
#define AUDIT_NETFILTER_PKT   1324
#define AUDIT_NETFILTER_CFG   1325
#define AUDIT_DM_EVENT	      1339
#define AUDIT_FIRST_SECURITY  1400
#define AUDIT_MAC_IPSEC_EVENT 1415
#define AUDIT_LAST_SECURITY   1499
#define AUDIT_FIRST_USER_2    2100
#define AUDIT_LAST_USER_2     2999

#endif
