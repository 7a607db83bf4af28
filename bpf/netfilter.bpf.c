// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Which net namespace a packet is in that a rule had recorded (NETFILTER_PKT), and which one is being taken
 * down when a kernel thread unregisters its tables (NETFILTER_CFG): see about.h.
 *
 * The functions are modules', which may come and go at any time: user space attaches these programs to probes
 * that the kernel arms when it loads the module (enricher/sources/bpf/moduleprobes.py). Only packets that
 * such a rule matched pay for them. The structures that lead to a packet's net namespace are in modules' BTF
 * at best. So the place is taken for right only where what is found there proves itself, packet by packet.
 */
#include "about.h"
#include "core_fixes.h"

/* Of struct xt_action_param: behind two pointers. */
#define TARGET_STATE 16
/* Of struct nft_pktinfo: behind the packet; up to 5.13 in an xt_action_param behind packet and protocol. */
#define EXPRESSION_STATE     8
#define EXPRESSION_STATE_OLD (16 + TARGET_STATE)

static __always_inline const struct nf_hook_state *state_at(const void *place)
{
	const struct nf_hook_state *state = 0;

	bpf_probe_read_kernel(&state, sizeof(state), place);
	return state;
}

/* A packet passes its hook from or to a device, or both, in the net namespace that the hook is of. */
static __always_inline const struct net *proved_net(const struct nf_hook_state *state)
{
	const struct net_device *in = BPF_CORE_READ(state, in);
	const struct net_device *out = BPF_CORE_READ(state, out);
	const struct net *net = BPF_CORE_READ(state, net);

	if (!net || (!in && !out))
		return 0;
	if (in && BPF_CORE_READ(in, nd_net.net) != net)
		return 0;
	if (out && BPF_CORE_READ(out, nd_net.net) != net)
		return 0;
	return net;
}

static __always_inline int forget(void)
{
	__u64 key = bpf_get_current_task();

	bpf_map_delete_elem(&abouts, &key);
	return 0;
}

static __always_inline int note(__u64 stack, const struct net *net)
{
	__u64 key = bpf_get_current_task();
	struct about about = {};

	if (net) {
		about.stack = stack;
		about.time = bpf_ktime_get_boot_ns();
		about.unique =
			have_ns_id() ? ns_id(__builtin_preserve_access_index(&net->ns)) : net_unique(0, net);
		about.inum = BPF_CORE_READ(net, ns.inum);
		if (!bpf_map_update_elem(&abouts, &key, &about, BPF_ANY))
			return 0;
	}
	COUNT(fail_packet);
	return forget();
}

/* xt_AUDIT: audit_tg(skb, par) and audit_tg_ebt(skb, par), which calls it. */
SEC("kprobe")
int BPF_KPROBE(packet_by_target, const void *skb, const void *par)
{
	return note(PT_REGS_SP(ctx), proved_net(state_at(par + TARGET_STATE)));
}

/* nft_log: nft_log_eval(expr, regs, pkt). */
SEC("kprobe")
int BPF_KPROBE(packet_by_expression, const void *expr, const void *regs, const void *pkt)
{
	const struct net *net = proved_net(state_at(pkt + EXPRESSION_STATE));

	if (!net)
		net = proved_net(state_at(pkt + EXPRESSION_STATE_OLD));
	return note(PT_REGS_SP(ctx), net);
}

/* ip_tables and its siblings. The argument is a net namespace where it is of the kind of current's own. */
SEC("kprobe")
int BPF_KPROBE(table_gone, const struct net *net)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct net *own = BPF_CORE_READ(task, nsproxy, net_ns);
	__u64 kind = ns_kind(__builtin_preserve_access_index(&own->ns));

	if (kind && ns_kind(__builtin_preserve_access_index(&net->ns)) == kind)
		return note(PT_REGS_SP(ctx), net);
	return note(PT_REGS_SP(ctx), NULL);
}

SEC("kretprobe")
int BPF_KRETPROBE(about_over)
{
	return forget();
}
