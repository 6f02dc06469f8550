/* SPDX-License-Identifier: MIT */
/* HTTP/1 heads and bodies. The first byte chooses: request, response, or a body's framing; a body must end at the same place
 * whether its bytes come at once or one by one. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "worker/codec/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
use_head(const struct http1_head *h, bool request)
{
	struct http1_text host;
	struct http1_uri u;
	uint16_t port;
	int i, hops = 0;

	if (h->n > HTTP1_HEADERS_MAX)
		abort();
	for (i = 0; i < h->n; i++) {
		hops += http1_is_hop(h, i);
		if (memchr(h->h[i].value.p, '\n', h->h[i].value.n) != NULL || h->h[i].name.n == 0)
			abort();
	}
	if (request && http1_parse_uri(h->target, &u) == 0 && u.host.n == 0)
		abort();
	if (request)
		(void)http1_parse_authority(h->target, &host, &port);
	(void)hops;
}

static void
one_by_one(enum http1_framing framing, uint64_t length, const uint8_t *p, size_t n)
{
	struct http1_body a, b;
	ssize_t whole, k = 0;
	size_t i;

	http1_body_set(&a, framing, length);
	http1_body_set(&b, framing, length);
	whole = http1_body_pass(&a, p, n);
	for (i = 0; i < n && !b.done && k >= 0; i++)
		k = http1_body_pass(&b, p + i, 1);
	if ((whole < 0) != (k < 0) || (whole >= 0 && (a.done != b.done || (size_t)whole != i)))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http1_head h;
	struct http1_body b;
	size_t seen = 0, n = size > 0 ? size - 1 : 0;
	uint8_t *p = malloc(n + 1);
	int len, rc;

	if (p == NULL || size == 0) {
		free(p);
		return 0;
	}
	memcpy(p, data + 1, n);
	if (data[0] % 4 == 3) {
		one_by_one(HTTP1_CHUNKED, 0, p, n);
		one_by_one(HTTP1_LENGTH, n / 2 + 1, p, n);
	} else {
		len = http1_head_length(p, n, &seen);
		if (len > (int)n || len == 0)
			abort();
		/* A whole head, or whatever it is: the parser must not trust its caller. */
		rc = data[0] % 4 == 0 ? http1_parse_request(p, len > 0 ? (size_t)len : n, &h) :
		    http1_parse_response(p, len > 0 ? (size_t)len : n, data[0] % 4 == 1 ? HTTP1_TO_OTHER : HTTP1_TO_HEAD, &h);
		if (rc == 0) {
			use_head(&h, data[0] % 4 == 0);
			http1_body_init(&b, &h);
			if (len > 0)
				(void)http1_body_pass(&b, p + len, n - (size_t)len);
		}
	}
	free(p);
	return 0;
}
