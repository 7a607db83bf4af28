// SPDX-License-Identifier: Apache-2.0
/*
 * One system call in a loop, for measuring what auditing it costs.
 *
 *   sysloop SECONDS getppid|openat
 *
 * Prints one line per second: the calls made in it, scaled to the second's true length. openat opens
 * and closes "/"; a pair counts as one. The clock is read once in a few hundred calls.
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

static long call(bool open)
{
	long fd;

	if (!open)
		return SYSCALL_0(__NR_getppid);
	fd = SYSCALL_4(__NR_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	return fd < 0 ? fd : SYSCALL_1(__NR_close, fd);
}

int main(int argc, char **argv, char **envp)
{
	unsigned long seconds;
	bool open = argc == 3 && same(argv[2], "openat");

	(void)envp;
	if (argc != 3 || !parse_number(argv[1], &seconds) || (!open && !same(argv[2], "getppid")))
		return usage("usage: sysloop SECONDS getppid|openat\n");
	for (; seconds; seconds--) {
		unsigned long start = now(), passed, count = 0;

		do {
			for (int i = 0; i < BATCH; i++) {
				long result = call(open);

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
