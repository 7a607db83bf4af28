// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that carry their own identity: each child reads its namespace links and its pids, puts
 * them into its argv and execs. An exec changes neither, so the EXECVE record of that exec holds the
 * ground truth about the very task it is about: nothing has to be stopped or asked from outside.
 *
 *   truth [-j TASKS] [-x PROGRAM] N [TAG]
 *
 * Each of TASKS tasks (1) makes N children, one after another. They exec this program again, which
 * exits at once, or PROGRAM (absolute), which may look at its arguments:
 *
 *   truth-leaf tag=TAG n=17 self=7 parent=1 nspid=4711,7 mnt=4026531841 ... time_for_children=0
 *
 * self and parent are pids as the process itself sees them (pid= is its pid namespace). nspid goes
 * from the outermost pid namespace that its /proc shows inward. 0 and an empty nspid mean "cannot be
 * read here". n counts over all tasks.
 * Exit status: 0, or 1 if any child did not exit with 0.
 */
#include "nolibc.h"

#define LEAF	   "truth-leaf"
#define FIELD_SIZE 288 /* nspid: 32 levels of up to seven digits, or a long tag */
#define PREFIX	   "/proc/self/ns/"

/* In the order of the wire format (bpf/include/events.h). */
static const char *const kinds[] = {
	"mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time", "pid_for_children", "time_for_children"};

#define KINDS	  (sizeof(kinds) / sizeof(kinds[0]))
#define FIXED	  6 /* argv[0], tag, n, self, parent, nspid */
#define ARGV_SIZE (FIXED + KINDS + 1)

static char fields[ARGV_SIZE][FIELD_SIZE];
static char *leaf_argv[ARGV_SIZE];

/* "mnt:[4026531841]" -> 4026531841; 0 if there is no such link. */
static unsigned long namespace_inum(const char *kind)
{
	char path[64], target[64];
	struct text text = text_in(path, sizeof(path));
	unsigned long inum = 0;
	long size;

	put(&text, PREFIX);
	put(&text, kind);
	size = SYSCALL_4(__NR_readlinkat, AT_FDCWD, path, target, sizeof(target) - 1);
	for (long i = 0; i < size; i++)
		if (is_digit(target[i]))
			inum = inum * 10 + (unsigned long)(target[i] - '0');
	return inum;
}

/* The values of the NSpid line of /proc/self/status, separated by commas. */
static void put_nspid(struct text *text)
{
	static const char name[] = "\nNSpid:";
	static char status[4096];
	long fd = SYSCALL_4(__NR_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
	long size;
	size_t matched = 0;
	bool first = true;

	if (fd < 0)
		return;
	size = SYSCALL_3(__NR_read, fd, status, sizeof(status) - 1);
	SYSCALL_1(__NR_close, fd);
	if (size <= 0)
		return;
	status[size] = '\0';
	for (char *at = status; *at; at++) {
		matched = *at == name[matched] ? matched + 1 : (size_t)(*at == name[0]);
		if (matched < sizeof(name) - 1)
			continue;
		for (at++; *at && *at != '\n'; at++) {
			if (!is_digit(*at))
				continue;
			if (!first && !is_digit(at[-1]))
				put(text, ",");
			first = false;
			put(text, (char[]){*at, '\0'});
		}
		return;
	}
}

static struct text field(size_t index, const char *name)
{
	struct text text = text_in(fields[index], FIELD_SIZE);

	leaf_argv[index] = fields[index];
	put(&text, name);
	return text;
}

static void number_field(size_t index, const char *name, unsigned long value)
{
	struct text text = field(index, name);

	put(&text, "=");
	put_number(&text, value);
}

static void build_argv(const char *tag, unsigned long number)
{
	struct text text;

	field(0, LEAF);
	text = field(1, "tag=");
	put(&text, tag);
	number_field(2, "n", number);
	number_field(3, "self", (unsigned long)SYSCALL_0(__NR_getpid));
	number_field(4, "parent", (unsigned long)SYSCALL_0(__NR_getppid));
	text = field(5, "nspid=");
	put_nspid(&text);
	for (size_t i = 0; i < KINDS; i++)
		number_field(FIXED + i, kinds[i], namespace_inum(kinds[i]));
	leaf_argv[FIXED + KINDS] = NULL;
}

/* Our own file is known by two names: one works wherever it lies, the other also without /proc. */
static int child(const char *program, const char *self, const char *tag, unsigned long number, char **envp)
{
	long error;

	build_argv(tag, number);
	error = SYSCALL_3(__NR_execve, program ? program : "/proc/self/exe", leaf_argv, envp);
	if (!program)
		error = SYSCALL_3(__NR_execve, self, leaf_argv, envp);
	failed("exec", error);
	return EXIT_CANNOT_RUN;
}

static int task(const char *program, const char *self, const char *tag, unsigned long first,
		unsigned long count, char **envp)
{
	int status = 0;

	for (unsigned long number = first; number < first + count; number++) {
		long pid = fork_process();

		if (pid < 0)
			return failed("fork", pid);
		if (pid == 0)
			exit_process(child(program, self, tag, number, envp));
		if (wait_for(pid))
			status = 1;
	}
	return status;
}

static int tasks(unsigned long workers, const char *program, const char *self, const char *tag,
		 unsigned long count, char **envp)
{
	int status = 0;

	for (unsigned long worker = 0; worker < workers; worker++) {
		long pid = fork_process();

		if (pid == 0)
			exit_process(task(program, self, tag, worker * count, count, envp));
		if (pid < 0) {
			status = failed("fork", pid);
			workers = worker; /* wait for those that are there */
		}
	}
	for (unsigned long worker = 0; worker < workers; worker++)
		if (wait_for(-1))
			status = 1;
	return status;
}

int main(int argc, char **argv, char **envp)
{
	unsigned long workers = 1, count;
	const char *program = NULL;
	int at = 1;

	if (argc && same(argv[0], LEAF))
		return 0;
	for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
		if (same(argv[at], "-x"))
			program = argv[at + 1];
		else if (!same(argv[at], "-j") || !parse_number(argv[at + 1], &workers) || !workers)
			break;
	}
	if (at >= argc || argc > at + 2 || !parse_number(argv[at], &count))
		return usage("usage: truth [-j TASKS] [-x PROGRAM] N [TAG]\n");
	const char *tag = at + 1 < argc ? argv[at + 1] : "none";

	if (workers == 1)
		return task(program, argv[0], tag, 0, count, envp);
	return tasks(workers, program, argv[0], tag, count, envp);
}
