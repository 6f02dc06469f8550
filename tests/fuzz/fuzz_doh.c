/* SPDX-License-Identifier: MIT */
/* What an HTTPS name server may send (HTTP/2 frames and a body), in pieces: two questions wait, one is given up meanwhile. Input:
 * size of the first piece (1 byte), then the bytes. */
#include <stdlib.h>
#include <string.h>

#include "worker/codec/dns.h"
#include "worker/dns/carrier.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
finish(struct carrier_ask *a)
{
	list_remove(&a->node);
	free(a->query);
	free(a->answer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct dns_server conf = { .net = DNS_NET_HTTPS, .host = "h", .port = 443, .path = "/q", .user = "u:p" };
	static struct carrier_ask a[2];
	struct carrier c = { .conf = &conf };
	size_t first, parts[2];

	if (n == 0)
		return 0;
	first = p[0] < n - 1 ? p[0] : n - 1;
	parts[0] = first, parts[1] = n - 1 - first;
	c.out = malloc(CARRIER_OUT_MAX);
	list_init(&c.sent);
	if (c.out == NULL || doh_open(&c) != 0)
		abort();
	for (int i = 0; i < 2; i++) {
		a[i] = (struct carrier_ask){ .c = &c, .query = malloc(DNS_QUERY_MAX) };
		a[i].n = (size_t)dns_query_write(a[i].query, 0, "a.test", DNS_T_A, 0);
		if (doh_submit(&c, &a[i]) != 0)
			abort();
		list_append(&c.sent, &a[i].node);
	}
	p++;
	for (int i = 0; i < 2; i++) {
		struct carrier_ask *done;

		(void)doh_fill(&c);
		c.n_out = 0;
		if (doh_feed(&c, p, parts[i]) != 0)
			break;
		p += parts[i];
		while ((done = doh_ready(&c)) != NULL) {
			if (done->n_answer > DNS_MSG_MAX)
				abort();
			finish(done);
		}
		if (i == 0 && a[1].node.next != &a[1].node) {
			doh_forget(&c, &a[1]);
			finish(&a[1]);
		}
	}
	while (!list_empty(&c.sent))
		finish(container_of(c.sent.next, struct carrier_ask, node));
	doh_close(&c);
	free(c.out);
	return 0;
}
