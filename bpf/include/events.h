/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The wire format between kernel and user space. Both sides know it from here: the programs include
 * it, user space decodes by enricher/sources/bpf/wire.py, and a test and every start-up compare that
 * with the BTF of the object (layout.bpf.c). No kernel include belongs in this file.
 *
 * Rules: every message starts with struct event_header. Numbers are explicit and never reused.
 * Padding is explicit. Growth goes at the end, with a new EVENT_VERSION.
 */
#ifndef AUDIT_ENRICHER_EVENTS_H
#define AUDIT_ENRICHER_EVENTS_H

#define EVENT_VERSION 1

/* event_header.type */
#define EVENT_CONTEXT 1 /* struct context_event, deep or not, with a chain or not: size tells */
#define EVENT_TALLY   2 /* struct tally_event */
#define EVENT_CGROUP  3 /* struct cgroup_event */
#define EVENT_WALK    4 /* struct walk_event */
/* Facts beside the records (enricher/sources/bpf/wirefacts.py). */
#define EVENT_CHANGE	5  /* struct change_contid_event; struct change_event in older captures */
#define EVENT_TARGET	6  /* struct target_event, or struct target_contid_event: size tells */
#define EVENT_LINK	7  /* struct link_event */
#define EVENT_NAMESPACE 8  /* struct namespace_event, or struct namespace_contid_event: size tells */
#define EVENT_USERS	9  /* struct users_event, or struct users_large_event: size tells */
#define EVENT_REFUSED	10 /* struct refused_contid_event; struct refused_event in older captures */
#define EVENT_PACKET	11 /* struct packet_event */
#define EVENT_MEMBER	12 /* struct member_event */
#define EVENT_CONTID	13 /* struct contid_event, in the store's own ring */

/* context_event.flags */
#define CONTEXT_STANDALONE    0x0001 /* an event of one record: no tally follows */
#define CONTEXT_SUBJECT	      0x0002 /* current can be the subject of the record */
#define CONTEXT_KTHREAD	      0x0004 /* current is a kernel thread */
#define CONTEXT_INTERRUPT     0x0008 /* finished in interrupt context: current is a bystander */
#define CONTEXT_UNTRACKED     0x0010 /* the table of open events was full: no tally follows */
#define CONTEXT_AFTER_SERVING 0x0020 /* current->nsproxy is gone: exit_task_work */

/* tally_event.flags */
#define TALLY_EOE	0x0001 /* ended by the end-of-event record */
#define TALLY_EXIT	0x0002 /* ended by the return of audit_log_exit: a rule excludes EOE */
#define TALLY_ORPHAN	0x0004 /* left without a SYSCALL record: a `never` rule dropped the rest */
#define TALLY_TRUNCATED 0x0008 /* more runs than fit; records is right all the same */
#define TALLY_BUFFER	0x0010 /* one buffer of several records, an event of its own */

/* cgroup_event.op */
#define CGROUP_MADE	1
#define CGROUP_REMOVED	2 /* rmdir: no task is in it, and none can come */
#define CGROUP_RENAMED	3
#define CGROUP_RELEASED 4 /* nothing refers to it any more */
#define CGROUP_FOUND	5 /* by user space, when it looked through the file system at its start */

/* change_event.op */
#define CHANGE_SETNS   1
#define CHANGE_UNSHARE 2
#define CHANGE_CLONE   3 /* clone, clone3, fork, and a task that io_uring makes */
#define CHANGE_EXEC    4 /* a time namespace is entered at exec */

/* namespace_event.op */
#define NAMESPACE_MADE	1
#define NAMESPACE_FREED 2 /* nothing keeps it any more; only inum, unique and op are set */
#define NAMESPACE_FOUND 3 /* a task had it at the start; nothing of a creator is set */

/* contid_event.op */
#define CONTID_SET  1
#define CONTID_DROP 2

/* What the look at the start writes of each task: one byte (baseline.bpf.c). */
#define BASELINE_TOLD	 1
#define BASELINE_GONE	 2 /* it is ending and has no namespaces any more */
#define BASELINE_CHANGED 3 /* its namespaces were being changed: look again */
#define BASELINE_DROPPED 4 /* ring full: look again */

/* Index into context_event.inum and .unique, and bit in .missing. */
#define NS_MNT		     0
#define NS_UTS		     1
#define NS_IPC		     2
#define NS_NET		     3
#define NS_PID		     4
#define NS_USER		     5
#define NS_CGROUP	     6
#define NS_TIME		     7
#define NS_PID_FOR_CHILDREN  8
#define NS_TIME_FOR_CHILDREN 9
#define NS_KINDS	     10

#define LEVELS_INLINE	  4  /* nearly every task: host, container, container in container */
#define LEVELS_MAX	  33 /* MAX_PID_NS_LEVEL (32) below the initial one */
#define TALLY_RUNS	  32
#define COMM_SIZE	  16
#define CGROUP_PATH	  1024 /* TRACE_CGROUP_PATH_LEN of the kernel */
#define WALK_DEPTH	  16   /* a container in a pod in a container is some ten deep */
#define USERS_LEVELS	  33   /* 32 below the initial one */
#define USERS_EXTENTS	  5    /* as many as struct uid_gid_map holds itself */
#define USERS_EXTENTS_MAX 340  /* UID_GID_MAP_MAX_EXTENTS */
#define REFUSED_TEXT	  1024
#define WALK_NAME	  128 /* the longest names of runtimes have 86 bytes */
#define CONTID_DEPTH	  8   /* orchestrators within each other */

struct event_header {
	__u16 type;
	__u16 version;
	__u32 size; /* of the whole message, header included */
	__u64 time; /* ns since boot, CLOCK_BOOTTIME */
};

/* audit(sec.ms:serial), parsed from the record's text. */
struct event_stamp {
	__u64 sec;
	__u32 ms;
	__u32 serial;
};

struct pid_level {
	__u32 ns; /* inum of the pid namespace */
	__u32 pid;
};

struct context_event {
	struct event_header header;
	struct event_stamp stamp;
	__u16 record_type;
	__u16 flags;
	__u32 missing; /* bit per NS_*: the read failed or the pointer was NULL */
	__u32 pid;     /* thread group, initial pid namespace */
	__u32 tid;
	__u32 ppid;
	__u32 auid;
	__u32 ses;
	__u32 levels; /* how many of level[] are valid */
	__u64 start;  /* ns since boot at which the thread group's leader was made */
	__u64 cgroup_id;
	__u8 comm[COMM_SIZE];
	__u32 inum[NS_KINDS];
	__u64 unique[NS_KINDS]; /* never reused; 0 where the kernel has none */
	struct pid_level level[LEVELS_INLINE];
};

/* The same for a task more than LEVELS_INLINE levels deep. */
struct context_deep_event {
	struct context_event c;
	struct pid_level more[LEVELS_MAX - LEVELS_INLINE];
};

/* The chain of the task's audit container identifier, inverted (contid.h); its own first. */
struct contid_tail {
	__u32 depth; /* how many of chain[] are valid */
	__u32 pad;
	__u64 chain[CONTID_DEPTH];
};

/* Both for a task that has one. */
struct context_contid_event {
	struct context_event c;
	struct contid_tail contid;
};

struct context_deep_contid_event {
	struct context_deep_event d;
	struct contid_tail contid;
};

struct tally_run {
	__u16 type;
	__u16 count;
};

struct tally_event {
	struct event_header header;
	struct event_stamp stamp;
	__u32 records; /* finished for this stamp */
	__u16 flags;
	__u16 runs; /* how many of run[] are valid */
	struct tally_run run[TALLY_RUNS];
};

/*
 * What became of a cgroup of the hierarchy that is watched. The id is never used again within a boot: it
 * is the inode of the directory and its generation (kernfs). User space may write a shorter one, which
 * ends with the path.
 */
struct cgroup_event {
	struct event_header header;
	__u64 id;
	__u16 op;
	__u16 size; /* bytes of path; 0: it could not be read, CGROUP_PATH - 1: it may go on */
	__u32 pad;
	__u8 path[CGROUP_PATH];
};

/* The cgroup of a task, which no message told of: the names on the way from it up to the root. */
struct walk_event {
	struct event_header header;
	__u64 id;
	__u16 depth; /* how many of name[] are valid, the cgroup's own first */
	__u16 whole; /* the root was reached */
	__u32 pad;
	__u8 name[WALK_DEPTH][WALK_NAME]; /* ending in NUL; one that fills it may go on */
};

/*
 * A task, with nothing that belongs to a record: its stamp, record_type and flags are 0 but for
 * CONTEXT_AFTER_SERVING. Always with room for all levels: these are rare.
 */
struct task_facts {
	struct context_event c;
	struct pid_level more[LEVELS_MAX - LEVELS_INLINE];
};

/*
 * What a task did within one system call is told before anybody can know the serial its records will have.
 * So all of it carries a link, which with the task's tid is that call's own; when the call's first record is
 * finished a link_event says which stamp that is. 0: the call is not audited, no record will come.
 */
struct link_event {
	struct event_header header;
	struct event_stamp stamp;
	__u64 link;
	__u32 tid;	 /* whose call it is: two may begin one in the same nanosecond */
	__u32 untold;	 /* changes of namespaces that were over the rate limit */
	__u32 child_pid; /* the last task that the call made: thread group or thread, initial pid namespace */
	__u32 child_seen; /* the same, as the caller's pid namespace counts it; 0: it made none */
};

/* Namespaces were changed: who is the task after it, and for a clone the child. */
struct change_event {
	struct task_facts who;
	__u64 link;
	__u32 actor_pid; /* who called */
	__u32 actor_tid;
	__u16 op;
	__u16 pad;
	__u32 before_missing;
	__u32 before_inum[NS_KINDS];
	__u64 before_unique[NS_KINDS];
	__u64 actor_cgroup;
};

struct change_contid_event {
	struct change_event c;
	struct contid_tail contid; /* of who called */
};

/* A signal was sent to a task, it was traced, or it was aimed at by a pidfd, which no record tells. */
struct target_event {
	struct task_facts who;
	__u64 link;
	__u32 actor_tid;
	__u32 by_pidfd;
};

struct target_contid_event {
	struct target_event t;
	struct contid_tail contid;
};

struct namespace_event {
	struct event_header header;
	__u64 unique; /* never reused; 0 where the kernel has none */
	__u32 inum;
	__u16 kind; /* NS_* */
	__u16 op;
	__u32 parent; /* inum, of a pid or user namespace; else 0 */
	__u32 owner;  /* inum of the user namespace that owns it */
	__u32 creator_pid;
	__u32 creator_tid;
	__u64 creator_start;
	__u64 creator_cgroup;
	__u32 creator_uid;
	__u32 level; /* of a pid or user namespace below the initial one */
	__u8 creator_comm[COMM_SIZE];
};

/* As one that is made is told. */
struct namespace_contid_event {
	struct namespace_event n;
	struct contid_tail contid; /* of the creator */
};

struct id_extent {
	__u32 first;	   /* inside */
	__u32 lower_first; /* in the initial user namespace */
	__u32 count;
};

/* How a user namespace numbers users and groups, told before the first task in it acts. */
struct users_event {
	struct event_header header;
	__u32 inum;
	__u32 level;
	__u32 owner_uid; /* who made it; initial user namespace */
	__u32 owner_gid;
	__u32 uid_count; /* of extents; as many as fit are told */
	__u32 gid_count;
	__u32 above[USERS_LEVELS]; /* inums from its parent up to the initial one; 0 behind the last */
	__u32 pad;
	__u64 unique[USERS_LEVELS +
		     1]; /* never reused, of itself and then of those; 0 where the kernel has none */
	struct id_extent uid[USERS_EXTENTS];
	struct id_extent gid[USERS_EXTENTS];
};

struct users_large_event {
	struct users_event u; /* its extents are not used */
	struct id_extent uid[USERS_EXTENTS_MAX];
	struct id_extent gid[USERS_EXTENTS_MAX];
};

/* An audit message that the kernel refused because its sender is not in the initial user namespace. */
struct refused_event {
	struct task_facts who;
	__u32 uid; /* of the sender; initial user namespace */
	__u32 gid;
	__u16 record_type;
	__u16 size;   /* bytes of text that are valid */
	__u32 length; /* of what was sent behind the header */
	__u8 text[REFUSED_TEXT];
};

struct refused_contid_event {
	struct refused_event r;
	struct contid_tail contid;
};

/* The net namespace that a record without a subject is about. */
struct packet_event {
	struct event_header header;
	struct event_stamp stamp;
	__u64 unique;
	__u32 inum;
	__u16 record_type;
	__u16 pad;
};

/* Programs were started in this cgroup with these namespaces: told once. */
struct member_event {
	struct event_header header;
	__u64 cgroup_id;
	__u32 inum[NS_KINDS];
	__u64 unique[NS_KINDS];
	__u32 pid;
	__u32 pad;
	__u64 start;
};

/* An audit container identifier was set, or tried to be, or has no process any more. */
struct contid_event {
	struct event_header header;
	__u64 contid; /* inverted, as all of them: 0 is unset */
	__u64 old[CONTID_DEPTH];
	__u32 old_depth; /* how many of old[] are valid */
	__u32 opid;	 /* process that it was done to; initial pid namespace */
	__u16 op;
	__u16 orchestrator; /* set for one, or by a cgroup that one has bound */
	__u32 result;	    /* 0 or an errno */
};

/*
 * Counters, one set per CPU in an array that user space maps: reading them takes no system call and
 * no capability. The name is the place; failures are never silent.
 */
struct counters {
	__u64 records;		  /* records the hook saw finished */
	__u64 contexts;		  /* context messages committed */
	__u64 standalone;	  /* of those, for events of one record */
	__u64 tallies;		  /* tally messages committed */
	__u64 orphans;		  /* of those, for orphans */
	__u64 drop_context;	  /* ring full */
	__u64 drop_tally;	  /* ring full */
	__u64 fail_ring;	  /* no ring for this CPU */
	__u64 fail_buffer;	  /* audit_buffer could not be read */
	__u64 fail_text;	  /* the record's text could not be read */
	__u64 fail_stamp;	  /* the text does not start with a stamp */
	__u64 fail_type;	  /* the netlink header could not be read */
	__u64 fail_track;	  /* table of open events full */
	__u64 fail_list;	  /* more records in one buffer than we walk */
	__u64 fail_nsproxy;	  /* current->nsproxy NULL or unreadable */
	__u64 fail_namespace;	  /* a namespace's inum could not be read */
	__u64 fail_pids;	  /* thread_pid could not be read */
	__u64 queue_other;	  /* skb_queue_tail calls that were not the audit queue */
	__u64 fail_queue_unknown; /* skb_queue_tail calls before the audit queue was learned */
	/* Every record the hook saw is in one of these two, or in an event that is still open. */
	__u64 counted;	 /* in a tally or a standalone context that was committed */
	__u64 uncounted; /* in one that was not, or unreadable, or of an event that could not be tracked */
	/* audit_log_lost(), by what it was told. */
	__u64 lost_rate_limit; /* finished, then dropped: over the rate limit */
	__u64 lost_backlog;    /* never made: over the backlog limit */
	__u64 lost_memory;     /* never made: out of memory */
	__u64 lost_queue;      /* auditd's copy only: the hold or retry queue overflowed */
	__u64 lost_other;
	__u64 cgroups;	      /* messages about cgroups committed, walks included */
	__u64 drop_cgroup;    /* ring full: a walk will tell of it once a task in it acts */
	__u64 fail_cgroup;    /* a task's cgroup or its id could not be read */
	__u64 facts;	      /* messages of the other kinds committed */
	__u64 drop_fact;      /* ring full: changes, targets, links, refused messages, packets */
	__u64 drop_namespace; /* ring full: which life an inum is of is not known any more */
	__u64 drop_users;     /* ring full: told again with the next record */
	__u64 limited_change; /* over the rate limit */
	__u64 limited_refused;
	__u64 fail_acts;   /* the table of calls under way was full: facts without a link */
	__u64 fail_users;  /* a map of users could not be read */
	__u64 fail_packet; /* a packet's net namespace could not be proved */
	__u64 reserved[2]; /* up to a multiple of a cache line: no two CPUs share one */
};

#define CHECK_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
CHECK_SIZE(struct event_header, 16);
CHECK_SIZE(struct event_stamp, 16);
CHECK_SIZE(struct context_event, 248);
CHECK_SIZE(struct cgroup_event, 1056);
CHECK_SIZE(struct walk_event, 2080);
CHECK_SIZE(struct context_deep_event, 480);
CHECK_SIZE(struct context_contid_event, 320);
CHECK_SIZE(struct context_deep_contid_event, 552);
CHECK_SIZE(struct tally_event, 168);
CHECK_SIZE(struct task_facts, 480);
CHECK_SIZE(struct link_event, 56);
CHECK_SIZE(struct change_event, 632);
CHECK_SIZE(struct change_contid_event, 704);
CHECK_SIZE(struct target_event, 496);
CHECK_SIZE(struct target_contid_event, 568);
CHECK_SIZE(struct namespace_event, 88);
CHECK_SIZE(struct namespace_contid_event, 160);
CHECK_SIZE(struct users_event, 568);
CHECK_SIZE(struct users_large_event, 8728);
CHECK_SIZE(struct refused_event, 1520);
CHECK_SIZE(struct refused_contid_event, 1592);
CHECK_SIZE(struct packet_event, 48);
CHECK_SIZE(struct member_event, 160);
CHECK_SIZE(struct contid_event, 104);
CHECK_SIZE(struct counters, 40 * 8);

#endif
