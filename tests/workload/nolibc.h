/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Just enough of a C run time for the workload programs: an entry point, raw system calls, a few
 * string functions and buffered formatting. Included by exactly one .c file per program.
 *
 * No libc, so that an exec costs little under emulation (no dynamic linker, few pages touched) and so
 * that a program makes no system call but those in its source: the audit records of a run are
 * exactly predictable.
 */
#ifndef WORKLOAD_NOLIBC_H
#define WORKLOAD_NOLIBC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>

#ifndef __x86_64__
#error "only x86_64 is written so far"
#endif

#define SIGCHLD		 17
#define STDOUT		 1
#define STDERR		 2
#define EXIT_USAGE	 2
#define EXIT_CANNOT_RUN	 127 /* as a shell says it */
#define EXIT_SIGNAL_BASE 128

int main(int argc, char **argv, char **envp);

/* The kernel leaves argc at the stack pointer, then argv, a null, envp, a null. */
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov (%rsp), %rdi\n"
	"	lea 8(%rsp), %rsi\n"
	"	lea 16(%rsp,%rdi,8), %rdx\n"
	"	and $-16, %rsp\n"
	"	call main\n"
	"	mov %eax, %edi\n"
	"	mov $231, %eax\n" /* exit_group */
	"	syscall\n");

/* Returns the kernel's answer: an error is the negative errno. */
static inline long syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#define SYSCALL_ARG(value)    ((long)(value))
#define SYSCALL_0(n)	      syscall6((n), 0, 0, 0, 0, 0, 0)
#define SYSCALL_1(n, a)	      syscall6((n), SYSCALL_ARG(a), 0, 0, 0, 0, 0)
#define SYSCALL_2(n, a, b)    syscall6((n), SYSCALL_ARG(a), SYSCALL_ARG(b), 0, 0, 0, 0)
#define SYSCALL_3(n, a, b, c) syscall6((n), SYSCALL_ARG(a), SYSCALL_ARG(b), SYSCALL_ARG(c), 0, 0, 0)
#define SYSCALL_4(n, a, b, c, d)                                                                             \
	syscall6((n), SYSCALL_ARG(a), SYSCALL_ARG(b), SYSCALL_ARG(c), SYSCALL_ARG(d), 0, 0)
#define SYSCALL_6(n, a, b, c, d, e, f)                                                                       \
	syscall6((n), SYSCALL_ARG(a), SYSCALL_ARG(b), SYSCALL_ARG(c), SYSCALL_ARG(d), SYSCALL_ARG(e),        \
		 SYSCALL_ARG(f))

/* GCC may turn loops and initialisers into calls of these, so they must exist under these names. */
void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);

__attribute__((used)) void *memset(void *to, int byte, size_t size)
{
	void *end = to;

	__asm__ volatile("rep stosb" : "+D"(end), "+c"(size) : "a"(byte) : "memory");
	return to;
}

__attribute__((used)) void *memcpy(void *to, const void *from, size_t size)
{
	void *end = to;

	__asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(size) : : "memory");
	return to;
}

static inline size_t length(const char *text)
{
	size_t size = 0;

	while (text[size])
		size++;
	return size;
}

static inline bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A whole argument as a number, or false: "12x" and "" are not numbers. */
static inline bool parse_number(const char *text, unsigned long *value)
{
	*value = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (!is_digit(*text))
			return false;
		*value = *value * 10 + (unsigned long)(*text - '0');
	}
	return true;
}

/* Text under construction in a caller's buffer; what does not fit is cut, the end is always a NUL. */
struct text {
	char *at;
	char *end; /* the last byte, kept for the NUL */
};

static inline struct text text_in(char *buffer, size_t size)
{
	buffer[0] = '\0';
	return (struct text){buffer, buffer + size - 1};
}

static inline void put(struct text *text, const char *from)
{
	while (*from && text->at < text->end)
		*text->at++ = *from++;
	*text->at = '\0';
}

static inline void put_number(struct text *text, unsigned long value)
{
	char digits[24];
	char *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put(text, at);
}

static inline void write_all(int fd, const char *from, size_t size)
{
	while (size) {
		long done = SYSCALL_3(__NR_write, fd, from, size);

		if (done <= 0)
			return;
		from += done;
		size -= (size_t)done;
	}
}

static inline void say(int fd, const char *from)
{
	write_all(fd, from, length(from));
}

static inline void say_number(int fd, unsigned long value)
{
	char line[32];
	struct text text = text_in(line, sizeof(line));

	put_number(&text, value);
	put(&text, "\n");
	say(fd, line);
}

/* "what: errno 22" on standard error; returns the status to exit with. */
static inline int failed(const char *what, long error)
{
	say(STDERR, what);
	say(STDERR, ": errno ");
	say_number(STDERR, (unsigned long)-error);
	return 1;
}

static inline int usage(const char *text)
{
	say(STDERR, text);
	return EXIT_USAGE;
}

static inline long fork_process(void)
{
	return SYSCALL_6(__NR_clone, SIGCHLD, 0, 0, 0, 0, 0);
}

_Noreturn static inline void exit_process(int status)
{
	for (;;)
		SYSCALL_1(__NR_exit_group, status);
}

/* Waits for one child (-1: any) and returns its status as a shell would: 128 + signal if it was killed. */
static inline int wait_for(long pid)
{
	int status = 0;
	long result;

	do
		result = SYSCALL_4(__NR_wait4, pid, &status, 0, 0);
	while (result == -EINTR);
	if (result < 0)
		return 1;
	if (status & 0x7f)
		return EXIT_SIGNAL_BASE + (status & 0x7f);
	return (status >> 8) & 0xff;
}

/* execve along PATH's usual places when the name has no slash. Returns only if it fails. */
static inline int run(char **argv, char **envp)
{
	static const char *const places[] = {"/usr/local/bin/", "/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"};
	char path[256];
	const char *at = argv[0];
	long error;

	while (*at && *at != '/')
		at++;
	if (*at) {
		error = SYSCALL_3(__NR_execve, argv[0], argv, envp);
	} else {
		error = -ENOENT;
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && error == -ENOENT; i++) {
			struct text text = text_in(path, sizeof(path));

			put(&text, places[i]);
			put(&text, argv[0]);
			error = SYSCALL_3(__NR_execve, path, argv, envp);
		}
	}
	failed(argv[0], error);
	return EXIT_CANNOT_RUN;
}

#endif
