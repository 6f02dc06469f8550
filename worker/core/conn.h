/* SPDX-License-Identifier: MIT */
/* One proxied connection or UDP session, from accept to close: its identity, where it goes, its counters. Owned by core/; every
 * inbound makes one and ends in conn_dispatch() (the only door to rules and relay) or conn_close(). core/ knows nothing of
 * struct inbound: what it needs of one is handed in by struct conn_from and struct udp_port below. */
#ifndef SLUICE_WORKER_CORE_CONN_H
#define SLUICE_WORKER_CORE_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "common/wire.h"
#include "worker/dns/resolver.h"
#include "worker/loop/pool.h"
#include "worker/meta.h"
#include "worker/outbound/outbound.h"
#include "worker/rule/rule.h"
#include "worker/stream/dgram.h"
#include "worker/stream/stream.h"
#include "worker/worker.h"

enum close_reason { BY_EOF, BY_CLIENT, BY_REMOTE, BY_ERROR, BY_API, BY_IDLE, BY_TIMEOUT, BY_RULE, BY_LIMIT,
        BY_STOP, BY_HANDOFF, CLOSE_REASONS_ };
const char *close_reason_name(enum close_reason r);

enum conn_state { CONN_HANDSHAKE, CONN_ROUTING, CONN_DIALING, CONN_RELAY, CONN_CLOSED };
struct conn;
struct udp_session;
struct inbound;

/* The inbound is told once how the dial ended: err 0 (write the success reply; relay starts after it returns) or E_*; on an
 * error the inbound writes its refusal; the conn is closed (CLOSE_FLUSH) after it returns. */
typedef void conn_reply_fn(struct conn *c, int err);
/* dispatch.c's decision: ob NULL = drop. */
typedef void route_cb(struct conn *c, struct outbound *ob, int err);

struct relay_dir {		/* one direction; small buffers exist only while data is in flight */
	struct buf *buf;	/* chain of what was read and not yet written */
	struct pipe *pipe;	/* splice; lazily taken, given back when empty */
	bool eof, shut;		/* the source ended; the end was passed on */
	bool sealed;		/* the sink holds a record that is not out yet: flush it before reading on */
	bool starved;		/* no buffers left: reading is off until the next tick of timers.c */
	bool one_way;		/* the sink's protocol cannot pass an end on: the other direction gets ONE_WAY_IDLE_MS */
	uint8_t full;		/* consecutive full reads: bulk */
};

struct conn_labels {		/* of a conn that another process began and whose names may mean something else here */
	int n;
	char *chain[CHAIN_MAX];	/* leaf first */
	char *rule_type, *rule_payload;	/* API names; "" = none */
	char *meta[8];
};

struct conn {
	struct list link;		/* worker.conns */
	struct worker *w;
	struct inbound *inbound;	/* borrowed; NULL for one that was handed over */
	struct meta meta;
	struct stream *in, *out;	/* owned; NULL for UDP, and out before the dial */
	struct udp_session *udp;	/* NULL for TCP */
	bool control;			/* CONN_HANDSHAKE without an end: it carries a UDP association's life and nothing else */
	uint8_t id[16];
	int64_t start_ns;		/* wall clock */
	uint64_t up, down;
	uint8_t state;			/* enum conn_state */
	bool listed;			/* shown by /connections: from CONN_DIALING on */
	bool quiet;			/* only routed to be told how (worker/query_explain.c): rules do not count it */
	conn_reply_fn *reply;
	void *hs;			/* the inbound's handshake state; freed by it before conn_dispatch() or by hs_free */
	void (*hs_free)(struct conn *);
	struct buf *early;		/* bytes of the client that came with the handshake; relayed first; owned */
	struct chain chain;		/* for showing use conn_chain_name() */
	const struct rule *rule;	/* that decided; NULL: none; for showing use conn_rule_type() */
	struct conn_labels *labels;	/* owned; NULL but after a hand-over */
	struct ip remote_ip;		/* actually dialled */
	const char *remote_host;	/* if no address is known: node's server name; "" */
	struct routing *routing;	/* dispatch.c's, only while a name or a program is looked up */
	uint64_t active_ms;		/* last byte, loop time: idle time-outs are checked lazily */
	uint64_t deadline_ms;		/* of handshake, routing and dial; 0 = none */
	struct relay_dir dir[2];	/* 0 client to remote, 1 back */
	struct loop_task task;
	char *host;			/* owned; meta.host points here, or is "" */
	char *user;			/* owned; meta.in_user points here, or is "" */
	char *process;			/* owned path; meta.process_path and meta.process point here, or are "" */
};

enum {
	HANDSHAKE_TIMEOUT_MS = 10000, DIAL_TIMEOUT_MS = 5000, TCP_IDLE_MS = 5 * 3600 * 1000,
	HALF_CLOSED_IDLE_MS = 300 * 1000, UDP_IDLE_MS = 60000, UDP_DRAIN_IDLE_MS = 8000, ONE_WAY_IDLE_MS = 5000,
	CONN_FREE_MAX = 256		/* records kept for reuse; more are freed */
};

struct conn_from {		/* how it came in; the strings live as long as the generation, NULL reads as "" */
	struct inbound *inbound;	/* kept in conn.inbound, never looked into */
	const char *in_name, *special_proxy, *special_rules;
	struct ip src_ip, in_ip;	/* in_ip none when unknown */
	uint16_t src_port, in_port;
};
/* A conn for an accepted stream (taken), in CONN_HANDSHAKE, with meta's inbound fields filled; the inbound sets meta.kind. Its
 * stream's cb is the inbound's to set (stream_set_cb(c->in, fn, c)) until conn_dispatch(). NULL (stream closed, counted as shed
 * with a logged reason, at most one line a second) at the limit. */
struct conn *conn_new(struct worker *w, const struct conn_from *from, struct stream *in);
/* The same without a stream, for UDP sessions. NULL at the limit, counted as shed. */
struct conn *conn_record(struct worker *w, const struct conn_from *from, enum network network);
/* For hand-over: what another process had accepted is not refused here for its number or memory. */
struct conn *conn_record_moved(struct worker *w, enum network network);
/* Lower-cased, trailing dot cut; an IP literal becomes dst_ip instead; -E_INVAL, -E_NOMEM. */
int conn_set_host(struct conn *c, const char *host, size_t n);
int conn_set_user(struct conn *c, const char *user);
/* The program at the other end; without a path only uid is known. Bytes that are not UTF-8 are shown as '?'. */
void conn_set_process(struct conn *c, uint32_t uid, const char *path);
/* Bytes after the handshake; copied, at most BUF_SIZE. -E_LIMIT over it. */
int conn_early(struct conn *c, const void *p, size_t n);
/* Takes conn with meta filled (kind, host or dst_ip, dst_port) and reply set (may be NULL). */
void conn_dispatch(struct conn *c);
void conn_close(struct conn *c, enum close_reason why);			/* idempotent; freed at the end of the turn */
static inline void
conn_touch(struct conn *c)
{
	c->active_ms = c->w->loop.now_ms;
}

/* What to show: names of the chain, leaf first, NULL past its end; the rule that decided, "" for none. */
const char *conn_chain_name(const struct conn *c, int i);
const char *conn_rule_type(const struct conn *c);
const char *conn_rule_payload(const struct conn *c);

/* move.c: hand-over to another process (worker/handoff.c). conn_freeze() writes all of c and gives up its fds: their number, at
 * most CONN_FDS_MAX; then the caller sends, closes its copies and calls conn_close(c, BY_HANDOFF). -E_UNSUP unless c is a relay
 * between two streams that can move, a UDP session over a packet side that can (or not routed yet: it moves as its packets), or
 * the control connection of an association; -E_AGAIN while it holds more than CONN_MOVE_BYTES (ask again later), -E_NOMEM:
 * nothing was changed but out. conn_thaw() takes fds in every case; NULL on bad data or at a cap, or when a UDP session's port is
 * none of this process. What it made of a control connection is for the inbound to go on with: CONN_HANDSHAKE, no callback. One
 * frozen conn is at most CONN_MOVE_MAX bytes. */
enum { CONN_FDS_MAX = 6, CONN_MOVE_BYTES = 8192, CONN_MOVE_MAX = 15000 };
int conn_freeze(struct conn *c, struct wire *out, int *fds);
struct conn *conn_thaw(struct worker *w, struct wire *in, const int *fds, int nfds);

/* dispatch.c: shared with UDP: fills c->rule and looks names and programs up; done(c, outbound or NULL = drop, err) once,
 * possibly later, possibly from inside. */
void conn_route(struct conn *c, route_cb *done);
void route_cancel(struct conn *c);
/* "[TCP] src:port --> host:port match Rule(payload) using Chain" at info, or the failure at warning with why, as spec/api.md
 * 2.2 words them. */
void conn_log(const struct conn *c, int err, const char *why);

/* relay.c */
void relay_start(struct conn *c);		/* both streams open; early bytes first */
void relay_stop(struct conn *c);		/* gives buffers and pipes back; before the streams are closed */
void relay_kick(struct conn *c);		/* a tick: reads again where buffers had run out */
/* Writes buffers and flags, and the fds of filled pipes to fds (their number); changes nothing. Then relay_gone() frees what is
 * left here. */
int relay_freeze(const struct conn *c, struct wire *out, int *fds);
void relay_gone(struct conn *c);
/* Takes the pipes' fds on success; 0 or -E_*. The caller then sets the streams and calls relay_start(). */
int relay_thaw(struct conn *c, struct wire *in, const int *fds, int nfds);

/* timers.c: one coarse timer (1 s) walks the conns lazily: handshake and dial deadlines exact to a second, idle time-outs */
void conns_start(struct worker *w);		/* w->loop is there; makes w->conns */
void conns_wake(struct worker *w);		/* a conn came: the timer runs while there are any */
void conns_sweep(struct worker *w);		/* one tick */
void conn_deadline(struct conn *c);		/* dispatch.c: its deadline is over */
void conns_close_all(struct worker *w, enum close_reason why);
struct conn *conn_find(struct worker *w, const uint8_t id[static 16]);

/* udp_session.c: sessions keyed by (port, client address); spec/config.md 14.1 10: idle 60 s; at the cap the longest idle one
 * is closed. */
enum { UDP_SESSIONS_MAX = 65536, UDP_WRAP_MAX = 300 };
/* One UDP listening socket, embedded by the inbound that owns it; zero it, fill the first part, call udp_port_init(). */
struct udp_port {
	struct worker *w;
	struct inbound *inbound;
	const char *in_name, *special_proxy, *special_rules;	/* as in struct conn_from */
	int fd;
	struct ip in_ip;	/* bound address; none for the wildcard: then udp_input()'s local is used */
	uint16_t in_port;
	uint8_t slot;		/* of the listener: decides which worker of a generation has it */
	/* inbound_type.wrap: header of at most UDP_WRAP_MAX bytes before the payload; its length or -E_*; NULL = none */
	int (*wrap)(struct inbound *, const struct target *from, uint8_t *header);

	struct list sessions, link;	/* core's */
};
unsigned udp_slot(const struct conn *c);	/* of a UDP session: its port's */
const struct ip *udp_local(const struct conn *c);	/* of a UDP session: what its client sends to; none = not known */
void udp_port_init(struct udp_port *p);
void udp_port_close(struct udp_port *p);	/* ends its sessions; before fd is closed */
/* One datagram of a client. client is as the socket gave it (v4-mapped on an IPv6 socket). local is the address it was sent to
 * (IP_PKTINFO) and the source of the answers; may be NULL. to is lent; host, if any, in any case. user may be NULL. p must stay
 * as it is until udp_flush(): packets of one batch (recvmmsg) that belong to one session leave together. */
void udp_input(struct udp_port *port, const union sockaddr_any *client, const struct ip *local, const struct target *to,
    enum in_kind kind, const char *user, const uint8_t *p, size_t n);
void udp_flush(void);		/* after each batch of udp_input() calls, before the buffers are used again */

/* for conn.c and timers.c */
void udp_session_close(struct conn *c);

#endif
