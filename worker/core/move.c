/* SPDX-License-Identifier: MIT */
/* A relay, a UDP session or an association's control connection as bytes and fds, so that another process can go on with it:
 * called by worker/handoff.c at both ends. Owns nothing.
 * What was decided here (chain, rule, names of the inbound) travels as text, because the other configuration may not know it;
 * it is shown, never followed. */
#include "worker/core/udp_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/strutil.h"
#include "worker/provider/provider.h"

enum { MOVE_VERSION = 2, LABEL_MAX = 300 };
enum move_kind { MOVE_NONE, MOVE_RELAY, MOVE_UDP, MOVE_PACKETS /* of a UDP session without a route: nothing else of it moves */, MOVE_CONTROL };
enum { L_SNIFF, L_IN_NAME, L_IN_USER, L_PROCESS, L_PROCESS_PATH, L_SPECIAL_PROXY, L_SPECIAL_RULES, L_REMOTE_HOST };

static void
put_label(struct wire *w, const char *s)
{
	char text[LABEL_MAX];

	str_copy(text, sizeof(text), s != NULL ? s : "");
	while (!utf8_valid(text, strlen(text)))		/* cut within a character */
		text[strlen(text) - 1] = '\0';
	wire_put_str(w, text);
}

static void
put_meta(struct wire *w, const struct meta *m)
{
	wire_put_u8(w, m->network);
	wire_put_u8(w, m->kind);
	wire_put_u8(w, m->dns_mode);
	wire_put_u8(w, m->dscp);
	wire_put_u16(w, m->src_port);
	wire_put_u16(w, m->dst_port);
	wire_put_u16(w, m->in_port);
	wire_put(w, &m->src_ip, sizeof(m->src_ip));
	wire_put(w, &m->dst_ip, sizeof(m->dst_ip));
	wire_put(w, &m->in_ip, sizeof(m->in_ip));
	wire_put_u32(w, m->uid);
	wire_put_str(w, m->host);
	put_label(w, m->sniff_host);
	put_label(w, m->in_name);
	put_label(w, m->in_user);
	put_label(w, m->process);
	put_label(w, m->process_path);
	put_label(w, m->special_proxy);
	put_label(w, m->special_rules);
}

static bool
movable(const struct stream *s)
{
	return s != NULL && s->ops->freeze != NULL && s->err == 0 && (s->state & (ST_OPEN | ST_FAIL)) == ST_OPEN &&
	    stream_raw_fd(s, ST_READ) != -1;
}

static size_t
held(const struct conn *c)
{
	size_t n = 0;

	for (int i = 0; i < 2; i++)
		for (const struct buf *b = c->dir[i].buf; b != NULL; b = b->next)
			n += b->len - b->off;
	return n;
}

static enum move_kind
kind_of(const struct conn *c)
{
	if (c->udp != NULL)
		return udp_routed(c) ? MOVE_UDP : MOVE_PACKETS;
	if (c->control)
		return movable(c->in) ? MOVE_CONTROL : MOVE_NONE;
	return c->state == CONN_RELAY && !c->dir[0].sealed && !c->dir[1].sealed && movable(c->in) && movable(c->out) ?
	    MOVE_RELAY :
	    MOVE_NONE;
}

static void
put_record(const struct conn *c, struct wire *w)
{
	uint8_t chain = 0;

	wire_put(w, c->id, sizeof(c->id));
	wire_put_u64(w, (uint64_t)c->start_ns);
	wire_put_u64(w, c->up);
	wire_put_u64(w, c->down);
	wire_put_u64(w, c->w->loop.now_ms - c->active_ms);
	put_meta(w, &c->meta);
	wire_put(w, &c->remote_ip, sizeof(c->remote_ip));
	put_label(w, c->remote_host);
	while (conn_chain_name(c, chain) != NULL)
		chain++;
	wire_put_u8(w, chain);
	for (int i = 0; i < chain; i++)
		put_label(w, conn_chain_name(c, i));
	put_label(w, conn_rule_type(c));
	put_label(w, conn_rule_payload(c));
}

int
conn_freeze(struct conn *c, struct wire *w, int *fds)
{
	enum move_kind kind = kind_of(c);
	int n = 0;

	if (kind == MOVE_NONE)
		return -E_UNSUP;
	if (held(c) > CONN_MOVE_BYTES)
		return -E_AGAIN;
	wire_put_u8(w, MOVE_VERSION);
	wire_put_u8(w, (uint8_t)kind);
	if (kind == MOVE_PACKETS)
		return udp_freeze_early(c, w);
	put_record(c, w);
	if (kind == MOVE_UDP)
		return w->failed ? -E_NOMEM : udp_freeze(c, w, fds);
	if (kind == MOVE_RELAY)
		n = relay_freeze(c, w, fds + 2);
	if (w->failed)
		return -E_NOMEM;
	/* from here on it cannot fail but for memory of a few bytes, which the reader then notices */
	c->in->ops->freeze(c->in, w, fds);
	if (kind == MOVE_CONTROL)
		return 1;
	c->out->ops->freeze(c->out, w, fds + 1);
	relay_gone(c);
	return n + 2;
}

static int
get_label(struct wire *w, char **out)
{
	*out = wire_get_strdup(w, LABEL_MAX);
	return *out != NULL ? 0 : -E_PROTO;
}

static bool
ip_sane(const struct ip *ip)
{
	return ip->family == 0 || ip->family == 4 || ip->family == 6;
}

static int
get_meta(struct conn *c, struct wire *w)
{
	struct meta *m = &c->meta;
	char **l = c->labels->meta;
	uint8_t network;

	if (wire_get_u8(w, &network) != 0 || wire_get_u8(w, &m->kind) != 0 || wire_get_u8(w, &m->dns_mode) != 0 ||
	    wire_get_u8(w, &m->dscp) != 0 || wire_get_u16(w, &m->src_port) != 0 || wire_get_u16(w, &m->dst_port) != 0 ||
	    wire_get_u16(w, &m->in_port) != 0 || wire_get(w, &m->src_ip, sizeof(m->src_ip)) != 0 ||
	    wire_get(w, &m->dst_ip, sizeof(m->dst_ip)) != 0 || wire_get(w, &m->in_ip, sizeof(m->in_ip)) != 0 ||
	    wire_get_u32(w, &m->uid) != 0 || (c->host = wire_get_strdup(w, HOST_MAX)) == NULL)
		return -E_PROTO;
	m->host = c->host;
	for (int i = 0; i < L_REMOTE_HOST; i++)
		if (get_label(w, &l[i]) != 0)
			return -E_PROTO;
	m->sniff_host = l[L_SNIFF];
	m->in_name = l[L_IN_NAME];
	m->in_user = l[L_IN_USER];
	m->process = l[L_PROCESS];
	m->process_path = l[L_PROCESS_PATH];
	m->special_proxy = l[L_SPECIAL_PROXY];
	m->special_rules = l[L_SPECIAL_RULES];
	if (network != m->network || m->kind >= IN_KINDS_ || !ip_sane(&m->src_ip) || !ip_sane(&m->dst_ip) || !ip_sane(&m->in_ip))
		return -E_PROTO;
	return 0;
}

static int
get_record(struct conn *c, struct wire *w)
{
	struct conn_labels *l = c->labels;
	uint64_t start, idle;
	uint8_t chain;

	if (wire_get(w, c->id, sizeof(c->id)) != 0 ||
	    wire_get_u64(w, &start) != 0 || wire_get_u64(w, &c->up) != 0 || wire_get_u64(w, &c->down) != 0 ||
	    wire_get_u64(w, &idle) != 0 || get_meta(c, w) != 0 || wire_get(w, &c->remote_ip, sizeof(c->remote_ip)) != 0 ||
	    !ip_sane(&c->remote_ip) || get_label(w, &l->meta[L_REMOTE_HOST]) != 0 || wire_get_u8(w, &chain) != 0 ||
	    chain > CHAIN_MAX)
		return -E_PROTO;
	c->start_ns = (int64_t)start;
	c->active_ms = c->w->loop.now_ms > idle ? c->w->loop.now_ms - idle : 0;
	c->remote_host = l->meta[L_REMOTE_HOST];
	while (l->n < chain) {
		if (get_label(w, &l->chain[l->n]) != 0)
			return -E_PROTO;
		l->n++;
	}
	return get_label(w, &l->rule_type) != 0 || get_label(w, &l->rule_payload) != 0 ? -E_PROTO : 0;
}

/* A chain whose members all exist here again is followed by pointers, too: the API's statistics go by them. */
static void
find_chain(struct conn *c)
{
	for (int i = 0; i < c->labels->n; i++) {
		struct outbound *ob = node_find(c->w->gen, "", c->labels->chain[i]);

		if (ob == NULL) {
			c->chain.n = 0;
			return;
		}
		c->chain.ob[c->chain.n++] = ob;
	}
}

static void
close_all(const int *fds, int n)
{
	for (int i = 0; i < n; i++)
		close(fds[i]);
}

/* What is behind the record; takes fds in every case. 0 or -E_*. */
static int
thaw_streams(struct conn *c, enum move_kind kind, struct wire *in, const int *fds, int nfds)
{
	struct loop *loop = &c->w->loop;

	if (nfds < (kind == MOVE_RELAY ? 2 : 1) || (kind == MOVE_RELAY && relay_thaw(c, in, fds + 2, nfds - 2) != 0)) {
		close_all(fds, nfds);
		return -E_PROTO;
	}
	if (kind == MOVE_CONTROL) {
		c->in = tcp_thaw(loop, in, fds, nfds);
		c->control = true;
		return c->in != NULL ? 0 : -E_PROTO;
	}
	c->state = CONN_RELAY;		/* what fails now is told as a reset */
	c->in = tcp_thaw(loop, in, fds, 1);
	c->out = tcp_thaw(loop, in, fds + 1, 1);
	return c->in != NULL && c->out != NULL ? 0 : -E_PROTO;
}

struct conn *
conn_thaw(struct worker *w, struct wire *in, const int *fds, int nfds)
{
	uint8_t version, kind = MOVE_NONE;
	struct conn *c = NULL;
	uint64_t active;
	int r;

	if (wire_get_u8(in, &version) != 0 || version != MOVE_VERSION || wire_get_u8(in, &kind) != 0)
		kind = MOVE_NONE;
	if (kind == MOVE_PACKETS && nfds == 0)
		return udp_thaw_early(w, in);
	if (kind == MOVE_RELAY || kind == MOVE_UDP || kind == MOVE_CONTROL)
		c = conn_record_moved(w, kind == MOVE_UDP ? NET_UDP : NET_TCP);
	if (c == NULL || (c->labels = mem_got(calloc(1, sizeof(*c->labels)))) == NULL || get_record(c, in) != 0) {
		close_all(fds, nfds);
		r = -E_PROTO;
	} else {
		active = c->active_ms;
		r = kind == MOVE_UDP ? udp_thaw(c, in, fds, nfds) : thaw_streams(c, kind, in, fds, nfds);
	}
	if (r != 0) {
		if (c != NULL)
			conn_close(c, BY_ERROR);
		return NULL;
	}
	c->deadline_ms = 0;
	find_chain(c);
	if (kind == MOVE_RELAY) {
		c->listed = true;
		relay_start(c);
	}
	c->active_ms = active;
	return c;
}
