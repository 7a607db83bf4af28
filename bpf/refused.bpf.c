// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Messages to audit that the kernel refuses because their sender is not in the initial user namespace: a
 * login in a rootless container. No record is made of them. What they say is up to anybody who may make a
 * user namespace, and so is how many there are: told up to a rate, for each such namespace and in all.
 */
#include "acts.h"
#include "users.h"

#define REFUSED_EACH  20  /* a second, of one user namespace */
#define REFUSED_TOTAL 200 /* a second, on each CPU */

static __always_inline int more_in(struct bucket *bucket, __u64 second, __u64 most)
{
	if (bucket->second != second) {
		bucket->second = second;
		bucket->count = 0;
	}
	return bucket->count++ < most;
}

/* Whether one more is told this second. Two that meet here may count as one: it is a bound, not an account.
 */
static __always_inline int within_limits(__u32 sender)
{
	__u64 second = bpf_ktime_get_boot_ns() / 1000000000;
	struct bucket fresh = {second, 0};
	__u32 first = 0;
	struct bucket *own = bpf_map_lookup_elem(&refused_senders, &sender);
	struct bucket *total = bpf_map_lookup_elem(&refused_bucket, &first);

	if (!own) {
		bpf_map_update_elem(&refused_senders, &sender, &fresh, BPF_NOEXIST);
		own = bpf_map_lookup_elem(&refused_senders, &sender);
	}
	/* Its own first: what one sends too much of takes nothing from the others. */
	return own && total && more_in(own, second, REFUSED_EACH) && more_in(total, second, REFUSED_TOTAL);
}

/* Types that programs send to have a record made; the others are commands, and hold structures. */
static __always_inline int is_user_record(__u16 type)
{
	return type == AUDIT_USER || (type >= AUDIT_FIRST_USER && type <= AUDIT_LAST_USER) ||
	       (type >= AUDIT_FIRST_USER_2 && type <= AUDIT_LAST_USER_2);
}

/* Some kernels have a third argument: nothing behind the second is looked at. */
SEC("fentry/audit_receive_msg")
int BPF_PROG(message_received, struct sk_buff *skb, const unsigned char *message)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct user_namespace *ns = BPF_CORE_READ(task, cred, user_ns);
	struct refused_contid_event *with;
	struct refused_event *event;
	__u32 length = 0;
	__u16 type = 0;
	__u64 size;
	void *ring;

	/* As audit_netlink_ok() decides it. */
	if (!ns || BPF_CORE_READ(ns, level) <= 0)
		return 0;
	if (!within_limits(BPF_CORE_READ(ns, ns.inum))) {
		COUNT(limited_refused);
		return 0;
	}
	tell_users(task);
	ring = ring_of_cpu();
	with = ring ? bpf_ringbuf_reserve(ring, sizeof(*with), 0) : NULL;
	if (!with) {
		if (ring)
			COUNT(drop_fact);
		return 0;
	}
	event = &with->r;
	bpf_probe_read_kernel(&length, sizeof(length), message);
	bpf_probe_read_kernel(&type, sizeof(type), message + NLMSG_TYPE_OFFSET);
	size = length > NLMSG_HDRLEN ? length - NLMSG_HDRLEN : 0;
	fill_header(&event->who.c.header, EVENT_REFUSED, sizeof(*with));
	fill_facts(&event->who, task);
	event->uid = BPF_CORE_READ(task, real_cred, uid.val);
	event->gid = BPF_CORE_READ(task, real_cred, gid.val);
	event->record_type = type;
	event->length = size;
	if (size > REFUSED_TEXT)
		size = REFUSED_TEXT;
	if (!is_user_record(type))
		size = 0;
	KEEP_COMPARING(size);
	if (size > REFUSED_TEXT || bpf_probe_read_kernel(event->text, size, message + NLMSG_HDRLEN))
		size = 0;
	event->size = size;
	fill_actors_chain(&with->contid, task);
	COUNT(facts);
	bpf_ringbuf_submit(with, 0);
	return 0;
}
