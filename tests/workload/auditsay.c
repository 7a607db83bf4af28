// SPDX-License-Identifier: Apache-2.0
/*
 * Sends messages to the kernel's audit as a program does that has users log in: through NETLINK_AUDIT, as
 * libaudit's audit_send() has it.
 *
 *   auditsay TYPE TEXT [COUNT]
 *
 * Writes the errno of the last answer, 0 where the kernel took it: 111 (ECONNREFUSED) in a user namespace.
 * TEXT is sent with the NUL behind it; escapes of two hex digits (%FF) stand for any byte. Exit status: 0
 * where every message was answered.
 */
#include "nolibc.h"

#define AF_NETLINK    16
#define SOCK_RAW      3
#define NETLINK_AUDIT 9
#define NLM_F_REQUEST 1
#define NLM_F_ACK     4
#define NLMSG_ERROR   2
#define TEXT_MAX      8192

struct header {
	uint32_t length;
	uint16_t type, flags;
	uint32_t sequence, port;
};

struct address {
	uint16_t family, pad;
	uint32_t port, groups;
};

static struct {
	struct header header;
	char text[TEXT_MAX + 1];
} message;

static int hex(char c)
{
	return is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t unescape(char *to, const char *from)
{
	size_t size = 0;

	while (*from && size < TEXT_MAX) {
		if (*from == '%' && hex(from[1]) >= 0 && hex(from[2]) >= 0) {
			to[size++] = (char)(hex(from[1]) * 16 + hex(from[2]));
			from += 3;
		} else {
			to[size++] = *from++;
		}
	}
	return size;
}

int main(int argc, char **argv, char **envp)
{
	struct address kernel = {.family = AF_NETLINK};
	struct {
		struct header header;
		int32_t error;
		char rest[TEXT_MAX + 64]; /* what was sent comes back with it */
	} answer = {.error = 1};
	unsigned long type, count = 1;
	long fd, done;

	(void)envp;
	if (argc < 3 || argc > 4 || !parse_number(argv[1], &type) ||
	    (argc == 4 && !parse_number(argv[3], &count)))
		return usage("usage: auditsay TYPE TEXT [COUNT]\n");
	fd = SYSCALL_3(__NR_socket, AF_NETLINK, SOCK_RAW, NETLINK_AUDIT);
	if (fd < 0)
		return failed("socket", fd);
	message.header.type = (uint16_t)type;
	message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
	message.header.length = (uint32_t)(sizeof(message.header) + unescape(message.text, argv[2]) + 1);
	for (unsigned long i = 0; i < count; i++) {
		message.header.sequence = (uint32_t)i + 1;
		done = SYSCALL_6(__NR_sendto, fd, &message, message.header.length, 0, &kernel,
				 sizeof(kernel));
		if (done < 0)
			return failed("sendto", done);
		done = SYSCALL_6(__NR_recvfrom, fd, &answer, sizeof(answer), 0, 0, 0);
		if (done < 0)
			return failed("recvfrom", done);
		if (answer.header.type != NLMSG_ERROR)
			return failed("answer", -(long)answer.header.type);
	}
	say_number(STDOUT, (unsigned long)-(long)answer.error);
	return 0;
}
