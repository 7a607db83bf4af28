// SPDX-License-Identifier: Apache-2.0
/*
 * What a build machine, a web server and a machine of containers do, as far as rules for audit see it: as
 * many system calls on as many names as wanted, no name twice.
 *
 *   hostload build|web|churn FIRST
 *
 * Goes on until it is ended; its numbers begin at FIRST. Works in /srv/load, which has to be there with what
 * tests/bench/capture_guest.py makes: directories, and this program under the names that it is run by, of
 * which some are set-uid. What fails is left as it is: refusals are part of it.
 */
#include "nolibc.h"

#define AF_UNIX	    1
#define AF_INET	    2
#define AF_INET6    10
#define SOCK_STREAM 1
#define SOL_SOCKET  1
#define SO_LINGER   13
#define PORT	    8080

#define CLONE_NEWNS  0x00020000UL
#define CLONE_NEWUTS 0x04000000UL
#define CLONE_NEWIPC 0x08000000UL
#define CLONE_NEWPID 0x20000000UL
#define MS_BIND	     0x1000UL
#define MS_REC	     0x4000UL
#define MS_PRIVATE   0x40000UL
#define MNT_DETACH   2

#define BASE   "/srv/load/"
#define BIN    BASE "bin/"
#define BOX    BASE "box/root"
#define BUF    200
#define MODULO 97 /* so many libraries, sites and images */

static char **environment;

/* BEFORE NUMBER AFTER, in one of some buffers that are used in turn. */
static char *named(const char *before, unsigned long number, const char *after)
{
	static char buffers[16][BUF];
	static unsigned int turn;
	char *buffer = buffers[turn++ % 16];
	struct text text = text_in(buffer, BUF);

	put(&text, before);
	put_number(&text, number);
	put(&text, after);
	return buffer;
}

static void create(const char *path, unsigned int mode)
{
	long fd = SYSCALL_4(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	if (fd >= 0)
		SYSCALL_1(__NR_close, fd);
}

static void look(const char *path, int flags)
{
	long fd = SYSCALL_4(__NR_openat, AT_FDCWD, path, flags, 0);

	if (fd >= 0)
		SYSCALL_1(__NR_close, fd);
}

/* Runs a program to its end. */
static void start(char **argv)
{
	long pid = fork_process();

	if (pid == 0) {
		SYSCALL_3(__NR_execve, argv[0], argv, environment);
		exit_process(EXIT_CANNOT_RUN);
	}
	if (pid > 0)
		wait_for(pid);
}

/* -- a build: two short processes for each unit, the second set-uid -------------------------------- */

static void unit(unsigned long n)
{
	char *object = named(BASE "build/obj/unit-", n, ".o");
	char *staged = named(BASE "build/stage/lib", n, ".so");
	char *compile[] = {BIN "cc",
			   named("", n, ""),
			   "-O2",
			   "-Wall",
			   named("-I" BASE "build/include/lib", n % MODULO, ""),
			   named("-DBUILD_ID=", n * 2654435761UL, ""),
			   "-MMD",
			   "-c",
			   named("src/unit-", n, ".c"),
			   "-o",
			   object,
			   NULL};
	char *install[] = {"/usr/bin/load-install",
			   named("", n, ""),
			   "-o",
			   "root",
			   "-g",
			   "root",
			   "-m",
			   "0755",
			   object,
			   staged,
			   NULL};
	char *shell[] = {"/bin/sh",
			 "-c",
			 "cp \"$1\" \"$1.map\" && chmod 0444 \"$1.map\" && mv \"$1.map\" \"$1.sym\" && rm -f "
			 "\"$1.sym\"",
			 "sh",
			 object,
			 NULL};

	start(compile);
	start(install);
	if (n % 256 == 0)
		start(shell);
	SYSCALL_1(__NR_unlink, object);
}

static int cc(unsigned long n)
{
	const char *object = named(BASE "build/obj/unit-", n, ".o");
	const char *temporary = named(BASE "build/obj/.cc-", n, ".s");
	const char *depends = named(BASE "build/dep/unit-", n, ".d");

	look(named(BASE "build/private/include/hdr-", n, ".h"), O_RDONLY);
	create(temporary, 0600);
	SYSCALL_2(__NR_chmod, temporary, 0644);
	SYSCALL_2(__NR_rename, temporary, object);
	create(depends, 0644);
	SYSCALL_3(__NR_unlinkat, AT_FDCWD, depends, 0);
	return 0;
}

static int install(unsigned long n)
{
	const char *temporary = named(BASE "build/stage/.lib", n, ".tmp");
	const char *staged = named(BASE "build/stage/lib", n, ".so");
	const char *grant = named("/etc/sudoers.d/.lib", n, ".new");
	const char *granted = named("/etc/sudoers.d/lib", n, "");
	long fd = SYSCALL_4(__NR_openat, AT_FDCWD, temporary, O_WRONLY | O_CREAT, 0600);

	SYSCALL_3(__NR_fchown, fd, 0, 0);
	SYSCALL_2(__NR_fchmod, fd, 0755);
	SYSCALL_6(__NR_fsetxattr, fd, "user.build", &n, sizeof(n), 0, 0);
	SYSCALL_1(__NR_close, fd);
	SYSCALL_4(__NR_renameat, AT_FDCWD, temporary, AT_FDCWD, staged);
	create(grant, 0600);
	SYSCALL_2(__NR_chmod, grant, 0440);
	SYSCALL_2(__NR_rename, grant, granted);
	look("/etc/group", O_RDWR);
	SYSCALL_1(__NR_unlink, granted);
	SYSCALL_1(__NR_unlink, staged);
	return 0;
}

/* -- a web server: one process, and a set-uid CGI for one request in four --------------------------- */

struct inet {
	uint16_t family, port;
	uint32_t address;
	char rest[8];
};

struct inet6 {
	uint16_t family, port;
	uint32_t flow;
	unsigned char address[16];
	uint32_t scope;
};

struct local {
	uint16_t family;
	char path[BUF];
};

static uint32_t swapped(uint32_t value)
{
	return __builtin_bswap32(value);
}

static long listening(unsigned long first)
{
	struct inet any = {.family = AF_INET, .port = __builtin_bswap16((uint16_t)(PORT + first % 100))};
	long fd = SYSCALL_3(__NR_socket, AF_INET, SOCK_STREAM, 0);

	if (SYSCALL_3(__NR_bind, fd, &any, sizeof(any)) || SYSCALL_2(__NR_listen, fd, 16))
		return -1;
	return fd;
}

/* One connection to the server itself, reset at its end: nothing is left waiting. */
static void connection(long server, unsigned long first, unsigned long n)
{
	const int linger[] = {1, 0};
	struct inet to = {.family = AF_INET,
			  .port = __builtin_bswap16((uint16_t)(PORT + first % 100)),
			  .address = swapped(0x7f000000U | (1 + n % 0xfffffdU))};
	struct inet own = {.family = AF_INET, .address = to.address}; /* a client of its own, on any port */
	struct inet from;
	uint32_t size = sizeof(from);
	long client = SYSCALL_3(__NR_socket, AF_INET, SOCK_STREAM, 0), served;

	SYSCALL_3(__NR_bind, client, &own, sizeof(own));
	SYSCALL_6(__NR_setsockopt, client, SOL_SOCKET, SO_LINGER, linger, sizeof(linger), 0);
	if (SYSCALL_3(__NR_connect, client, &to, sizeof(to)) == 0) {
		served = SYSCALL_3(__NR_accept, server, &from, &size);
		SYSCALL_1(__NR_close, client);
		SYSCALL_1(__NR_close, served);
	} else {
		SYSCALL_1(__NR_close, client);
	}
}

/* What a page needs behind the server: a database's socket, or a service that no way leads to. */
static void behind(unsigned long n)
{
	struct inet6 service = {
		.family = AF_INET6,
		.port = __builtin_bswap16(PORT),
		.address = {0x20, 0x01, 0x0d,
			    0xb8, [12] = (unsigned char)(n >> 24), [13] = (unsigned char)(n >> 16),
			    [14] = (unsigned char)(n >> 8), [15] = (unsigned char)n}};
	struct local database = {.family = AF_UNIX};
	struct text text = text_in(database.path, sizeof(database.path));
	bool remote = n % 2;
	long fd = SYSCALL_3(__NR_socket, remote ? AF_INET6 : AF_UNIX, SOCK_STREAM | O_NONBLOCK, 0);

	put(&text, named("/run/load/shard-", n, ".sock"));
	if (remote)
		SYSCALL_3(__NR_connect, fd, &service, sizeof(service));
	else
		SYSCALL_3(__NR_connect, fd, &database, 2 + length(database.path) + 1);
	SYSCALL_1(__NR_close, fd);
}

static void request(long server, unsigned long first, unsigned long n)
{
	const char *page = named(BASE "www/site-", n % MODULO, "");
	const char *session = named(BASE "www/sessions/.sess_", n * 2654435761UL, ".new");
	const char *kept = named(BASE "www/sessions/sess_", n * 2654435761UL, "");
	char *suexec[] = {"/usr/bin/load-suexec",
			  named("", n, ""),
			  "www-data",
			  named("site-", n % MODULO, ""),
			  named("/report-", n, ".cgi"),
			  named("QUERY_STRING=user=", n * 40503UL, "&lang=en"),
			  NULL};
	char path[BUF];
	struct text text = text_in(path, sizeof(path));

	connection(server, first, n);
	put(&text, page);
	put(&text, named("/private/page-", n, ".html"));
	look(path, O_RDONLY);
	create(session, 0666);
	SYSCALL_4(__NR_fchmodat, AT_FDCWD, session, 0600, 0);
	SYSCALL_2(__NR_rename, session, kept);
	SYSCALL_1(__NR_unlink, kept);
	behind(n);
	if (n % 4 == 0)
		start(suexec);
	if (n % 8 == 0)
		look(named("/var/log/audit/old/audit.log.", n / 8 % 64, ""), O_RDONLY);
}

/* -- containers: a set-uid program makes each, with namespaces, mounts and a command ---------------- */

static void container(unsigned long n)
{
	char *box[] = {"/usr/bin/load-box",
		       named("", n, ""),
		       "--id",
		       named("c0ffee00c0ffee00c0ffee00c0ffee00", 100000000000UL + n, "00000000"),
		       "--hostname",
		       named("box-", n, ""),
		       "--image",
		       named("registry.example/app-", n % MODULO, ":latest"),
		       NULL};

	start(box);
}

static void be_inside(unsigned long n)
{
	char *entry[] = {"/bin/entry", named("", n, ""), named("--serve=", n * 40503UL, ""), NULL};
	const char *name = named("box-", n, ".internal");

	SYSCALL_2(__NR_sethostname, name, length(name));
	SYSCALL_6(__NR_mount, "proc", BOX "/proc", "proc", 0, 0, 0);
	SYSCALL_2(__NR_pivot_root, BOX, BOX "/old");
	SYSCALL_1(__NR_chdir, "/");
	SYSCALL_2(__NR_umount2, "/old", MNT_DETACH);
	SYSCALL_3(__NR_execve, entry[0], entry, environment);
	exit_process(EXIT_CANNOT_RUN);
}

static int box(unsigned long n)
{
	const char *name = named("box-", n, "");
	const char *resolver = BOX "/resolv.conf";
	long pid, fd;

	SYSCALL_1(__NR_unshare, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC);
	SYSCALL_2(__NR_sethostname, name, length(name));
	SYSCALL_6(__NR_mount, "none", "/", 0, MS_REC | MS_PRIVATE, 0, 0);
	SYSCALL_6(__NR_mount, named("box-", n, ""), BOX, "tmpfs", 0, named("size=1", n % MODULO, "k"), 0);
	SYSCALL_2(__NR_mkdir, BOX "/bin", 0755);
	SYSCALL_2(__NR_mkdir, BOX "/proc", 0755);
	SYSCALL_2(__NR_mkdir, BOX "/old", 0755);
	create(resolver, 0600);
	SYSCALL_2(__NR_chmod, resolver, 0644);
	SYSCALL_3(__NR_chown, resolver, 0, 0);
	SYSCALL_6(__NR_mount, BASE "bin", BOX "/bin", 0, MS_BIND, 0, 0);
	pid = SYSCALL_6(__NR_clone, CLONE_NEWUTS | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0, 0);
	if (pid == 0)
		be_inside(n);
	fd = SYSCALL_4(__NR_openat, AT_FDCWD, named("/proc/", (unsigned long)pid, "/ns/uts"), O_RDONLY, 0);
	SYSCALL_2(__NR_setns, fd, CLONE_NEWUTS);
	return pid > 0 ? wait_for(pid) : 1;
}

static int entry(unsigned long n)
{
	char *helper[] = {"/bin/su-exec", named("", n, ""), "app", named("--worker=", n, ""), NULL};
	const char *state = named("/state-", n, ".new"), *kept = named("/state-", n, "");

	create(state, 0600);
	SYSCALL_2(__NR_chmod, state, 0640);
	SYSCALL_2(__NR_rename, state, kept);
	SYSCALL_1(__NR_unlink, kept);
	start(helper);
	return 0;
}

/* -- who we are ------------------------------------------------------------------------------------ */

static const char *base_of(const char *path)
{
	const char *base = path;

	for (; *path; path++)
		if (*path == '/')
			base = path + 1;
	return base;
}

static int loop(const char *what, unsigned long first)
{
	bool web = same(what, "web"), build = same(what, "build");
	long server = web ? listening(first) : 0;

	if (!web && !build && !same(what, "churn"))
		return usage("usage: hostload build|web|churn FIRST\n");
	if (server < 0)
		return failed("listen", server);
	for (unsigned long n = first;; n++) {
		if (web)
			request(server, first, n);
		else if (build)
			unit(n);
		else
			container(n);
	}
}

int main(int argc, char **argv, char **envp)
{
	static const struct {
		const char *name;
		int (*run)(unsigned long n);
	} parts[] = {{"cc", cc}, {"load-install", install}, {"load-box", box}, {"entry", entry}};
	const char *name = argc ? base_of(argv[0]) : "";
	unsigned long n;

	environment = envp;
	if (argc > 1 && parse_number(argv[1], &n)) {
		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
			if (same(name, parts[i].name))
				return parts[i].run(n);
		return 0; /* load-suexec, su-exec: that they were executed is all */
	}
	if (argc != 3 || !parse_number(argv[2], &n))
		return usage("usage: hostload build|web|churn FIRST\n");
	return loop(argv[1], n);
}
