/* SPDX-License-Identifier: MIT */
/* Inbound mixed: SOCKS and HTTP on one port; the first byte tells (spec/protocols.md 3.1). Called by listen.c; owns nothing. */
#include "worker/inbound/http.h"
#include "worker/inbound/socks.h"

static void
on_first(struct stream *s, int events, void *arg)
{
	struct conn *c = arg;
	uint8_t bytes[FIRST_READ_MAX];
	ssize_t n = stream_read(s, bytes, sizeof(bytes));

	(void)events;
	if (n == -E_AGAIN)
		return;
	if (n <= 0)
		conn_close(c, BY_CLIENT);
	else if (bytes[0] == 4 || bytes[0] == 5)
		socks_begin(c, bytes, (size_t)n);
	else
		http_begin(c, bytes, (size_t)n);
}

static void
mixed_accept(struct inbound *inb, struct conn *c)
{
	(void)inb;
	stream_set_cb(c->in, on_first, c);
	stream_want(c->in, ST_READ);
}

static int
mixed_init(struct inbound *inb, const struct cfg_node *node, struct cfg_err *err)
{
	(void)inb;
	(void)node;
	(void)err;
	return 0;
}

const struct inbound_type inbound_mixed = {
	.name = "mixed", .api_name = "Mixed", .needs = IN_STREAM | IN_DGRAM, .size = sizeof(struct inbound), .init = mixed_init,
	.accept = mixed_accept, .packet = socks_packet, .wrap = socks_wrap
};
