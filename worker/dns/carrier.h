/* SPDX-License-Identifier: MIT */
/* A connection to one name server that carries many questions: DNS over TCP (RFC 1035 4.2.2, RFC 7766), over TLS (RFC 7858)
 * and over HTTPS (RFC 8484, HTTP/2), directly or through an outbound. Opened by its first question, kept while it is used,
 * opened again when the server closed it in between. carrier.c has the connection and the framing of TCP, doh.c HTTP/2. */
#ifndef SLUICE_WORKER_DNS_CARRIER_H
#define SLUICE_WORKER_DNS_CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "worker/dns/config.h"
#include "worker/dns/resolver.h"
#include "worker/loop/loop.h"
#include "worker/stream/stream.h"

enum {
	CARRIER_ASKS_MAX = 4096,	/* waiting and sent: beyond it a question fails with E_LIMIT */
	CARRIER_OUT_MAX = 64 << 10,	/* bytes not yet taken by the connection; questions wait behind it */
	CARRIER_IDLE_MS = 20000,	/* without a question it is closed then */
	CARRIER_STUCK_MS = 3000,	/* a question given up after that long without a byte from the server: the connection is dead */
	CARRIER_WARN_MS = 10000		/* between two warnings that a server cannot be reached */
};

struct carrier;
struct doh;
/* msg is the carrier's, may be written to, and is lent. err: E_DNS, E_TIMEOUT, E_LIMIT, ... with msg NULL. */
typedef void carrier_cb(void *arg, int err, uint8_t *msg, size_t n);
struct carrier_ask {		/* embedded by who asks; zero it first */
	struct list node;
	struct carrier *c;	/* NULL: not being asked */
	carrier_cb *cb;
	void *arg;
	uint8_t *query;		/* owned */
	size_t n;
	uint64_t sent_ms;	/* 0: waiting */
	bool again;		/* was on a connection that broke */
	uint16_t id;		/* TCP, TLS: this connection's own number for it */
	int32_t stream;		/* HTTP/2 */
	int status;		/* of the HTTP answer */
	size_t n_sent;		/* of the body */
	uint8_t *answer;	/* HTTP: the body so far; owned, at most DNS_MSG_MAX */
	size_t n_answer;
};

/* In the generation's arena. rules: dialled as the rules say (#RULES, respect-rules). */
struct carrier *carrier_new(struct resolver *r, const struct dns_server *conf, bool rules);
/* Copies the query. cb is called once, never from inside. 0, -E_LIMIT, -E_NOMEM. */
int carrier_ask(struct carrier *c, struct carrier_ask *a, const uint8_t *query, size_t n, carrier_cb *cb, void *arg);
void carrier_cancel(struct carrier_ask *a);	/* no cb after; idempotent */
void carrier_stop(struct carrier *c);		/* closes it and forgets its questions without a word */

/* ---- between carrier.c and doh.c */
enum carrier_state { CARRIER_CLOSED, CARRIER_RESOLVING, CARRIER_DIALING, CARRIER_OPEN };
struct carrier {
	struct resolver *r;
	struct carrier *next;		/* of the resolver's */
	const struct dns_server *conf;
	bool rules;
	enum carrier_state state;
	struct stream *s;
	struct tls_client_opts tls;
	struct resolve_req req;		/* of the server's name, by default-nameserver */
	struct list waiting, sent;	/* struct carrier_ask */
	int n_asks;
	ev_timer idle;
	struct loop_task later;		/* what must not be told from inside: a dial that failed or is open at once, a dead path */
	uint64_t heard_ms, warned_ms;
	bool proven;			/* this connection has brought an answer */
	uint16_t next_id;
	uint8_t *out, *in;		/* while open */
	size_t n_out, off_out, n_in;
	struct doh *doh;
};
/* Ends a question with an answer or an error; it is off every list. */
void carrier_tell(struct carrier_ask *a, int err, uint8_t *msg, size_t n);

/* doh.c. -E_*: the connection is broken. */
int doh_open(struct carrier *c);
void doh_close(struct carrier *c);
int doh_submit(struct carrier *c, struct carrier_ask *a);
void doh_forget(struct carrier *c, struct carrier_ask *a);	/* it is cancelled */
int doh_fill(struct carrier *c);				/* moves bytes to send to c->out */
int doh_feed(struct carrier *c, const uint8_t *p, size_t n);
/* The next question whose HTTP answer is whole, or which failed (status 0); NULL: none. It is still on c->sent. */
struct carrier_ask *doh_ready(struct carrier *c);

#endif
