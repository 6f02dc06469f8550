/* SPDX-License-Identifier: MIT */
/* common/log.c and log_crash.c: the line format, records on a full channel, cutting, and what a crashing process leaves
 * behind. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/strutil.h"

static const int64_t when = 1767323045123456789;	/* 2026-01-02T03:04:05.123456789Z */

static void
zone(const char *tz)
{
	assert_int_equal(setenv("TZ", tz, 1), 0);
	tzset();
}

static void
check_line(int level, const char *text, size_t len, const char *want)
{
	char out[512];
	size_t n = log_format(out, sizeof(out) - 1, when, level, text, len);

	out[n] = '\0';
	assert_string_equal(out, want);
}

static void
test_log_format_utc(void **state)
{
	(void)state;
	zone("UTC");
	check_line(LL_INFO, "hello world", 11, "time=\"2026-01-02T03:04:05.123456789Z\" level=info msg=\"hello world\"\n");
	check_line(LL_WARNING, "", 0, "time=\"2026-01-02T03:04:05.123456789Z\" level=warning msg=\"\"\n");
}

static void
test_log_format_zones(void **state)
{
	(void)state;
	zone("XXX-05:30");
	check_line(LL_DEBUG, "x", 1, "time=\"2026-01-02T08:34:05.123456789+05:30\" level=debug msg=\"x\"\n");
	zone("XXX+03");
	check_line(LL_ERROR, "x", 1, "time=\"2026-01-02T00:04:05.123456789-03:00\" level=error msg=\"x\"\n");
	zone("UTC");
}

static void
test_log_format_escapes(void **state)
{
	static const struct {
		const char *in, *out;
		size_t n;
	} v[] = {
		{ "a\"b\\c", "a\\\"b\\\\c", 5 },
		{ "a\nb\tc\rd", "a\\nb\\tc\\rd", 7 },
		{ "\x1b[31m\x7f", "\\x1b[31m\\x7f", 6 },
		{ "\0z", "\\x00z", 2 },
		{ "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x9a\x80", "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x9a\x80", 9 },
		{ "\xff\xc3(\xed\xa0\x80", "\\xff\\xc3(\\xed\\xa0\\x80", 6 },
		{ "\xe4\xb8", "\\xe4\\xb8", 2 },
		{ "\xc2\x9b" "1m", "\\u009b1m", 4 },
		{ "\xe2\x80\xae", "\\u202e", 3 },
	};

	(void)state;
	zone("UTC");
	for (size_t i = 0; i < countof(v); i++) {
		char want[256] = "time=\"2026-01-02T03:04:05.123456789Z\" level=info msg=\"";

		strncat(want, v[i].out, 100);
		strncat(want, "\"\n", 3);
		check_line(LL_INFO, v[i].in, v[i].n, want);
	}
}

/* Whatever the cap: never past it, and what comes out ends as a line. */
static void
test_log_format_caps(void **state)
{
	char text[40];

	(void)state;
	memset(text, '\x01', sizeof(text));
	for (size_t cap = 0; cap < 256; cap++) {
		char *out = malloc(cap + 1);
		size_t n;

		assert_non_null(out);
		out[cap] = 'S';
		n = log_format(out, cap, when, LL_INFO, text, sizeof(text));
		assert_true(n <= cap);
		assert_int_equal(out[cap], 'S');
		if (n > 0)
			assert_memory_equal(out + n - 2, "\"\n", 2);
		free(out);
	}
}

static void
test_log_format_before_1970(void **state)
{
	char out[200];
	size_t n = log_format(out, sizeof(out), -1, LL_INFO, "x", 1);

	(void)state;
	assert_true(n > 40);
	assert_memory_equal(out, "time=\"1969-12-31T23:59:59.999999999Z\"", 37);
}

static void
test_log_levels(void **state)
{
	(void)state;
	assert_int_equal(log_level_parse("WARNING"), LL_WARNING);
	assert_int_equal(log_level_parse("silent"), LL_SILENT);
	assert_int_equal(log_level_parse("warn"), -1);
	assert_int_equal(log_level_parse(""), -1);
	assert_int_equal(log_level_parse(NULL), -1);
	assert_string_equal(log_level_name(LL_WARNING), "warning");
	assert_string_equal(log_level_name(77), "unknown");
	log_set_level(77);
	assert_int_equal(log_level_min, LL_INFO);
}

/* Reads one record; its text (with a NUL) goes to text. false when there is none. */
static bool
read_record(int fd, struct log_record *rec, char text[static LOG_TEXT_MAX + 1])
{
	char buf[sizeof(*rec) + LOG_TEXT_MAX + 1];
	ssize_t r = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (r <= 0)
		return false;
	assert_true((size_t)r >= sizeof(*rec));
	memcpy(rec, buf, sizeof(*rec));
	assert_int_equal(rec->len, (size_t)r - sizeof(*rec));
	memcpy(text, buf + sizeof(*rec), rec->len);
	text[rec->len] = '\0';
	return true;
}

static void
test_log_write_record(void **state)
{
	struct log_record rec;
	char text[LOG_TEXT_MAX + 1];
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	log_init(fd[0]);
	errno = EXDEV;
	log_warn("n=%d\n", 5);
	assert_int_equal(errno, EXDEV);
	log_debug("below the level");
	assert_true(read_record(fd[1], &rec, text));
	assert_int_equal(rec.level, LL_WARNING);
	assert_int_equal(rec.dropped, 0);
	assert_string_equal(text, "n=5");
	assert_false(read_record(fd[1], &rec, text));
	log_init(-1);
	close(fd[0]);
	close(fd[1]);
}

static void
test_log_write_cut(void **state)
{
	static char long_text[LOG_TEXT_MAX + 100];
	struct log_record rec;
	char text[LOG_TEXT_MAX + 1];
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	log_init(fd[0]);
	memset(long_text, 'a', LOG_TEXT_MAX);
	log_info("%s", long_text);
	assert_true(read_record(fd[1], &rec, text));
	assert_string_equal(text, long_text);		/* exactly the limit is not cut */
	for (size_t i = 0; i + 1 < sizeof(long_text); i += 2)
		memcpy(long_text + i, "\xc3\xa9", 2);
	long_text[sizeof(long_text) - 1] = '\0';
	log_info("x%s", long_text);
	log_info("%s", long_text);
	for (int i = 0; i < 2; i++) {
		assert_true(read_record(fd[1], &rec, text));
		assert_true(rec.len <= LOG_TEXT_MAX && rec.len >= LOG_TEXT_MAX - 1);
		assert_true(str_ends(text, "..."));
		assert_true(utf8_valid(text, rec.len));
	}
	log_init(-1);
	close(fd[0]);
	close(fd[1]);
}

static void
test_log_write_full_channel(void **state)
{
	struct log_record rec;
	char text[LOG_TEXT_MAX + 1];
	unsigned got = 0, lost = 0;
	int fd[2], size = 4096;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	log_init(fd[0]);
	for (int i = 0; i < 500; i++)
		log_info("record %d", i);		/* nobody reads: must not block */
	while (read_record(fd[1], &rec, text)) {
		got++;
		lost += rec.dropped;
	}
	assert_true(got > 0 && got < 500);
	assert_int_equal(lost, 0);
	log_info("after");
	assert_true(read_record(fd[1], &rec, text));
	assert_string_equal(text, "after");
	assert_int_equal(rec.dropped, 500 - got);
	log_info("and on");
	assert_true(read_record(fd[1], &rec, text));
	assert_int_equal(rec.dropped, 0);
	close(fd[1]);
	log_info("to nobody");				/* no SIGPIPE */
	log_init(-1);
	close(fd[0]);
}

static void
test_fatal_ignores_level(void **state)
{
	struct log_record rec;
	char text[LOG_TEXT_MAX + 1];
	int fd[2], status = 0;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	pid = fork();
	if (pid == 0) {
		log_init(fd[0]);
		log_set_level(LL_SILENT);
		fatal("cannot go on: %d", 7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_true(read_record(fd[1], &rec, text));
	assert_int_equal(rec.level, LL_ERROR);
	assert_string_equal(text, "cannot go on: 7");
	close(fd[0]);
	close(fd[1]);
}

static void
check_crash(int sig, void (*crash)(void), const char *want)
{
	struct rlimit none = { 0, 0 };
	struct log_record rec = { 0 };
	char text[LOG_TEXT_MAX + 1] = "";
	int fd[2], status = 0;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	pid = fork();
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &none);
		log_init(fd[0]);
		log_install_crash_handler("tester");
		crash();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), sig);
	assert_true(read_record(fd[1], &rec, text));
	assert_int_equal(rec.level, LL_ERROR);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, "backtrace:"));
	assert_non_null(strstr(text, " self+0x"));
	assert_false(read_record(fd[1], &rec, text));	/* once only */
	close(fd[0]);
	close(fd[1]);
}

static void
crash_by_abort(void)
{
	abort();
}

static void
crash_by_kill(void)
{
	(void)kill(getpid(), SIGSEGV);
}

static volatile unsigned deep;

/* Runs out of stack: only a stack of its own lets the handler speak. */
static unsigned __attribute__((noinline))
recurse(unsigned n)
{
	volatile char room[16384];

	room[0] = (char)n;
	room[sizeof(room) - 1] = (char)n;
	if (deep != 0)
		return n;
	return recurse(n + 1) + (unsigned char)room[0];
}

static void
crash_by_stack(void)
{
	_exit((int)recurse(1));
}

static void
test_crash_handler_reports(void **state)
{
	(void)state;
	check_crash(SIGABRT, crash_by_abort, "tester crashed: SIGABRT, pid ");
	check_crash(SIGSEGV, crash_by_kill, "tester crashed: SIGSEGV, pid ");
	check_crash(SIGSEGV, crash_by_stack, "tester crashed: SIGSEGV at 0x");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_format_utc),
		cmocka_unit_test(test_log_format_zones),
		cmocka_unit_test(test_log_format_escapes),
		cmocka_unit_test(test_log_format_caps),
		cmocka_unit_test(test_log_format_before_1970),
		cmocka_unit_test(test_log_levels),
		cmocka_unit_test(test_log_write_record),
		cmocka_unit_test(test_log_write_cut),
		cmocka_unit_test(test_log_write_full_channel),
		cmocka_unit_test(test_fatal_ignores_level),
		cmocka_unit_test(test_crash_handler_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
