// SPDX-License-Identifier: Apache-2.0
// What libauparse makes of a log file: one line per event, record and field, for test_text_*.py to compare.
//
//   E SEC.MS:SERIAL
//   R NUMBER
//   F NAME RAW INTERPRETED     the values in hex, "-" where the library has none
//
// A file is read as ausearch and aureport do it (`file`), or fed in pieces as a plugin of auditd does (`feed`).
// The declarations are those of auparse's documentation; nothing else of its headers is needed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct opaque auparse_state_t;
typedef struct {
	long sec;
	unsigned int milli;
	unsigned long serial;
	const char *host;
} au_event_t;

static const char DIGITS[] = "0123456789ABCDEF";

enum { SOURCE_FILE = 1, SOURCE_FEED = 7, EVENT_READY = 0, PIECE = 4096 };

extern auparse_state_t *auparse_init(int source, const void *what);
extern void auparse_destroy(auparse_state_t *au);
extern int auparse_feed(auparse_state_t *au, const char *data, size_t length);
extern int auparse_flush_feed(auparse_state_t *au);
extern void auparse_add_callback(auparse_state_t *au, void (*call)(auparse_state_t *, int, void *), void *data,
				 void (*destroy)(void *));
extern int auparse_next_event(auparse_state_t *au);
extern const au_event_t *auparse_get_timestamp(auparse_state_t *au);
extern int auparse_first_record(auparse_state_t *au);
extern int auparse_next_record(auparse_state_t *au);
extern int auparse_get_type(auparse_state_t *au);
extern int auparse_first_field(auparse_state_t *au);
extern int auparse_next_field(auparse_state_t *au);
extern const char *auparse_get_field_name(auparse_state_t *au);
extern const char *auparse_get_field_str(auparse_state_t *au);
extern const char *auparse_interpret_field(auparse_state_t *au);

static void put_hex(const char *text)
{
	if (text == NULL || *text == '\0') {
		fputs(" -", stdout);
		return;
	}
	putchar(' ');
	for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
		putchar_unlocked(DIGITS[*at >> 4]);
		putchar_unlocked(DIGITS[*at & 15]);
	}
}

static void put_event(auparse_state_t *au, int kind, void *unused)
{
	const au_event_t *stamp = auparse_get_timestamp(au);

	(void)unused;
	if (kind != EVENT_READY || stamp == NULL)
		return;
	printf("E %ld.%03u:%lu\n", stamp->sec, stamp->milli, stamp->serial);
	for (int more = auparse_first_record(au); more > 0; more = auparse_next_record(au)) {
		printf("R %d\n", auparse_get_type(au));
		for (int field = auparse_first_field(au); field > 0; field = auparse_next_field(au)) {
			const char *name = auparse_get_field_name(au);

			printf("F %s", name == NULL || *name == '\0' ? "-" : name);
			put_hex(auparse_get_field_str(au));
			put_hex(auparse_interpret_field(au));
			putchar('\n');
		}
	}
}

static int feed(const char *path)
{
	auparse_state_t *au = auparse_init(SOURCE_FEED, NULL);
	FILE *file = fopen(path, "r");
	static char piece[PIECE];
	size_t length;

	if (au == NULL || file == NULL)
		return 1;
	auparse_add_callback(au, put_event, NULL, NULL);
	while ((length = fread(piece, 1, sizeof(piece), file)) > 0)
		auparse_feed(au, piece, length);
	auparse_flush_feed(au);
	fclose(file);
	auparse_destroy(au);
	return 0;
}

static int read_file(const char *path)
{
	auparse_state_t *au = auparse_init(SOURCE_FILE, path);

	if (au == NULL)
		return 1;
	while (auparse_next_event(au) > 0)
		put_event(au, EVENT_READY, NULL);
	auparse_destroy(au);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fputs("usage: auparse_dump file|feed PATH\n", stderr);
		return 2;
	}
	return strcmp(argv[1], "feed") == 0 ? feed(argv[2]) : read_file(argv[2]);
}
