/* SPDX-License-Identifier: MIT */
/* An outbound: one configured proxy, a built-in, or a group. A protocol is one file with one struct outbound_type and one line
 * in registry.c. */
#ifndef SLUICE_WORKER_OUTBOUND_OUTBOUND_H
#define SLUICE_WORKER_OUTBOUND_OUTBOUND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config_tree.h"
#include "common/list.h"
#include "worker/gen.h"
#include "worker/meta.h"
#include "worker/stream/dgram.h"
#include "worker/stream/stream.h"

struct outbound;
struct conn;

enum { OB_TCP = 1, OB_UDP = 2, OB_UOT = 4, OB_MUX = 8, OB_GROUP = 16, OB_BUILTIN = 32,
       OB_UNSPOKEN = 64,	/* parsed and listed, but sluice cannot dial it yet: not alive, named in the log */
       OB_XUDP = 128 };		/* shown by the API only */

enum { CHAIN_MAX = 8 };
struct chain {			/* leaf first, as the API lists it; filled by groups and dispatch while a dial is made */
	struct outbound *ob[CHAIN_MAX];
	int n;
};

struct dial {			/* lent to dial() and packet(); copy what outlives the call */
	const struct target *to;
	const struct meta *meta;	/* NULL for own dials (health checks, resolver) */
	struct outbound *via;		/* the server is reached through this one, instead of ob->dialer; set by relay groups; normally NULL */
	struct chain *chain;		/* may be NULL; the dialled leaf appends itself first, each group after it */
	uint64_t deadline_ms;		/* absolute loop time; enforced by dispatch alone */
	unsigned depth;			/* dials nested in this one (dialer-proxy): at DIAL_DEPTH_MAX it is a loop; callers leave 0 */
};
enum { DIAL_DEPTH_MAX = 8 };

enum ip_version { IPV_DUAL, IPV_4, IPV_6, IPV_4_PREFER, IPV_6_PREFER };

enum { HISTORY_MAX = 10, EXTRA_MAX = 16 };
struct delay_entry {
	int64_t at_ns;
	uint16_t ms;			/* 0 = failed */
};
struct delay_history {
	struct delay_entry e[HISTORY_MAX];
	uint8_t n, first;		/* ring */
	bool alive;
};
struct delay_extra {			/* per tested URL; allocated when first tested; the least recently tested goes at EXTRA_MAX */
	struct delay_extra *next;
	struct delay_history h;
	char url[];
};

struct outbound_type {
	const char *name, *api_name;	/* yaml "socks5"; GET /proxies "Socks5" */
	unsigned flags;			/* OB_* */
	size_t size;			/* of the struct that embeds struct outbound first */
	const char *const *keys;	/* own keys beside the common ones, NULL-terminated: for unknown-key warnings */
	int (*init)(struct outbound *, const struct cfg_node *, struct cfg_err *);	/* node lent; strings copied to gen->arena */
	struct stream *(*dial)(struct outbound *, const struct dial *);	/* returns at once, ST_OPEN or ST_FAIL later; caller owns; NULL = no memory */
	struct dgram *(*packet)(struct outbound *, const struct dial *);	/* NULL if !OB_UDP */
	void (*fini)(struct outbound *);
	/* groups only, else NULL: the present choice (never NULL; touch: it is about to be used), and whether UDP may go to it */
	struct outbound *(*pick)(struct outbound *, const struct meta *, bool touch);
	bool (*udp)(struct outbound *);
};

struct outbound {			/* first member of every protocol's struct; lives in the generation's arena */
	const struct outbound_type *type;
	struct gen *gen;
	const char *name;
	unsigned flags;			/* type's, less what its options take away */
	uint8_t id[16];
	/* common keys, spec/protocols.md 1.1 */
	const char *server;		/* NULL for types without */
	uint16_t port;
	enum ip_version ip_version;
	struct tcp_opts tcp;		/* interface-name, routing-mark, tfo, mptcp as configured; general's defaults join at each dial */
	const char *dialer_proxy;	/* "" */
	struct outbound *dialer;	/* resolved after all are parsed */
	const char *provider;		/* "" or the provider's name */
	struct delay_history history;	/* of any URL; alive is true before any test */
	struct delay_extra *extra;
	int index;			/* position in gen->outbounds, -1 */
	unsigned visiting;		/* a mark: loop detection of the parser, later whether a connection uses this node */
};

extern const struct outbound_type *const outbound_types[];	/* registry.c, ended by NULL: protocols that can be dialled */
extern const struct outbound_type unspoken_types[];		/* unspoken.c, ended by a NULL name: protocols that are only listed */

/* ---- parse.c: proxies:, built-ins, references */
int outbounds_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);	/* also makes DIRECT REJECT REJECT-DROP PASS COMPATIBLE */
/* One entry; path is "proxy 3: " for messages. NULL with err filled. Does not register the name. */
struct outbound *outbound_parse(struct gen *g, const struct cfg_node *item, const char *path, struct cfg_err *err);
/* After groups: resolves dialer-proxy names, refuses unknown ones and loops. */
int outbounds_link(struct gen *g, struct cfg_err *err);
/* Heap of all outbounds and groups (delay tables); the arena's memory goes with the arena. */
void outbounds_fini(struct gen *g);
void outbound_fini(struct outbound *ob);	/* of one */
/* A zeroed outbound of a type, named and with an id, not registered; for groups and built-ins. name is kept. */
struct outbound *outbound_new(struct gen *g, const struct outbound_type *type, const char *name);
/* Puts a text in front of err's text; returns -E_INVAL. */
int outbound_err_prefix(struct cfg_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- use */
struct outbound *outbound_find(struct gen *g, const char *name);
/* What a dial through ob would use now (groups resolved, without touching them); never NULL. */
struct outbound *outbound_leaf(struct outbound *ob, const struct meta *meta);
bool outbound_udp(struct outbound *ob);		/* groups: of the present choice */
/* Dials; ends in a stream, or NULL when out of memory. Fills dial->chain. */
struct stream *outbound_dial(struct outbound *ob, const struct dial *dial);
struct dgram *outbound_packet(struct outbound *ob, const struct dial *dial);
/* A packet side that another process froze (dgram_freeze); takes fds in every case. NULL on bad data or out of memory. */
struct dgram *outbound_thaw(struct gen *g, struct wire *state, const int *fds, int nfds);
void chain_add(struct chain *c, struct outbound *ob);
/* A stream, or a packet side, that is born to fail with this code and text; NULL = no memory. */
struct stream *outbound_failed(struct outbound *ob, int code, const char *text);
struct dgram *outbound_failed_packet(struct outbound *ob, int code, const char *text);

/* ---- dialer.c: the lower transport of a node: resolves its server name, honours ip-version, interface, dialer-proxy,
 * tcp-concurrent */
struct stream *dialer_server(struct outbound *ob, const struct dial *dial);		/* to ob->server:port */
struct stream *dialer_target(struct outbound *ob, const struct dial *dial);		/* to dial->to directly (DIRECT) */
/* A plain UDP socket side: packets to any target; names are resolved per target. iface etc. from ob. */
struct dgram *dialer_packet(struct outbound *ob, const struct dial *dial);

/* ---- delay.c: health measurements (spec/api.md 2.8, spec/config.md 14.6) */
typedef void delay_cb(void *arg, int ms, int err);	/* ms >= 1 and err 0; or err = E_TIMEOUT or another */
struct delay_test;
enum { STATUS_MAX = 65535 };	/* of `expected`, range_parse() */
/* A HEAD request through ob; done() once, later. Recording is the caller's: outbound_record(). NULL = out of memory or bad URL
 * (*err says). */
struct delay_test *delay_start(struct outbound *ob, const char *url, unsigned timeout_ms, const char *expected, delay_cb *done, void *arg, int *err,
    bool *status_ok);
void delay_cancel(struct delay_test *t);
/* ms 0: failed. ms > 0 with alive false: answered with a status that was not expected, which counts against this URL only. */
void outbound_record(struct outbound *ob, const char *url, uint16_t ms, bool alive, int64_t at_ns);
/* State of a node for a URL: spec/config.md 14.5 "alive"; last delay, 65535 = unknown or dead. */
const struct delay_history *outbound_history(const struct outbound *ob, const char *url);	/* of this URL; NULL before any test */
void outbound_set_history(struct outbound *ob, const char *url, const struct delay_history *h);	/* restored after a restart */
bool outbound_alive(const struct outbound *ob, const char *url);
uint16_t outbound_last_delay(const struct outbound *ob, const char *url);

#endif
