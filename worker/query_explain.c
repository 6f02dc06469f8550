/* SPDX-License-Identifier: MIT */
/* GET /rules/explain and `sluice explain`: which rule decides about a connection that somebody describes, which were passed
 * over and why, and which outbounds result. The connection is made up and routed by core/ like any other (hosts, fake-ip,
 * mode, resolver, process), but never dialled, never listed and not counted by the rules; what came out is then told. Asked
 * by a controller or by the control client, at most ASKS_MAX at once, then 503. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/snapshot.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/core/conn.h"
#include "worker/query.h"

enum { ASKS_MAX = 16, PASSED_MAX = 1000 /* rules told of in one answer */, WORD_MAX = 1024, PORT_DEFAULT = 443 };

struct ask {
	struct peer *peer;		/* NULL: gone, or this place is free */
	uint32_t id;
	bool used, text, done;
	struct conn *c;
	char in_name[WORD_MAX], process[WORD_MAX], process_path[WORD_MAX];	/* lent to the conn */
};
static struct ask asks[ASKS_MAX];

/* ---- the question */

static int
parse_port(const char *s, uint16_t *out)
{
	int64_t n;

	if (str_to_i64(s, 0, UINT16_MAX, &n) != 0)
		return -E_INVAL;
	*out = (uint16_t)n;
	return 0;
}

static int
parse_host(struct conn *c, const char *s)
{
	char host[HOST_MAX + 4];
	uint16_t port;
	struct ip ip;

	if (ip_parse(&ip, s) != 0 && hostport_parse(s, host, sizeof host, &port) == 0) {
		c->meta.dst_port = port;
		s = host;
	}
	return conn_set_host(c, s, strlen(s));
}

static int
parse_source(struct meta *m, const char *s)
{
	char host[ADDR_TEXT_MAX + 2];

	if (ip_parse(&m->src_ip, s) == 0)
		return 0;
	return hostport_parse(s, host, sizeof host, &m->src_port) != 0 ? -E_INVAL : ip_parse(&m->src_ip, host);
}

static int
parse_in_type(struct meta *m, const char *s)
{
	for (unsigned k = 0; k < IN_KINDS_; k++)
		if (str_case_equal(s, meta_type_name((enum in_kind)k))) {
			m->kind = (uint8_t)k;
			return 0;
		}
	return -E_INVAL;
}

static int
parse_network(struct meta *m, const char *s)
{
	if (!str_case_equal(s, "tcp") && !str_case_equal(s, "udp"))
		return -E_INVAL;
	m->network = str_case_equal(s, "udp") ? NET_UDP : NET_TCP;
	return 0;
}

/* The words that common/snapshot.h lists. */
static int
parse_word(struct ask *a, const char *key, const char *s)
{
	struct meta *m = &a->c->meta;
	int64_t n;

	if (str_equal(key, "host"))
		return parse_host(a->c, s);
	if (str_equal(key, "port"))
		return parse_port(s, &m->dst_port);
	if (str_equal(key, "network"))
		return parse_network(m, s);
	if (str_equal(key, "src"))
		return parse_source(m, s);
	if (str_equal(key, "in-type"))
		return parse_in_type(m, s);
	if (str_equal(key, "in-port"))
		return parse_port(s, &m->in_port);
	if (str_equal(key, "in-user"))
		return conn_set_user(a->c, s);
	if (str_equal(key, "in-name")) {
		str_copy(a->in_name, sizeof a->in_name, s);
	} else if (str_equal(key, "process")) {
		str_copy(a->process, sizeof a->process, s);
	} else if (str_equal(key, "process-path")) {
		str_copy(a->process_path, sizeof a->process_path, s);
	} else if (str_equal(key, "uid") && str_to_i64(s, 0, UINT32_MAX, &n) == 0) {
		m->uid = (uint32_t)n;
	} else if (str_equal(key, "dscp") && str_to_i64(s, 0, 63, &n) == 0) {
		m->dscp = (uint8_t)n;
	} else {
		return -E_INVAL;
	}
	return 0;
}

/* -E_PROTO for bytes that are none of ours; -E_INVAL with why. */
static int
parse(struct ask *a, struct wire *args, char *why, size_t cap)
{
	char key[64], word[WORD_MAX];
	struct meta *m = &a->c->meta;

	while (wire_left(args) > 0) {
		if (wire_get_str(args, key, sizeof key) != 0 || wire_get_str(args, word, sizeof word) != 0)
			return -E_PROTO;
		if (word[0] != '\0' && parse_word(a, key, word) != 0) {
			snprintf(why, cap, "%.64s: not understood: %.200s", key, word);
			return -E_INVAL;
		}
	}
	m->in_name = a->in_name;
	m->process = a->process;
	m->process_path = a->process_path;
	if (m->host[0] != '\0' || m->dst_ip.family != 0)
		return 0;
	snprintf(why, cap, "host is missing");
	return -E_INVAL;
}

/* ---- the answer: what decided, and the rules before it */

struct teller {
	struct wire *out;
	bool text;
	uint32_t told, left_out;
};

static void
line(struct wire *w, const char *text)
{
	wire_put(w, text, strlen(text));
}

static void
rule_members(struct wire *w, int index, const struct rule *r)
{
	value_key_int(w, "index", index);
	value_key_str(w, "type", rule_api_name(r));
	value_key_str(w, "payload", r->payload);
	value_key_str(w, "proxy", r->target);
}

static void
rule_text(char *out, size_t cap, int index, const struct rule *r)
{
	snprintf(out, cap, "%5d  %s%s%.300s%s -> %.200s", index, rule_api_name(r), r->payload[0] != '\0' ? "(" : "", r->payload,
	    r->payload[0] != '\0' ? ")" : "", r->target);
}

static void
tell_passed(struct teller *t, int index, const struct rule *r, const struct meta *m, const struct rule_hooks *hooks)
{
	char why[RULE_WHY_MAX], text[1024];

	if (t->told == PASSED_MAX) {
		t->left_out++;
		return;
	}
	t->told++;
	rule_explain(r, m, hooks, why);
	if (t->text) {
		rule_text(text, sizeof text, index, r);
		line(t->out, text);
		line(t->out, ": ");
		line(t->out, why);
		line(t->out, "\n");
		return;
	}
	value_map(t->out);
	rule_members(t->out, index, r);
	value_key_str(t->out, "why", why);
	value_map_end(t->out);
}

/* The walk once more, with what is known now: a looked-up address is there from the first rule on that asked for it. The
 * index of the rule that decided, -1 for none. */
static int
tell_rules(struct teller *t, const struct conn *c, bool routed)
{
	const struct gen *g = c->w->gen;
	const struct rules *list = routed && g->general.mode == MODE_RULE ? g->rules : NULL;
	struct meta m = c->meta;

	if (m.host[0] != '\0' && m.network == NET_TCP && m.dns_mode != DNS_HOSTS)
		m.dst_ip = (struct ip){ .family = 0 };
	for (int i = 0; list != NULL && i < list->n; i++) {
		const struct rule *r = &list->rule[i];

		if (!r->disabled && (r->needs & NEED_IP) != 0)
			m.dst_ip = c->meta.dst_ip;
		if (r == c->rule)
			return i;
		tell_passed(t, i, r, &m, list->hooks);
	}
	return -1;
}

/* Groups on the way, leaf first as GET /connections lists them. */
static int
chain_of(const struct conn *c, struct outbound *ob, const struct outbound *chain[static CHAIN_MAX])
{
	int n = 0;

	for (; ob != NULL && n < CHAIN_MAX; ob = ob->type->pick != NULL ? ob->type->pick(ob, &c->meta, false) : NULL) {
		memmove(chain + 1, chain, (size_t)n * sizeof chain[0]);
		chain[0] = ob;
		n++;
	}
	return n;
}

static const char *
how_decided(const struct conn *c, bool routed)
{
	int mode = c->w->gen->general.mode;

	if (c->rule != NULL)
		return "rule";
	if (!routed)
		return "nothing: it does not get as far as the rules";
	return mode == MODE_GLOBAL ? "mode global" : mode == MODE_DIRECT ? "mode direct" : "no rule matches";
}

static void
answer_value(const struct conn *c, struct outbound *ob, int err, struct wire *out)
{
	const struct outbound *chain[CHAIN_MAX];
	struct teller t = { .out = out };
	char ip[ADDR_TEXT_MAX];
	int n = chain_of(c, ob, chain), decided;

	value_map(out);
	value_key_str(out, "network", c->meta.network == NET_UDP ? "udp" : "tcp");
	value_key_str(out, "host", c->meta.host);
	value_key_str(out, "destinationIP", ip_text(&c->meta.dst_ip, ip));
	value_key_int(out, "port", c->meta.dst_port);
	value_key_str(out, "error", ob == NULL ? err_text(err != 0 ? err : E_REJECTED) : "");
	value_key_str(out, "decidedBy", how_decided(c, ob != NULL));
	value_key(out, "chains");
	value_list(out);
	for (int i = 0; i < n; i++)
		value_str(out, chain[i]->name);
	value_list_end(out);
	value_key(out, "passed");
	value_list(out);
	decided = tell_rules(&t, c, ob != NULL);
	value_list_end(out);
	value_key_int(out, "passedLeftOut", t.left_out);
	value_key(out, "rule");
	if (c->rule != NULL && decided >= 0) {
		value_map(out);
		rule_members(out, decided, c->rule);
		value_map_end(out);
	} else {
		value_null(out);
	}
	value_map_end(out);
}

static void
answer_text(const struct conn *c, struct outbound *ob, int err, struct wire *w)
{
	const struct outbound *chain[CHAIN_MAX];
	struct teller t = { .out = w, .text = true };
	char text[1024], ip[ADDR_TEXT_MAX];
	int n = chain_of(c, ob, chain), decided;

	snprintf(text, sizeof text, "%s %.253s%s%s port %u\n", c->meta.network == NET_UDP ? "udp" : "tcp", c->meta.host,
	    c->meta.host[0] != '\0' && c->meta.dst_ip.family != 0 ? " " : "", ip_text(&c->meta.dst_ip, ip), c->meta.dst_port);
	line(w, text);
	decided = tell_rules(&t, c, ob != NULL);
	if (t.left_out > 0) {
		snprintf(text, sizeof text, "       and %u rules more\n", t.left_out);
		line(w, text);
	}
	if (c->rule != NULL && decided >= 0) {
		rule_text(text, sizeof text, decided, c->rule);
		line(w, text);
		line(w, ": matches\n");
	}
	snprintf(text, sizeof text, "decided by: %s\n", how_decided(c, ob != NULL));
	line(w, text);
	line(w, ob != NULL ? "outbound: " : "error: ");
	line(w, ob != NULL ? "" : err_text(err != 0 ? err : E_REJECTED));
	for (int i = n - 1; i >= 0; i--) {
		line(w, chain[i]->name);
		line(w, i > 0 ? " -> " : "");
	}
	line(w, "\n");
}

static void
on_routed(struct conn *c, struct outbound *ob, int err)
{
	struct ask *a = c->hs;
	struct wire out, text;

	a->done = true;
	if (a->peer != NULL) {
		wire_init(&out);
		if (a->text) {
			wire_init(&text);
			answer_text(c, ob, err, &text);
			wire_put_bytes(&out, text.p, text.len);
			wire_free(&text);
		} else {
			answer_value(c, ob, err, &out);
		}
		query_answer(a->peer, a->id, &out);
	}
	conn_close(c, BY_EOF);
}

/* However it ends: a process that stops closes what is still being looked up. */
static void
on_closed(struct conn *c)
{
	struct ask *a = c->hs;

	if (!a->done && a->peer != NULL)
		query_error(a->peer, a->id, 503, "the data plane is ending");
	a->used = false;
}

void
query_explain_peer_gone(struct peer *p)
{
	for (int i = 0; i < ASKS_MAX; i++)
		if (asks[i].peer == p)
			asks[i].peer = NULL;
}

int
query_explain(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	static const struct conn_from from;
	struct ask *a = asks;
	char why[320] = "";
	bool text;
	int rc;

	if (wire_get_bool(args, &text) != 0)
		return -E_PROTO;
	while (a < asks + ASKS_MAX && a->used)
		a++;
	if (a == asks + ASKS_MAX) {
		query_error(p, id, 503, "too many questions are waiting");
		return 0;
	}
	*a = (struct ask){ .peer = p, .id = id, .text = text };
	a->c = conn_record(w, &from, NET_TCP);
	if (a->c == NULL) {
		query_error(p, id, 503, "too many connections");
		return 0;
	}
	a->used = true;
	a->c->hs = a;
	a->c->hs_free = on_closed;
	a->c->quiet = true;
	a->c->deadline_ms = 0;		/* the resolver has its own */
	a->c->meta.kind = IN_INNER;
	a->c->meta.dst_port = PORT_DEFAULT;
	rc = parse(a, args, why, sizeof why);
	if (rc == 0) {
		conn_route(a->c, on_routed);
		return 0;
	}
	a->done = true;
	if (rc == -E_INVAL)
		query_error(p, id, 400, why);
	conn_close(a->c, BY_EOF);
	return rc == -E_INVAL ? 0 : rc;
}
