/* SPDX-License-Identifier: MIT */
/* Logging of every program. In children a record is one datagram on the non-blocking log channel (fd 4) to the supervisor,
 * which alone writes it out; a full channel drops the record and counts it, so a stalled reader never blocks. The level is
 * checked at the source: log_enabled() is one compare. The five level names are the reference's (spec/api.md 2.2). */
#ifndef SLUICE_COMMON_LOG_H
#define SLUICE_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LL_DEBUG, LL_INFO, LL_WARNING, LL_ERROR, LL_SILENT };

enum { LOG_TEXT_MAX = 2000 };		/* longer records are cut, with "..." */

struct log_record {			/* on the log channel, followed by len bytes of UTF-8 text without line end */
	uint8_t level;
	uint8_t pad[3];
	uint32_t dropped;		/* records this process lost before this one */
	uint32_t len;
};

extern int log_level_min;		/* records below are not even formatted */

/* fd is the log channel, or -1 to write the reference's line format to standard error. */
void log_init(int fd);
void log_set_level(int level);
/* The supervisor's own records: handed to fn instead of a channel. */
void log_set_sink(void (*fn)(int level, const char *text, size_t len));
static inline bool
log_enabled(int level)
{
	return level >= log_level_min;
}

void log_write(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_debug(...) do { if (log_enabled(LL_DEBUG)) log_write(LL_DEBUG, __VA_ARGS__); } while (0)
#define log_info(...) do { if (log_enabled(LL_INFO)) log_write(LL_INFO, __VA_ARGS__); } while (0)
#define log_warn(...) do { if (log_enabled(LL_WARNING)) log_write(LL_WARNING, __VA_ARGS__); } while (0)
#define log_error(...) do { if (log_enabled(LL_ERROR)) log_write(LL_ERROR, __VA_ARGS__); } while (0)

/* Name of a level ("debug" ...), or the level of a name (any case); -1 if there is none. */
const char *log_level_name(int level);
int log_level_parse(const char *name);

/* Formats one line as the reference does, time="2026-01-02T03:04:05.123456789Z" level=info msg="...", control bytes escaped,
 * with a line feed. Returns its length, at most cap. */
size_t log_format(char *out, size_t cap, int64_t unix_ns, int level, const char *text, size_t len);

/* For broken own invariants, and before READY for what cannot go on; never for bytes of a peer. */
void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Installs the handler of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT: a preloaded backtrace goes to the log channel, then the
 * default action. */
void log_install_crash_handler(const char *role);

#endif
