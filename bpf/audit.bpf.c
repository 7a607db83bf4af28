// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The audit hook: notes the acting task when the first record of an event is finished, and sends the
 * count of its records when the kernel is done with the event.
 *
 * Which of the three record hooks is loaded is user space's choice (enricher/sources/bpf/hook.py,
 * docs/adr/0001-audit-hook.md). All run before kauditd can hand the record to any socket, so the
 * context of a serial is in the ring before its record can be read.
 */
#include "about.h"
#include "acts.h"
#include "context.h"
#include "core_fixes.h"
#include "emit.h"
#include "stamp.h"

#define BUFFER_RECORDS_MAX 16  /* a syscall's buffer holds a handful; more are counted */
#define NONCE_WINDOW	   208 /* the nonce comes first in msg=, behind at most a long SELinux label */

/* The address of the kernel's audit_queue, learned from the nonce record; only the queue hook needs it. */
#ifndef audit_queue /* bcc has no variables: there it is in a map */
__u64 audit_queue = 0;
#endif

/* Runs of equal types cost one addition each, and keep the order in which the kernel wrote them. */
static __always_inline void count_record(struct open_event *open, __u16 type)
{
	__u32 last = open->runs - 1U;

	open->records++;
	if (last < TALLY_RUNS && open->run[last].type == type) {
		open->run[last].count++;
		return;
	}
	last = open->runs;
	if (last >= TALLY_RUNS) {
		open->truncated = 1;
		return;
	}
	open->run[last].type = type;
	open->run[last].count = 1;
	open->runs = last + 1;
}

/*
 * The key of a buffer that is an event of its own and holds several records. The task may have
 * another event open under its own address, which is even.
 */
#define BUFFER_KEY(task)   ((task) | 1)
#define IS_BUFFER_KEY(key) ((key)&1)

/* Changes how many places of open_events are taken; whether one may stay taken with no event in it. */
#ifdef BUILT_BY_BCC /* it has no variables */
#define PLACES(change)
#define PLACES_MAY_STAY 0
#else
#define PLACES(change)	__sync_fetch_and_add(&places_taken, change)
#define PLACES_MAY_STAY (places_taken <= OPEN_EVENTS_MAX / 2)
#endif

/* The kernel is done with it, and so are we: what is left is a place for the task's next event. */
static __always_inline int is_done(const struct open_event *open)
{
	return open->told == open->stamp.serial;
}

static __always_inline void leave_place(__u64 key)
{
	if (!bpf_map_delete_elem(&open_events, &key))
		PLACES(-1);
}

/* Its count was told. The place stays for the task's next event, while there are enough for other tasks. */
static __always_inline void end_event(__u64 key, struct open_event *open)
{
	if (PLACES_MAY_STAY && !IS_BUFFER_KEY(key))
		open->told = open->stamp.serial;
	else
		leave_place(key);
}

VERIFIED_ALONE int close_event(__u64 key, __u32 flags, __u64 wakeup)
{
	struct open_event *open = bpf_map_lookup_elem(&open_events, &key);

	if (!open || is_done(open))
		return 0;
	emit_tally(open, flags, wakeup);
	end_event(key, open);
	return 0;
}

/* No record will come through netlink to drive the drain: wake the reader. */
static __always_inline void close_silently_ended(__u64 key, __u16 flags)
{
	close_event(key, flags, BPF_RB_FORCE_WAKEUP);
}

/*
 * The record is none that the kernel writes at the end of a call: a rule may yet say that this one is not
 * recorded, and then nothing tells that the event is over. A slot may be taken by a later one, whose event
 * ends later then.
 */
static __always_inline void remember_inside(__u64 key)
{
#ifndef BUILT_BY_BCC /* there a program looks at each call */
	begun_inside[(key >> 6) % BEGUN_INSIDE] = key;
#endif
}

static __always_inline void fill_event(struct open_event *open, const struct event_stamp *stamp, __u16 type,
				       __u16 flags)
{
	open->stamp = *stamp;
	open->flags = flags;
	open->records = 1;
	open->truncated = 0;
	open->told = 0;
	open->runs = 1;
	open->run[0].type = type;
	open->run[0].count = 1;
}

/*
 * place is that of the task's event before, NULL where there is none. Returns the context's flags: UNTRACKED
 * is added where there is no room.
 */
static __always_inline __u16 begin_event(__u64 key, struct open_event *place, const struct event_stamp *stamp,
					 __u16 type, __u16 flags)
{
	if (place) {
		fill_event(place, stamp, type, flags);
	} else {
		struct open_event fresh = {};

		fill_event(&fresh, stamp, type, flags);
		if (bpf_map_update_elem(&open_events, &key, &fresh, BPF_ANY)) {
			COUNT(fail_track);
			return flags | CONTEXT_UNTRACKED;
		}
		PLACES(1);
	}
	if (!IS_BUFFER_KEY(key) && type != AUDIT_SYSCALL)
		remember_inside(key);
	return flags;
}

/* The type of a record, from the head of its message. 0, or an error. */
static __always_inline int read_type(const unsigned char *data, __u16 *type)
{
#ifdef HAVE_CASTS
	*type = CAST(struct nlmsghdr, data)->nlmsg_type;
	return !*type;
#else
	return bpf_probe_read_kernel(type, sizeof(*type), data + NLMSG_TYPE_OFFSET);
#endif
}

/*
 * One finished record. Returns the key of the event it belongs to, 0 where that is not tracked.
 *
 * ab is its buffer, NULL where there is none to be seen; data its message. serial is that of the audit
 * context it was started with, 0 where it had none; more says that its buffer holds further records. A record
 * is part of its task's event when its text carries that serial: a record with no context, and one with a
 * context that is not inside a syscall or io_uring operation, were each given a serial of their own. here is
 * where on the stack the record is finished.
 */
static __always_inline __u64 on_record(int typed, const struct audit_buffer *ab, __u32 serial,
				       const unsigned char *data, int more, const void *here)
{
	__u64 key = bpf_get_current_task();
	struct event_stamp stamp = {};
	struct open_event *open;
	__u16 type = 0;
	__u16 flags;

	COUNT(records);
	if (read_type(data, &type)) {
		COUNT(fail_type);
		COUNT(uncounted);
		return 0;
	}
	open = bpf_map_lookup_elem(&open_events, &key);
	if (open && serial && open->stamp.serial == serial && !is_done(open)) {
		flags = open->flags;
		stamp = open->stamp;
		count_record(open, type);
		if (flags & CONTEXT_SUBJECT) {
			flags = 0;
		} else {
			/* Begun in an interrupt on top of this task; does the task itself speak now? */
			flags = subject_flags((const void *)key, type) & CONTEXT_SUBJECT;
			if (flags)
				open->flags = flags;
		}
		/* Queued before EOE's own netlink record, which will drive the drain. */
		if (type == AUDIT_EOE) {
			/* As close_event(), which would look for it once more. */
			emit_tally(open, TALLY_EOE, BPF_RB_NO_WAKEUP);
			end_event(key, open);
		}
		if (!flags)
			return key;
	} else {
		if (call_stamp(typed, ab, &stamp) && parse_stamp(data, &stamp)) {
			COUNT(uncounted);
			return 0;
		}
		flags = subject_flags((const void *)key, type);
		if (!serial || serial != stamp.serial) {
			/* A security module may have refused a packet, whoever ran: unknown, then. */
			if (!interrupts_are_known() && type >= AUDIT_FIRST_SECURITY &&
			    type <= AUDIT_LAST_SECURITY)
				flags &= ~CONTEXT_SUBJECT;
			if (more) {
				key = BUFFER_KEY(key);
				flags = begin_event(key, NULL, &stamp, type, flags);
			} else {
				flags |= CONTEXT_STANDALONE;
				tell_about(&stamp, type, here);
			}
		} else {
			/* It has ended silently. */
			if (open && !is_done(open))
				emit_tally(open, TALLY_ORPHAN, BPF_RB_FORCE_WAKEUP);
			/* EOE is never the first: the table was full when the event began. */
			flags = type == AUDIT_EOE ? flags | CONTEXT_UNTRACKED
						  : begin_event(key, open, &stamp, type, flags);
		}
		if (flags & CONTEXT_UNTRACKED)
			key = 0;
	}
	/* A buffer of several records and a record of its own have a serial that is not the call's. */
	if (key && !IS_BUFFER_KEY(key) && !(flags & CONTEXT_STANDALONE))
		tell_link(key, &stamp);
	emit_context(&stamp, type, flags);
	return key;
}

/* A further record of the same buffer: it has the stamp of the first. */
static __always_inline void on_further_record(__u64 key, const struct sk_buff *skb)
{
	const unsigned char *data = BPF_CORE_READ(skb, data);
	struct open_event *open = bpf_map_lookup_elem(&open_events, &key);
	__u16 type = 0;

	COUNT(records);
	if (bpf_probe_read_kernel(&type, sizeof(type), data + NLMSG_TYPE_OFFSET))
		COUNT(fail_type);
	if (open)
		count_record(open, type);
	else
		COUNT(uncounted);
}

/* The records behind the first one of a buffer. */
VERIFIED_ALONE int on_further_records(__u64 key, __u64 from, __u64 to)
{
	const struct sk_buff *next = (const void *)from, *end = (const void *)to;

	for (int i = 1; i < BUFFER_RECORDS_MAX && next && next != end; i++) {
		on_further_record(key, next);
		next = BPF_CORE_READ(next, next);
	}
	if (next != end)
		COUNT(fail_list);
	/* An event of its own is whole now; its records are about to be queued and will drive the drain. */
	if (IS_BUFFER_KEY(key))
		close_event(key, TALLY_BUFFER, BPF_RB_NO_WAKEUP);
	return 0;
}

/* A buffer that holds one record, as all did once. */
static __always_inline int on_single(int typed, const struct audit_buffer *ab, const void *here)
{
	const struct sk_buff *skb = BUFFER_SKB(typed, ab);

	if (skb)
		on_record(typed, ab, BUFFER_SERIAL(typed, ab), FOLLOW(typed, skb, data), 0, here);
	else
		COUNT(fail_buffer);
	return 0;
}

static __always_inline int on_list(int typed, const struct audit_buffer *ab, const void *here)
{
	const struct sk_buff *skb = audit_buffer_first(typed, ab), *end = audit_buffer_list(ab), *next;
	__u64 key;

	if (!skb || skb == end) {
		COUNT(fail_buffer);
		return 0;
	}
	next = FOLLOW(typed, skb, next);
	key = on_record(typed, ab, BUFFER_SERIAL(typed, ab), FOLLOW(typed, skb, data), next != end, here);
	if (next != end)
		on_further_records(key, number_of(next), number_of(end));
	return 0;
}

static __always_inline int on_buffer(int typed, const struct audit_buffer *ab, const void *here)
{
	if (!ab) /* audit_log_start gave nothing; callers do not check */
		return 0;
	return audit_buffer_has_list() ? on_list(typed, ab, here) : on_single(typed, ab, here);
}

/*
 * Preferred: every audit_log_end(ab) goes through the symbol, unless GCC split the function, in
 * which case callers inside kernel/audit.c jump to the part and this one misses their records.
 */
SEC("fentry/audit_log_end")
int BPF_PROG(record_end, struct audit_buffer *ab)
{
	return ab && !audit_buffer_has_list() ? on_single(1, ab, STACK_OF(ctx))
					      : on_buffer(0, ab, STACK_OF(ctx));
}

/*
 * The split-off part: not in BTF, so a kprobe, which is given no types; the plain symbol calls it too, so it
 * sees all.
 */
SEC("kprobe/audit_log_end.part.0")
int BPF_KPROBE(record_end_part, struct audit_buffer *ab)
{
#ifdef HAVE_CASTS
	return on_buffer(1, ab ? CAST(struct audit_buffer, ab) : NULL, STACK_OF(ctx));
#else
	return on_buffer(0, ab, STACK_OF(ctx));
#endif
}

/* Whether the record holds the self-test's nonce; looked for once, in USER_AVC records only. */
static __noinline int holds_nonce(const unsigned char *data)
{
	__u64 high = 0, low = 0;
	char text[NONCE_WINDOW];
	__u16 type = 0;

	if (bpf_probe_read_kernel(&type, sizeof(type), data + NLMSG_TYPE_OFFSET) || type != AUDIT_USER_AVC)
		return 0;
	if (bpf_probe_read_kernel(text, sizeof(text), data + NLMSG_HDRLEN))
		return 0;
#pragma unroll
	for (int i = 0; i < NONCE_WINDOW; i++) {
		high = (high << 8) | (low >> 56);
		low = (low << 8) | (unsigned char)text[i];
		if (high == nonce_high && low == nonce_low)
			return 1;
	}
	return 0;
}

/*
 * Last resort: the end of __audit_log_end(), `skb_queue_tail(&audit_queue, skb)`. It runs for every
 * other socket's traffic too, and after the rate limit. The queue is known by the nonce record, so
 * that neither kallsyms nor kptr_restrict matters.
 */
SEC("fentry/skb_queue_tail")
int BPF_PROG(record_queued, struct sk_buff_head *list, struct sk_buff *newsk)
{
	const struct audit_context *own;
	const struct task_struct *task;
	struct event_stamp stamp = {};
	__u32 serial;

	if (!audit_queue) {
		const unsigned char *data = BPF_CORE_READ(newsk, data);

		if (!holds_nonce(data)) {
			COUNT(fail_queue_unknown);
			return 0;
		}
		audit_queue = (__u64)list;
	}
	if ((__u64)list != audit_queue) {
		COUNT(queue_other);
		return 0;
	}
	task = (const void *)bpf_get_current_task();
	own = BPF_CORE_READ(task, audit_context);
	serial = own ? audit_context_serial(own) : 0;
	/* There is no audit_buffer to tell whether the record was started with a context: its text does. */
	if (serial && !parse_stamp(BPF_CORE_READ(newsk, data), &stamp) && stamp.serial != serial)
		serial = 0;
	on_record(0, NULL, serial, BPF_CORE_READ(newsk, data), 0, STACK_OF(ctx));
	return 0;
}

/*
 * EOE is queued inside audit_log_exit, so an event still open when it returns has none: a rule
 * excludes the type, as many sites do.
 */
SEC("fexit/audit_log_exit")
int BPF_PROG(event_exit)
{
	close_silently_ended(bpf_get_current_task(), TALLY_EXIT);
	return 0;
}

#ifndef BUILT_BY_BCC
/* Whether there is no more to be told of the event that this task began inside of a call. */
VERIFIED_ALONE int settle(__u64 key)
{
	struct open_event *open = bpf_map_lookup_elem(&open_events, &key);
	const struct audit_context *context;
	__u32 serial;

	if (!open)
		return 1;
	serial = open->stamp.serial;
	context = BPF_CORE_READ((const struct task_struct *)key, audit_context);
	if (context && audit_context_in_call(context) && audit_context_serial(context) == serial)
		return 0;
	/*
	 * It stays: by now the entry may be the task's next event's, whose serial is another. Whose count was
	 * told by its serial ends in silence.
	 */
	if (open->told != serial) {
		open->told = serial;
		emit_tally(open, TALLY_ORPHAN, BPF_RB_FORCE_WAKEUP);
	}
	return 1;
}

/*
 * An event that was begun by a record inside of a call (CONFIG_CHANGE of `auditctl -a`), the rest of which a
 * `never` rule then dropped: the kernel does nothing more that could be looked at without a look at every
 * system call of the host, which costs a sixth of a short one. So user space asks, by a call that does
 * nothing, when an event stays without its count; the flags are a secret of this run that the kernel refuses.
 */
SEC("fentry/ksys_unshare")
int BPF_PROG(settle_all, unsigned long flags)
{
	if (!(nonce_low >> 32) || flags != (nonce_low >> 32) << 32)
		return 0;
	for (int i = 0; i < BEGUN_INSIDE; i++) {
		__u64 key = begun_inside[i];

		if (key && settle(key))
			begun_inside[i] = 0;
	}
	return 0;
}
#endif

/* The same for an operation that an io_uring worker runs. */
SEC("fexit/__audit_uring_exit")
int BPF_PROG(uring_exit)
{
	/*
	 * Inline operations end with their io_uring_enter: only a worker's event ends here. One that
	 * runs from task_work after the system call ends with the task's next.
	 */
	const struct task_struct *task = (const void *)bpf_get_current_task();

	if (BPF_CORE_READ(task, flags) & PF_IO_WORKER)
		close_silently_ended((__u64)task, TALLY_ORPHAN);
	return 0;
}

/* audit_free comes before sched_process_exit in do_exit: no event of this task can be begun after. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(task_exit)
{
	__u64 key = bpf_get_current_task();
	const struct open_event *open = bpf_map_lookup_elem(&open_events, &key);

	if (open) {
		if (!is_done(open))
			emit_tally(open, TALLY_ORPHAN, BPF_RB_FORCE_WAKEUP);
		leave_place(key);
	}
	end_act(key);
	return 0;
}
