/* SPDX-License-Identifier: MIT */
/* civetweb as the pool of threads that runs short calls: started without a listener, fed socketpairs (libraries.md 1 has why
 * and the traps).
 *
 * One call = one HTTP request over a pooled, kept-alive pair. The front has read and framed the client's request already; what
 * goes over the pair is a normalised request that names its place in the pool, and the handler takes method, path, parameters
 * and body from the call standing there. The answer comes back as HTTP; a body over FEED_INLINE_MAX is lent in memory instead,
 * so that megabytes are not copied and no thread ever waits for a slow client. */
#ifndef SLUICE_CONTROLLER_FEED_H
#define SLUICE_CONTROLLER_FEED_H

#include <stdbool.h>
#include <stddef.h>

struct call;
struct ctl;
struct feed;

enum {
	FEED_THREADS = 12,		/* = pairs; one call each at a time */
	FEED_WAITING_MAX = 1024,	/* calls that wait for a pair; more are answered 503 */
	FEED_INLINE_MAX = 64 << 10
};

/* Starts civetweb, then proves that a fed connection is answered with 200. NULL with the reason in the log: the caller gives
 * up. done (loop) ends each call: status, complete header lines, and the body, malloc'ed, taken. */
typedef void feed_done_cb(struct call *call, int status, const char *type, const char *headers, char *body, size_t len);
struct feed *feed_start(struct ctl *ctl, feed_done_cb *done);
/* Every question of the threads must have been ended before (bridge_shut()). */
void feed_stop(struct feed *f);
int feed_submit(struct feed *f, struct call *call);	/* takes it; 0 or -E_LIMIT (not taken) */
bool feed_has(const struct feed *f, const struct call *call);	/* waiting or running */

#endif
