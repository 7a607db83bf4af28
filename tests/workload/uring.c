// SPDX-License-Identifier: Apache-2.0
/*
 * One openat through io_uring, without liburing.
 *
 *   uring inline|iowq [PATH]
 *
 * inline: the kernel tries the open inside io_uring_enter, in this task. PATH (/) is opened once the
 * ordinary way before, because only an open that needs no I/O stays inline; kernels before 5.12 hand
 * every open to a worker. iowq: IOSQE_ASYNC makes the kernel use a worker thread.
 * Exit status: 0; 38 (ENOSYS) where the kernel has no io_uring; else 1 with "what: errno N".
 */
#include "nolibc.h"

#include <linux/io_uring.h>

#define PROT_READ    1
#define PROT_WRITE   2
#define MAP_SHARED   1
#define MAP_POPULATE 0x8000

static const struct io_uring_cqe *completion(const char *ring, const struct io_cqring_offsets *offsets)
{
	const unsigned int *head = (const void *)(ring + offsets->head);
	const unsigned int *tail = (const void *)(ring + offsets->tail);
	const unsigned int *mask = (const void *)(ring + offsets->ring_mask);

	if (*head == __atomic_load_n(tail, __ATOMIC_ACQUIRE))
		return NULL;
	return (const struct io_uring_cqe *)(ring + offsets->cqes) + (*head & *mask);
}

static long map(long fd, size_t size, long offset)
{
	return SYSCALL_6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
}

/* mmap's errors are the last page of the address space. */
static bool map_failed(long address)
{
	return address < 0 && address > -4096;
}

static void submit(char *ring, const struct io_sqring_offsets *offsets, struct io_uring_sqe *entry,
		   bool worker, const char *path)
{
	unsigned int *tail = (void *)(ring + offsets->tail);
	const unsigned int *mask = (const void *)(ring + offsets->ring_mask);
	unsigned int *array = (void *)(ring + offsets->array);

	entry->opcode = IORING_OP_OPENAT;
	entry->flags = worker ? IOSQE_ASYNC : 0;
	entry->fd = AT_FDCWD;
	entry->addr = (uintptr_t)path;
	entry->open_flags = O_RDONLY | O_CLOEXEC;
	array[*tail & *mask] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}

int main(int argc, char **argv, char **envp)
{
	static struct io_uring_params params;
	bool worker = argc > 1 && same(argv[1], "iowq");
	const char *path = argc > 2 ? argv[2] : "/";
	const struct io_uring_cqe *cqe;
	size_t sq_size, cq_size;
	long fd, sq, cq, entries, result;

	(void)envp;
	if (argc < 2 || argc > 3 || (!worker && !same(argv[1], "inline")))
		return usage("usage: uring inline|iowq [PATH]\n");
	result = SYSCALL_4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (result < 0)
		return failed(path, result);
	SYSCALL_1(__NR_close, result);

	fd = SYSCALL_2(__NR_io_uring_setup, 1, &params);
	if (fd == -ENOSYS)
		return ENOSYS;
	if (fd < 0)
		return failed("io_uring_setup", fd);
	sq_size = params.sq_off.array + params.sq_entries * sizeof(unsigned int);
	cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	sq = map(fd, sq_size, IORING_OFF_SQ_RING);
	cq = map(fd, cq_size, IORING_OFF_CQ_RING);
	entries = map(fd, params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	if (map_failed(sq) || map_failed(cq) || map_failed(entries))
		return failed("mmap", map_failed(sq) ? sq : map_failed(cq) ? cq : entries);

	submit((char *)sq, &params.sq_off, (struct io_uring_sqe *)entries, worker, path);
	result = SYSCALL_6(__NR_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
	if (result < 0)
		return failed("io_uring_enter", result);
	cqe = completion((const char *)cq, &params.cq_off);
	if (!cqe)
		return failed("no completion", -EAGAIN);
	return cqe->res < 0 ? failed("openat", cqe->res) : 0;
}
