// SPDX-License-Identifier: Apache-2.0
/*
 * Aims at a task while its namespaces are exchanged: a child enters the namespaces of one process and of
 * another in turn, as fast as it can, and gets signal 0 COUNT times meanwhile.
 *
 *   nsswap PID PID COUNT
 *
 * It enters uts, ipc and net together, by one call, so at no moment has it some of one and some of the
 * other. Prints the child's pid. Exit status: 0, or 1 if a call failed.
 */
#include "nolibc.h"

#define CLONE_NEWUTS 0x04000000UL
#define CLONE_NEWIPC 0x08000000UL
#define CLONE_NEWNET 0x40000000UL
#define SIGKILL	     9

_Noreturn static void swap_forever(const long *fd)
{
	for (int turn = 0;; turn ^= 1) {
		long error = SYSCALL_2(__NR_setns, fd[turn], CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET);

		if (error)
			exit_process(failed("setns", error));
	}
}

int main(int argc, char **argv, char **envp)
{
	unsigned long pid, count;
	long fd[2], child, error = 0;

	(void)envp;
	if (argc != 4 || !parse_number(argv[3], &count))
		return usage("usage: nsswap PID PID COUNT\n");
	for (int i = 0; i < 2; i++) {
		if (!parse_number(argv[1 + i], &pid))
			return usage("nsswap: a process is named by its number\n");
		fd[i] = SYSCALL_2(__NR_pidfd_open, pid, 0);
		if (fd[i] < 0)
			return failed("pidfd_open", fd[i]);
	}
	child = fork_process();
	if (child < 0)
		return failed("fork", child);
	if (!child)
		swap_forever(fd);
	say_number(STDOUT, (unsigned long)child);
	for (; count && !error; count--)
		error = SYSCALL_2(__NR_kill, child, 0);
	SYSCALL_2(__NR_kill, child, SIGKILL);
	/* One that ended before by itself could not go on. */
	return wait_for(child) != EXIT_SIGNAL_BASE + SIGKILL || error;
}
