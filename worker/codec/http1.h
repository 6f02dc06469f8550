/* SPDX-License-Identifier: MIT */
/* HTTP/1 heads and body framing, RFC 9112, for whoever reads HTTP/1: inbound/http.c and http_gateway.c, outbound/http.c, the
 * delay test. Pure: no I/O, no allocation; everything a head refers to lies in the caller's bytes.
 *
 *   size_t seen = 0;                                     // per head; the caller keeps the bytes until the head is complete
 *   int len = http1_head_length(p, n, &seen);            // > 0 complete, -E_AGAIN read more, -E_LIMIT over HTTP1_HEAD_MAX
 *   struct http1_head h; rc = http1_parse_request(p, (size_t)len, &h);       // or http1_parse_response()
 *   struct http1_body b; http1_body_init(&b, &h); ... http1_body_pass(&b, q, m) bytes of q belong to the body; b.done
 *
 * Strict where two readers could disagree about where a message ends: several Content-Length, Content-Length with
 * Transfer-Encoding, any coding but one "chunked", white space around names, obs-fold, NUL, bare CR, and (requests) bare LF
 * and control bytes are refused. */
#ifndef SLUICE_WORKER_CODEC_HTTP1_H
#define SLUICE_WORKER_CODEC_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { HTTP1_HEAD_MAX = 32768, HTTP1_HEADERS_MAX = 128,	/* over either: -E_LIMIT */
       HTTP1_CHUNK_LINE_MAX = 4096, HTTP1_TRAILER_MAX = 32768 };	/* over either: -E_PROTO */
enum http1_framing { HTTP1_EMPTY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_CLOSE };
enum http1_to { HTTP1_TO_OTHER, HTTP1_TO_HEAD, HTTP1_TO_CONNECT };	/* what a response answers: RFC 9112 6.3 */

struct http1_text {			/* lent, not terminated */
	const char *p;
	size_t n;
};
struct http1_header {
	struct http1_text name, value;	/* value without white space around it */
};
struct http1_head {
	struct http1_text method, target;	/* requests */
	uint16_t status;			/* responses: 100..999 */
	struct http1_text reason;
	uint8_t minor;				/* HTTP/1.minor, 0 or 1 (a higher one is read as 1) */
	bool keep_alive;			/* by version and Connection, RFC 9112 9.3; of responses also by framing */
	bool upgrade;				/* Connection: upgrade and an Upgrade field, HTTP/1.1 */
	enum http1_framing framing;
	uint64_t length;			/* HTTP1_LENGTH */
	int n;
	struct http1_header h[HTTP1_HEADERS_MAX];
};

/* Where the head that begins at p ends, blank line included. *seen is 0 for a new head and remembers what was searched. Blank
 * lines in front are the caller's to skip (RFC 9112 2.2). */
int http1_head_length(const uint8_t *p, size_t n, size_t *seen);
/* p, n: one whole head. 0; -E_PROTO; -E_LIMIT too many fields; -E_UNSUP a version other than 1.x or an unknown transfer
 * coding. */
int http1_parse_request(const uint8_t *p, size_t n, struct http1_head *out);
int http1_parse_response(const uint8_t *p, size_t n, enum http1_to to, struct http1_head *out);

bool http1_text_is(struct http1_text t, const char *s);				/* ASCII case does not count */
const struct http1_text *http1_find(const struct http1_head *h, const char *name);	/* the first one's value, or NULL */
int http1_count(const struct http1_head *h, const char *name);
/* A comma list in all fields of that name has this token. */
bool http1_has_token(const struct http1_head *h, const char *name, struct http1_text token);
/* h->h[i] is for this connection only (RFC 9110 7.6.1) and is not passed on: Connection and what it names, Keep-Alive,
 * Proxy-*, TE, Upgrade. Framing fields and Host are never that, whatever Connection names. */
bool http1_is_hop(const struct http1_head *h, int i);

struct http1_uri {			/* http://authority/path?query, RFC 9112 3.2.2 */
	struct http1_text authority;	/* without user information: for Host */
	struct http1_text host;		/* no brackets */
	struct http1_text path;		/* with query, without fragment; empty or beginning with '/' or '?' */
	uint16_t port;			/* 80 when not written */
};
int http1_parse_uri(struct http1_text target, struct http1_uri *out);		/* -E_PROTO: not this form; -E_UNSUP: another scheme */
/* The host:port of CONNECT; the port must be there (RFC 9112 3.2.3). */
int http1_parse_authority(struct http1_text target, struct http1_text *host, uint16_t *port);

struct http1_body {			/* where a body ends; walks along the bytes */
	enum http1_framing framing;
	uint8_t state;
	bool done;
	uint64_t left;			/* of the length, or of this chunk */
	uint32_t line;			/* bytes of this chunk line, of all trailers */
};
void http1_body_set(struct http1_body *b, enum http1_framing framing, uint64_t length);
void http1_body_init(struct http1_body *b, const struct http1_head *h);
/* Takes one run of bytes that are all content or all framing; its length (0: done, or n is 0), *content says which. -E_PROTO
 * for bad chunks. */
ssize_t http1_body_step(struct http1_body *b, const uint8_t *p, size_t n, bool *content);
/* How many of the n bytes belong to the body, framing included: less than n only when it ends there. -E_PROTO. */
ssize_t http1_body_pass(struct http1_body *b, const uint8_t *p, size_t n);

#endif
