// SPDX-License-Identifier: Apache-2.0
/*
 * Makes processes in every way there is, for what they have to inherit.
 *
 *   family COUNT CGROUP_DIRECTORY
 *
 * Waits for a byte on standard input, then goes round: fork, fork twice over, vfork, CLONE_PARENT (whose
 * child the parent has to reap), a fork of a thread that is not the leader, an exec of one after which the
 * program forks, and CLONE_INTO_CGROUP where a directory is named. Prints how many processes it has made,
 * itself left out.
 *
 *   family leaf: makes one process.
 */
#include "nolibc.h"

#define CLONE_VM	     0x00000100UL
#define CLONE_FS	     0x00000200UL
#define CLONE_FILES	     0x00000400UL
#define CLONE_SIGHAND	     0x00000800UL
#define CLONE_VFORK	     0x00004000UL
#define CLONE_PARENT	     0x00008000UL
#define CLONE_THREAD	     0x00010000UL
#define CLONE_CHILD_CLEARTID 0x00200000UL
#define CLONE_INTO_CGROUP    0x200000000ULL
#define THREAD		     (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_CHILD_CLEARTID)
#define STACK		     16384

/* struct clone_args as of Linux 5.7 */
struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
		set_tid_size, cgroup;
};

/* Runs it on the stack; the word is 0 once the thread is gone. */
long thread_start(unsigned long flags, void *stack_top, volatile int *word, void (*run)(void));

__asm__("thread_start:\n"
	"	mov %rcx, %r9\n"
	"	mov %rdx, %r10\n"
	"	xor %edx, %edx\n"
	"	xor %r8d, %r8d\n"
	"	mov $56, %eax\n" /* clone */
	"	syscall\n"
	"	test %eax, %eax\n"
	"	jnz 1f\n"
	"	xor %ebp, %ebp\n"
	"	call *%r9\n"
	"	xor %edi, %edi\n"
	"	mov $60, %eax\n" /* exit */
	"	syscall\n"
	"1:	ret\n");

static char stack[STACK] __attribute__((aligned(16)));
static volatile int running;
static char **environment;

static long reap(long pid)
{
	return pid < 0 ? pid : wait_for(pid);
}

static long plain(void)
{
	long pid = fork_process();

	if (!pid)
		exit_process(0);
	return reap(pid);
}

static long twice(void)
{
	long pid = fork_process();

	if (!pid)
		exit_process(fork_process() < 0);
	return reap(pid);
}

static long vforked(void)
{
	long pid = SYSCALL_6(__NR_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0, 0);

	if (!pid)
		exit_process(0);
	return reap(pid);
}

static long sibling(void)
{
	long pid = SYSCALL_6(__NR_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0, 0);

	if (!pid)
		exit_process(0);
	return pid < 0 ? pid : 0;
}

static void fork_there(void)
{
	if (plain() < 0)
		exit_process(1);
}

static void execute_there(void)
{
	char *words[] = {"family", "leaf", NULL};

	SYSCALL_3(__NR_execve, "/proc/self/exe", words, environment);
	exit_process(1);
}

static long in_thread(void (*run)(void))
{
	long tid;

	running = 1;
	tid = thread_start(THREAD, stack + STACK, &running, run);
	while (tid > 0 && running)
		SYSCALL_0(__NR_sched_yield);
	return tid < 0 ? tid : 0;
}

static long by_thread(void)
{
	return in_thread(fork_there);
}

static long by_exec_of_thread(void)
{
	long pid = fork_process();

	if (!pid)
		exit_process(in_thread(execute_there) < 0);
	return reap(pid);
}

static long into_cgroup(long fd)
{
	struct clone_args arguments = {
		.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)fd};
	long pid = SYSCALL_2(__NR_clone3, &arguments, sizeof(arguments));

	if (!pid)
		exit_process(0);
	return reap(pid);
}

int main(int argc, char **argv, char **envp)
{
	static long (*const ways[])(void) = {plain, twice, vforked, sibling, by_thread, by_exec_of_thread};
	static const unsigned int makes[] = {1, 2, 1, 1, 1, 2};
	unsigned long count, made = 0;
	long cgroup = -1;
	char go;

	environment = envp;
	if (argc == 2 && same(argv[1], "leaf"))
		return plain() != 0;
	if (argc < 2 || argc > 3 || !parse_number(argv[1], &count))
		return usage("usage: family COUNT [CGROUP_DIRECTORY]\n");
	if (argc == 3) {
		cgroup = SYSCALL_4(__NR_openat, AT_FDCWD, argv[2], O_RDONLY | O_DIRECTORY, 0);
		if (cgroup < 0)
			return failed(argv[2], cgroup);
	}
	if (SYSCALL_3(__NR_read, 0, &go, 1) != 1)
		return usage("family: nothing came\n");
	while (made < count) {
		for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
			long result = ways[i]();

			if (result)
				return failed("way", -(long)i);
			made += makes[i];
		}
		if (cgroup >= 0) {
			long result = into_cgroup(cgroup);

			if (result)
				return failed("into cgroup", result);
			made++;
		}
	}
	say_number(STDOUT, made);
	return 0;
}
