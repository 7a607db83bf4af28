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
#define EVENT_CONTEXT 1 /* struct context_event, or struct context_deep_event: size tells */
#define EVENT_TALLY   2 /* struct tally_event */
#define EVENT_CGROUP  3 /* struct cgroup_event */
#define EVENT_WALK    4 /* struct walk_event */

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

#define LEVELS_INLINE 4	 /* nearly every task: host, container, container in container */
#define LEVELS_MAX    33 /* MAX_PID_NS_LEVEL (32) below the initial one */
#define TALLY_RUNS    32
#define COMM_SIZE     16
#define CGROUP_PATH   1024 /* TRACE_CGROUP_PATH_LEN of the kernel */
#define WALK_DEPTH    16   /* a container in a pod in a container is some ten deep */
#define WALK_NAME     128  /* the longest names of runtimes have 86 bytes */

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
	__u64 cgroups;	   /* messages about cgroups committed, walks included */
	__u64 drop_cgroup; /* ring full: a walk will tell of it once a task in it acts */
	__u64 fail_cgroup; /* a task's cgroup or its id could not be read */
	__u64 reserved[3]; /* up to a multiple of a cache line: no two CPUs share one */
};

#define CHECK_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
CHECK_SIZE(struct event_header, 16);
CHECK_SIZE(struct event_stamp, 16);
CHECK_SIZE(struct context_event, 248);
CHECK_SIZE(struct cgroup_event, 1056);
CHECK_SIZE(struct walk_event, 2080);
CHECK_SIZE(struct context_deep_event, 480);
CHECK_SIZE(struct tally_event, 168);
CHECK_SIZE(struct counters, 32 * 8);

#endif
