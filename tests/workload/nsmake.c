// SPDX-License-Identifier: Apache-2.0
/*
 * Runs a command in new namespaces, by the one system call that is named, so that a test knows which
 * record it caused.
 *
 *   nsmake unshare|clone3 KIND[,KIND..] -- COMMAND [ARGUMENT..]
 *
 * Kinds: mnt uts ipc net pid user cgroup time. unshare takes effect for the caller, which then execs
 * COMMAND; a new pid or time namespace is only for children, so with those kinds a child execs it.
 * With clone3 it is always the child. No id mapping is written: in a new user namespace COMMAND is
 * nobody. Exit status: COMMAND's, or 1 if the namespaces could not be made.
 */
#include "nolibc.h"

/* From linux/sched.h, whose struct clone_args is not in every distribution's headers. */
#define CLONE_NEWTIME	0x00000080UL
#define CLONE_NEWNS	0x00020000UL
#define CLONE_NEWCGROUP 0x02000000UL
#define CLONE_NEWUTS	0x04000000UL
#define CLONE_NEWIPC	0x08000000UL
#define CLONE_NEWUSER	0x10000000UL
#define CLONE_NEWPID	0x20000000UL
#define CLONE_NEWNET	0x40000000UL

#define FOR_CHILDREN (CLONE_NEWPID | CLONE_NEWTIME)

struct clone_arguments {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static const struct kind {
	const char *name;
	unsigned long flag;
} kinds[] = {
	{"mnt", CLONE_NEWNS},  {"uts", CLONE_NEWUTS},	{"ipc", CLONE_NEWIPC},	     {"net", CLONE_NEWNET},
	{"pid", CLONE_NEWPID}, {"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
};

/* Reads "mnt,pid" (and cuts it up); 0 if a name is not known. */
static unsigned long parse_kinds(char *list)
{
	unsigned long flags = 0;

	while (*list) {
		char *name = list;
		unsigned long flag = 0;

		while (*list && *list != ',')
			list++;
		if (*list)
			*list++ = '\0';
		for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
			if (same(name, kinds[i].name))
				flag = kinds[i].flag;
		if (!flag)
			return 0;
		flags |= flag;
	}
	return flags;
}

int main(int argc, char **argv, char **envp)
{
	bool by_clone = argc > 1 && same(argv[1], "clone3");
	unsigned long flags;
	long pid = 0;

	if (argc < 5 || (!by_clone && !same(argv[1], "unshare")) || !same(argv[3], "--"))
		return usage("usage: nsmake unshare|clone3 KIND[,KIND..] -- COMMAND [ARGUMENT..]\n");
	flags = parse_kinds(argv[2]);
	if (!flags)
		return usage("nsmake: the kinds are mnt uts ipc net pid user cgroup time\n");
	if (by_clone) {
		struct clone_arguments arguments = {.flags = flags, .exit_signal = SIGCHLD};

		pid = SYSCALL_2(__NR_clone3, &arguments, sizeof(arguments));
		if (pid < 0)
			return failed("clone3", pid);
	} else {
		long error = SYSCALL_1(__NR_unshare, flags);

		if (error)
			return failed("unshare", error);
		if (flags & FOR_CHILDREN)
			pid = fork_process();
		if (pid < 0)
			return failed("fork", pid);
	}
	if (pid)
		return wait_for(pid);
	return run(argv + 4, envp);
}
