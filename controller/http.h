/* SPDX-License-Identifier: MIT */
/* HTTP/1.1 request framing (RFC 9112), without I/O: client.c feeds it bytes. Strict where leniency lets two readers disagree
 * about where a request ends: one Content-Length at most, never beside Transfer-Encoding, "chunked" as the only coding, CRLF
 * line ends, no folded lines. */
#ifndef SLUICE_CONTROLLER_HTTP_H
#define SLUICE_CONTROLLER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	HTTP_HEAD_MAX = 32 << 10,	/* request line and fields; larger: 431 */
	HTTP_HEADERS_MAX = 100,		/* field lines; more: 431 */
	HTTP_CHUNK_EXT_MAX = 256,	/* a chunk's extension; longer: 400 */
	HTTP_TRAILER_MAX = 8 << 10
};

struct http_header {
	const char *name, *value;
};

struct http_req {			/* every text lies in the head given to http_parse(), which must stay */
	const char *method, *path, *query;	/* raw; query "" when absent */
	const char *host;		/* "" when absent (HTTP/1.0) */
	unsigned minor;			/* HTTP/1.minor */
	bool close;			/* the connection ends after the answer */
	bool chunked, expect;		/* expect: 100-continue is waited for */
	int64_t length;			/* Content-Length, -1 = none */
	unsigned n;
	struct http_header h[HTTP_HEADERS_MAX];
};

/* Bytes of the head with its blank line, 0 when it is not whole yet, -E_PROTO for a bare line feed, -E_LIMIT over
 * HTTP_HEAD_MAX. *scan is where to go on at the next call; 0 at first. */
ssize_t http_head_length(const char *in, size_t n, size_t *scan);
/* Takes the head apart in place; 0 or the HTTP status to refuse it with. */
int http_parse(struct http_req *r, char *head, size_t n);
const char *http_get(const struct http_req *r, const char *name);	/* first one's value or NULL */
bool http_token(const char *list, const char *token);	/* comma-separated list (may be NULL) holds token, without case */
const char *http_reason(int status);

struct http_body {
	int state;
	uint64_t left;			/* of the length or the chunk */
	unsigned digits, line;
};
void http_body_init(struct http_body *b, const struct http_req *r);
/* One step: consumes *used bytes of in and lends at most one piece of decoded data inside in. 1 = the body is whole, 0 = go on
 * (call again while bytes are left), -E_PROTO. */
int http_body_feed(struct http_body *b, const char *in, size_t n, size_t *used, const char **data, size_t *len);

#endif
