/* SPDX-License-Identifier: MIT */
/* Shared by serve.c and serve_tcp.c only: the server, its questions in flight and its TCP clients. */
#ifndef SLUICE_WORKER_DNS_SERVE_IMPL_H
#define SLUICE_WORKER_DNS_SERVE_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/ev.h"
#include "common/imsg_types.h"
#include "common/list.h"
#include "worker/dns/reply.h"
#include "worker/dns/resolver.h"
#include "worker/dns/serve.h"
#include "worker/gen.h"
#include "worker/loop/loop.h"
#include "worker/loop/pool.h"

enum { QUESTION_MAX = 4096 };		/* bytes of a message: a longer one is no question */
enum { SHARES = 1024 };

struct share {				/* what clients of one hash of an address have in flight */
	uint16_t questions, clients;
};

struct serve;
struct client {				/* of TCP */
	ev_io io;
	ev_timer idle;
	struct list link;
	struct list questions;		/* at most DNS_SERVE_PER_CLIENT */
	struct loop_task grave;
	struct serve *s;
	struct share *share;
	int fd;				/* -1: closed, waiting for its grave */
	unsigned n_questions;
	bool ended;			/* nothing more is read: its end of file, or a pause */
	bool leaving;			/* since a pause */
	bool parsing;			/* an answer known at once must not go on with the next question by itself */
	struct buf *out, *last;		/* answers not yet taken, at most DNS_SERVE_OUT_MAX */
	size_t n_out, n_in;
	uint8_t in[2 + QUESTION_MAX];	/* RFC 1035 4.2.2: behind the length */
};
struct query {				/* one question in flight */
	struct list link;		/* of its client */
	struct query *next;		/* free ones */
	struct serve *s;
	struct client *client;		/* NULL: UDP, or gone */
	struct share *share;		/* NULL: of none */
	bool tcp;
	bool mapped;			/* UDP: the socket is of IPv6 */
	uint32_t scope;
	struct ip peer, local;		/* UDP: local is none when the socket is bound to it */
	uint16_t port;
	const char *alias;		/* what is asked for instead; of hosts */
	struct dns_wait wait;		/* for the resolver */
	dns_serve_cb *cb;		/* of dns_serve_ask(), instead of a client; else NULL */
	void *arg;
	struct dns_question q;
};
struct serve {				/* of the lead, or its stand-in */
	struct gen *g;
	struct loop *loop;
	struct msg_listen key;
	bool wildcard;			/* bound to no address: replies must say theirs */
	int udp, tcp;			/* -1: none */
	ev_io udp_io, tcp_io;
	ev_timer resume, leave;
	bool serving;
	struct list clients;		/* at most DNS_SERVE_CLIENTS_MAX */
	unsigned n_clients, n_questions;
	struct query *free;
	unsigned n_used;		/* of pool; those behind were never touched */
	struct share shares[SHARES];
	unsigned long long answered, dropped;
	uint64_t logged_ms, paused_ms;
	uint8_t reply[2 + DNS_MSG_MAX];	/* one reply behind the length that TCP wants; used within a call */
	struct query pool[DNS_SERVE_QUESTIONS_MAX];
};

static inline uint8_t *
serve_room(struct serve *s)
{
	return s->reply + 2;
}

/* serve.c */
struct serve *serve_get(struct gen *g);			/* the server, without sockets at first; NULL: no memory */
struct share *serve_share(struct serve *s, const struct ip *ip);
struct query *serve_query_new(struct serve *s, struct share *share);	/* NULL: too many are in flight, of all or of the share */
size_t serve_limit(const struct query *q);		/* of the reply's length */
/* Sends the n bytes in serve_room(), SERVFAIL when n is an error, nothing when it is 0; ends the question. */
void serve_finish(struct query *q, int n);
void serve_query_free(struct query *q);			/* without an answer */
void serve_lose(struct serve *s, const char *why);	/* counts a question without answer, and logs it now and then */

/* serve_ask.c */
void serve_tell(struct query *q, int n);		/* serve_finish() of a question without a client */
int serve_ask_here(struct gen *g, const uint8_t *p, size_t n, bool udp, dns_serve_cb *cb, void *arg);	/* dns_serve_ask() by this worker */

/* stages.c */
void serve_query_run(struct query *q, const uint8_t *p, size_t n);	/* q belongs to its stages from here on */

/* serve_tcp.c */
void serve_tcp_init(struct serve *s);
void serve_tcp_start(struct serve *s);
void serve_tcp_pause(struct serve *s);
void serve_tcp_close(struct serve *s);			/* the clients; the listener is serve.c's */
void serve_client_send(struct client *c, size_t n);	/* the n bytes in serve_room() */
void serve_client_settle(struct client *c);		/* after a question has ended */

#endif
