// SPDX-License-Identifier: Apache-2.0
/*
 * One system call in a loop, for measuring what auditing it costs.
 *
 *   sysloop SECONDS getppid|openat|fork
 *
 * Prints one line per second: the calls made in it, scaled to the second's true length. openat opens
 * and closes "/"; a pair counts as one. fork makes a child that ends at once, and waits for it. The clock is
 * read once in a few hundred calls.
 */
#include "nolibc.h"

#define CLOCK_MONOTONIC 1
#define BATCH		256
#define NANOSECONDS	1000000000UL

static unsigned long now(void)
{
	struct {
		long sec, nsec;
	} time = {0, 0};

	SYSCALL_2(__NR_clock_gettime, CLOCK_MONOTONIC, &time);
	return (unsigned long)time.sec * NANOSECONDS + (unsigned long)time.nsec;
}

enum what { GETPPID, OPENAT, FORK, NOTHING };

static enum what what_of(const char *name)
{
	if (same(name, "getppid"))
		return GETPPID;
	if (same(name, "openat"))
		return OPENAT;
	return same(name, "fork") ? FORK : NOTHING;
}

static long call(enum what what)
{
	long fd, pid;

	if (what == GETPPID)
		return SYSCALL_0(__NR_getppid);
	if (what == FORK) {
		pid = fork_process();
		if (!pid)
			exit_process(0);
		return pid < 0 ? pid : wait_for(pid);
	}
	fd = SYSCALL_4(__NR_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	return fd < 0 ? fd : SYSCALL_1(__NR_close, fd);
}

int main(int argc, char **argv, char **envp)
{
	unsigned long seconds;
	enum what what = argc == 3 ? what_of(argv[2]) : NOTHING;

	(void)envp;
	if (what == NOTHING || !parse_number(argv[1], &seconds))
		return usage("usage: sysloop SECONDS getppid|openat|fork\n");
	for (; seconds; seconds--) {
		unsigned long start = now(), passed, count = 0;

		do {
			for (int i = 0; i < BATCH; i++) {
				long result = call(what);

				if (result < 0)
					return failed(argv[2], result);
			}
			count += BATCH;
			passed = now() - start;
		} while (passed < NANOSECONDS);
		/* At most 2^30 calls a second, so the product fits. */
		say_number(STDOUT, count * NANOSECONDS / passed);
	}
	return 0;
}
