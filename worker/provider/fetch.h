/* SPDX-License-Identifier: MIT */
/* Downloads: one HTTP/1.1 GET through an outbound, the body in a sealed memfd that nobody here looks into. For
 * providers, geodata, dashboards.
 *
 *   struct fetch_opts o = { .via = NULL, .etag = kept };
 *   struct fetch *f = fetch_start(g, "https://host/list.yaml", &o, on_done, me);	// NULL: bad URL, no memory
 *   on_done(me, &result): once, later, never from inside fetch_start(); f is gone then; fetch_cancel(f) before that: no call */
#ifndef SLUICE_WORKER_PROVIDER_FETCH_H
#define SLUICE_WORKER_PROVIDER_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/gen.h"

struct outbound;
struct fetch;

enum {
	FETCH_SIZE_MAX = 64 << 20,	/* bytes of a body: more is E_LIMIT */
	FETCH_TIMEOUT_MS = 20000,	/* spec/config.md 9 "Fetch"; of the whole, redirects included */
	FETCH_REDIRECTS_MAX = 10,
	FETCH_HEADERS_MAX = 32,		/* own header fields; more are left out */
	FETCH_URL_MAX = 4096,
	FETCH_REQUEST_MAX = 16384
};

struct fetch_opts {			/* lent; copied */
	struct outbound *via;		/* NULL: DIRECT */
	const char *user_agent;		/* NULL: general's global-ua */
	const char *const *headers;	/* name, value, name, value, ..., NULL; or NULL. A User-Agent here replaces the other */
	const char *etag, *modified;	/* sent as If-None-Match, If-Modified-Since; NULL or "" = not */
	/* spec/config.md 9 size-limit: 0 = none but FETCH_SIZE_MAX. The reference cuts the body there and takes what can be
	 * parsed; a list without its end is no list, so here it is E_LIMIT */
	size_t size_limit;
	unsigned timeout_ms;		/* 0 = FETCH_TIMEOUT_MS */
};

struct fetch_result {			/* lent but for fd */
	int err;			/* 0: a 2xx or 304 answer came whole; else E_*, positive */
	const char *text;		/* why not, "" */
	unsigned status;		/* of the last answer, 0 = none */
	int fd;				/* the body, a sealed memfd that the callback takes; -1: err is not 0, or status is 304 */
	size_t size;
	const char *etag, *modified, *userinfo;	/* ETag, Last-Modified and Subscription-Userinfo of the answer, "" */
};
typedef void fetch_cb(void *arg, const struct fetch_result *r);

struct fetch *fetch_start(struct gen *g, const char *url, const struct fetch_opts *opts, fetch_cb *cb, void *arg);
void fetch_cancel(struct fetch *f);	/* NULL is fine */
bool fetch_url_valid(const char *url);	/* http:// or https://, with a host */

#endif
