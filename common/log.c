/* SPDX-License-Identifier: MIT */
/* Log records: formatting, sending over the log channel, the line format of the reference, fatal() and the crash report. The
 * log sink (fd, count of lost records) is the one global state that conventions allow. A record is one datagram, struct
 * log_record + text; it is sent without waiting, and a record that cannot go is counted and reported with the next one that
 * can. Callable from any thread. */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/log_sink.h"
#include "common/strutil.h"

enum {
	LINE_HEAD_MAX = 96,		/* time="..." level=... msg=" */
	LINE_TAIL = 2,			/* the closing quote and the line feed */
	ESCAPE_MAX = 6			/* \u200b */
};

int log_level_min = LL_INFO;

static int sink = -1;			/* the log channel; -1 = lines on standard error */
static _Atomic uint32_t lost;
static void (*own_sink)(int level, const char *text, size_t len);	/* the supervisor's, instead of both */

static const char *const level_names[] = { "debug", "info", "warning", "error", "silent" };

void
log_init(int fd)
{
	sink = fd;
	tzset();			/* later there may be no path access */
}

void
log_set_sink(void (*fn)(int level, const char *text, size_t len))
{
	own_sink = fn;
}

void
log_set_level(int level)
{
	if (level >= LL_DEBUG && level <= LL_SILENT)
		log_level_min = level;
}

const char *
log_level_name(int level)
{
	return level >= LL_DEBUG && level <= LL_SILENT ? level_names[level] : "unknown";
}

int
log_level_parse(const char *name)
{
	for (size_t i = 0; name != NULL && i < countof(level_names); i++) {
		if (str_case_equal(name, level_names[i]))
			return (int)i;
	}
	return -1;
}

/* ---- the line format */

/* What a terminal would obey or not show: C1 controls, soft hyphen, zero width and direction marks, line separators, BOM. */
static bool
rune_is_hidden(uint32_t r)
{
	return (r >= 0x80 && r <= 0xa0) || r == 0xad || (r >= 0x200b && r <= 0x200f) || (r >= 0x2028 && r <= 0x202f) ||
	    (r >= 0x2060 && r <= 0x206f) || r == 0xfeff;
}

/* Puts the escaped form of the character at s to out, as Go's %q; *used is how much of s it was. */
static size_t
escape(char out[static ESCAPE_MAX + 1], const char *s, size_t n, size_t *used)
{
	static const char hex[] = "0123456789abcdef", plain[] = "\"\\\a\b\f\n\r\t\v", letter[] = "\"\\abfnrtv";
	size_t len = utf8_length(s, n);
	uint8_t c = (uint8_t)s[0];
	const char *at = c == '\0' ? NULL : strchr(plain, s[0]);
	uint32_t rune;

	*used = len == 0 ? 1 : len;
	if (at != NULL) {
		out[0] = '\\';
		out[1] = letter[at - plain];
		return 2;
	}
	if (len == 0 || c < 0x20 || c == 0x7f) {
		memcpy(out, "\\x", 2);
		out[2] = hex[c >> 4];
		out[3] = hex[c & 15];
		return 4;
	}
	rune = len == 2 ? (c & 0x1fU) << 6 | ((uint8_t)s[1] & 0x3fU) : 0;
	if (len == 3)
		rune = (c & 0x0fU) << 12 | ((uint8_t)s[1] & 0x3fU) << 6 | ((uint8_t)s[2] & 0x3fU);
	if (rune_is_hidden(rune)) {
		memcpy(out, "\\u", 2);
		for (unsigned i = 0; i < 4; i++)
			out[2 + i] = hex[rune >> (12 - 4 * i) & 15];
		return 6;
	}
	memcpy(out, s, len);
	return len;
}

/* time="..." level=... msg=" ; 0 when it does not fit */
static size_t
format_head(char *out, size_t cap, int64_t unix_ns, int level)
{
	time_t sec = (time_t)(unix_ns / 1000000000);
	long ns = (long)(unix_ns % 1000000000), off;
	struct tm tm;
	char zone[16] = "Z";
	int n;

	if (ns < 0) {
		ns += 1000000000;
		sec--;
	}
	memset(&tm, 0, sizeof(tm));
	(void)localtime_r(&sec, &tm);
	off = tm.tm_gmtoff / 60;
	if (off != 0) {
		long m = off < 0 ? -off : off;

		(void)snprintf(zone, sizeof(zone), "%c%02ld:%02ld", off < 0 ? '-' : '+', m / 60 % 100, m % 60);
	}
	n = snprintf(out, cap, "time=\"%04d-%02d-%02dT%02d:%02d:%02d.%09ld%s\" level=%s msg=\"", tm.tm_year + 1900, tm.tm_mon + 1,
	    tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ns, zone, log_level_name(level));
	return n < 0 || (size_t)n >= cap ? 0 : (size_t)n;
}

size_t
log_format(char *out, size_t cap, int64_t unix_ns, int level, const char *text, size_t len)
{
	size_t n = format_head(out, cap, unix_ns, level);

	if (n == 0 || cap - n < LINE_TAIL)
		return 0;
	while (len > 0) {
		char e[ESCAPE_MAX + 1];
		size_t used, k = escape(e, text, len, &used);

		if (k > cap - n - LINE_TAIL)
			break;
		memcpy(out + n, e, k);
		n += k;
		text += used;
		len -= used;
	}
	memcpy(out + n, "\"\n", LINE_TAIL);
	return n + LINE_TAIL;
}

/* ---- sending */

static bool
send_line(int level, const char *text, size_t len)
{
	char line[LINE_HEAD_MAX + LOG_TEXT_MAX * 2 + LINE_TAIL];
	struct timespec ts = { 0 };
	size_t n;
	ssize_t r;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	n = log_format(line, sizeof(line), (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec, level, text, len);
	do
		r = write(STDERR_FILENO, line, n);
	while (r == -1 && errno == EINTR);
	return r != -1;
}

bool
log_sink_send(int level, const char *text, size_t len)
{
	struct log_record rec = { .level = (uint8_t)level, .len = (uint32_t)len };
	struct iovec iov[2] = { { &rec, sizeof(rec) }, { (void *)(uintptr_t)text, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t r;

	rec.dropped = atomic_exchange(&lost, 0);
	do
		r = sendmsg(sink, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r == -1 && errno == EINTR);
	if (r == -1)
		atomic_fetch_add(&lost, rec.dropped + 1);
	return r != -1;
}

int
log_sink_fd(void)
{
	return sink;
}

/* Formats to buf (LOG_TEXT_MAX + 1 bytes): at most LOG_TEXT_MAX bytes, cut between characters, no line end. The length. */
static size_t __attribute__((format(printf, 2, 0)))
format_text(char *buf, const char *fmt, va_list ap)
{
	int r = vsnprintf(buf, LOG_TEXT_MAX + 1, fmt, ap);
	size_t n;

	if (r < 0)
		return str_copy(buf, LOG_TEXT_MAX + 1, "(a record that could not be formatted)");
	n = (size_t)r;
	if (n > LOG_TEXT_MAX) {
		n = LOG_TEXT_MAX - 3;
		while (n > 0 && ((uint8_t)buf[n] & 0xc0) == 0x80)
			n--;
		memcpy(buf + n, "...", 3);
		n += 3;
	}
	while (n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == '\r'))
		n--;
	return n;
}

void
log_write(int level, const char *fmt, ...)
{
	char buf[LOG_TEXT_MAX + 1];
	int saved = errno;
	va_list ap;
	size_t n;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	n = format_text(buf, fmt, ap);
	va_end(ap);
	if (own_sink != NULL)
		own_sink(level, buf, n);
	else if (sink == -1)
		(void)send_line(level, buf, n);
	else
		(void)log_sink_send(level, buf, n);
	errno = saved;
}

void
fatal(const char *fmt, ...)
{
	char buf[LOG_TEXT_MAX + 1];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = format_text(buf, fmt, ap);
	va_end(ap);
	/* whatever the level is; a full channel must not swallow the reason */
	if (sink == -1 || !log_sink_send(LL_ERROR, buf, n))
		(void)send_line(LL_ERROR, buf, n);
	_exit(1);
}
