// SPDX-License-Identifier: Apache-2.0
/*
 * Execs as fast as it goes: N times fork, exec, wait, one after another.
 *
 *   spin N COMMAND [ARGUMENT..]
 *
 * Prints nothing. Exit status: 0, or 1 if any run did not exit with 0.
 */
#include "nolibc.h"

int main(int argc, char **argv, char **envp)
{
	unsigned long count;
	int status = 0;

	if (argc < 3 || !parse_number(argv[1], &count))
		return usage("usage: spin N COMMAND [ARGUMENT..]\n");
	for (; count; count--) {
		long pid = fork_process();

		if (pid < 0)
			return failed("fork", pid);
		if (pid == 0)
			exit_process(run(argv + 2, envp));
		if (wait_for(pid))
			status = 1;
	}
	return status;
}
