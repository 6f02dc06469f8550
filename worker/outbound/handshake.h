/* SPDX-License-Identifier: MIT */
/* A stream layer for protocols that say something first and then get out of the way (SOCKS5, HTTP CONNECT): it writes
 * flights, collects the answer, and once handshake_done() was called passes everything to its lower stream. Bytes that came
 * behind the answer are handed out first.
 *
 *   struct hello { struct handshake h; ... };	// first member
 *
 * step() is called when the lower stream is open, and whenever more of the answer came: it looks at h->in[in_off, in_len),
 * takes bytes by handshake_take(), writes by handshake_put(), and answers 0 (go on), or -E_* after stream_fail(). */
#ifndef SLUICE_WORKER_OUTBOUND_HANDSHAKE_H
#define SLUICE_WORKER_OUTBOUND_HANDSHAKE_H

#include "worker/outbound/outbound.h"

enum { HANDSHAKE_OUT_MAX = 8192 };	/* one flight; more is a failure */

struct handshake {
	struct stream s;
	int (*step)(struct handshake *);
	void (*gone)(struct handshake *);	/* frees what the protocol allocated beside its struct; may be NULL */
	uint8_t *out;			/* one flight, malloc'ed */
	size_t out_len, out_off;
	uint8_t *in;			/* in_cap bytes, freed once done and empty */
	size_t in_len, in_off, in_cap;
	bool started, done;
};

/* Takes lower (NULL: returns NULL). size is that of the protocol's struct, zeroed; in_cap the longest answer. The caller fills
 * its fields, then calls handshake_start() before it returns the stream. NULL (lower closed) when out of memory. */
struct handshake *handshake_new(struct stream *lower, size_t size, size_t in_cap, int (*step)(struct handshake *));
void handshake_start(struct handshake *h);
int handshake_put(struct handshake *h, const void *p, size_t n);	/* 0 or -E_LIMIT, -E_NOMEM: the stream has failed then */
void handshake_take(struct handshake *h, size_t n);
void handshake_done(struct handshake *h);				/* from step() only */

/* TLS keys of a node (spec/protocols.md 1.3), parse.c. sni_key may be NULL: the name is the server's. */
struct node_tls {
	bool on;
	struct tls_client_opts opts;
};
int node_tls_parse(struct outbound *ob, const struct cfg_node *item, const char *sni_key, struct node_tls *out, struct cfg_err *err);
/* The node's lower transport: TCP, or TLS over it. */
struct stream *node_dial(struct outbound *ob, const struct dial *dial, const struct node_tls *tls);

#endif
