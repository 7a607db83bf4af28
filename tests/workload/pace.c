// SPDX-License-Identifier: Apache-2.0
/*
 * Execs at a rate, each with its number and its moment in its argument: so that a reader's line tells how
 * late it is, and which numbers never came.
 *
 *   pace RATE SECONDS
 *
 * RATE is execs a second, 0 as fast as one task can. Each is a fork, an exec of this program, an exit and a
 * wait, one after another; what is behind its time is caught up on. The argument is pace=NUMBER@TIME,
 * nanoseconds of the monotonic clock. Prints how many were started, and in how many nanoseconds, a line each.
 */
#include "nolibc.h"

#define LEAF		"pace-leaf"
#define CLOCK_MONOTONIC 1
#define TIMER_ABSTIME	1
#define NANOSECONDS	1000000000UL

struct moment {
	unsigned long sec, nsec;
};

static unsigned long now(void)
{
	struct moment time = {0, 0};

	SYSCALL_2(__NR_clock_gettime, CLOCK_MONOTONIC, &time);
	return time.sec * NANOSECONDS + time.nsec;
}

static void sleep_until(unsigned long due)
{
	struct moment time = {due / NANOSECONDS, due % NANOSECONDS};

	SYSCALL_4(__NR_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static int child(const char *self, unsigned long number, char **envp)
{
	char word[64];
	char *leaf[] = {LEAF, word, NULL};
	struct text text = text_in(word, sizeof(word));

	put(&text, "pace=");
	put_number(&text, number);
	put(&text, "@");
	put_number(&text, now());
	failed("exec", SYSCALL_3(__NR_execve, self, leaf, envp));
	return EXIT_CANNOT_RUN;
}

int main(int argc, char **argv, char **envp)
{
	unsigned long rate, seconds, count = 0, start, passed;

	if (argc && same(argv[0], LEAF))
		return 0;
	if (argc != 3 || !parse_number(argv[1], &rate) || !parse_number(argv[2], &seconds))
		return usage("usage: pace RATE SECONDS\n");
	for (start = now(); (passed = now() - start) < seconds * NANOSECONDS; count++) {
		long pid = fork_process();

		if (pid < 0)
			return failed("fork", pid);
		if (pid == 0)
			exit_process(child(argv[0], count, envp));
		if (wait_for(pid))
			return 1;
		if (rate && now() - start < (count + 1) * NANOSECONDS / rate)
			sleep_until(start + (count + 1) * NANOSECONDS / rate);
	}
	say_number(STDOUT, count);
	say_number(STDOUT, passed);
	return 0;
}
