/* SPDX-License-Identifier: MIT */
/* Decides where a connection goes, and takes it there: hosts, mode, a listener's fixed proxy, rules (waiting for the resolver
 * where one needs an address, for the nethelper where one needs the client's program), then the dial, the inbound's reply and
 * the relay. Entered by conn_dispatch() for TCP and conn_route() for UDP. Owns struct routing, which exists only while a name or
 * a program is looked up. The order of the steps is spec/config.md 14.1. */
#include "worker/core/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/core/process.h"
#include "worker/dns/fakeip.h"
#include "worker/group/group.h"

struct routing {
	struct conn *c;
	route_cb *done;
	struct resolve_req req;
	struct process_req process;
	struct match match;
	bool before_rules;		/* UDP: an address first */
};

enum { CLIENT_TEXT = HOST_MAX + 128, CHAIN_TEXT = 256 };

/* ---- the log lines of spec/api.md 2.2 */

static const char *
net_name(const struct conn *c)
{
	return c->meta.network == NET_UDP ? "UDP" : "TCP";
}

/* "ip:port", "ip:port(name)", "ip:port(uid=N)" or "ip:port(name, uid=N)". */
static void
client_text(const struct meta *m, char out[static CLIENT_TEXT])
{
	char ip[ADDR_TEXT_MAX], uid[16] = "";
	size_t n;

	hostport_text(out, CLIENT_TEXT, ip_text(&m->src_ip, ip), m->src_port);
	if (m->process[0] == '\0' && m->uid == 0)
		return;
	n = strlen(out);
	if (m->uid != 0)
		snprintf(uid, sizeof(uid), "uid=%u", m->uid);
	snprintf(out + n, CLIENT_TEXT - n, "(%.80s%s%s)", m->process, m->process[0] != '\0' && uid[0] != '\0' ? ", " : "", uid);
}

static void
ends_text(const struct conn *c, char src[static CLIENT_TEXT], char dst[static CLIENT_TEXT])
{
	char ip[ADDR_TEXT_MAX];

	client_text(&c->meta, src);
	hostport_text(dst, CLIENT_TEXT, c->meta.host[0] != '\0' ? c->meta.host : ip_text(&c->meta.dst_ip, ip), c->meta.dst_port);
}

/* "Group[node]": the last of the chain, then the first. */
static const char *
chain_text(const struct conn *c, char out[static CHAIN_TEXT])
{
	const struct chain *ch = &c->chain;

	if (ch->n == 0)
		return "";
	if (ch->n == 1)
		return ch->ob[0]->name;
	snprintf(out, CHAIN_TEXT, "%s[%s]", ch->ob[ch->n - 1]->name, ch->ob[0]->name);
	return out;
}

static void
log_routed(const struct conn *c)
{
	char src[CLIENT_TEXT], dst[CLIENT_TEXT], chain[CHAIN_TEXT];
	const char *using = chain_text(c, chain), *net = net_name(c);
	int mode = c->w->gen->general.mode;

	ends_text(c, src, dst);
	if (c->rule != NULL && c->rule->payload != NULL && c->rule->payload[0] != '\0')
		log_info("[%s] %s --> %s match %s(%s) using %s", net, src, dst, c->rule->type->api_name, c->rule->payload, using);
	else if (c->rule != NULL)
		log_info("[%s] %s --> %s match %s using %s", net, src, dst, c->rule->type->api_name, using);
	else if (c->meta.special_proxy[0] != '\0')
		log_info("[%s] %s --> %s using %s", net, src, dst, using);
	else if (mode == MODE_GLOBAL)
		log_info("[%s] %s --> %s using GLOBAL", net, src, dst);
	else if (mode == MODE_DIRECT)
		log_info("[%s] %s --> %s using DIRECT", net, src, dst);
	else
		log_info("[%s] %s --> %s doesn't match any rule using %s", net, src, dst, using);
}

static void
log_failed(const struct conn *c, int err, const char *why)
{
	char src[CLIENT_TEXT], dst[CLIENT_TEXT];
	const char *name = c->chain.n > 0 ? c->chain.ob[c->chain.n - 1]->name : "", *net = net_name(c);

	if (why == NULL)
		why = err_text(err);
	ends_text(c, src, dst);
	if (c->chain.n == 0)
		log_warn("[%s] %s --> %s error: %s", net, src, dst, why);
	else if (c->rule != NULL)
		log_warn("[%s] dial %s (match %s/%s) %s --> %s error: %s", net, name, c->rule->type->api_name,
		    c->rule->payload != NULL ? c->rule->payload : "", src, dst, why);
	else
		log_warn("[%s] dial %s %s --> %s error: %s", net, name, src, dst, why);
}

void
conn_log(const struct conn *c, int err, const char *why)
{
	if (err == 0 || err == E_REJECTED || err == -E_REJECTED) {
		if (log_enabled(LL_INFO))
			log_routed(c);
	} else if (log_enabled(LL_WARNING)) {
		log_failed(c, err, why);
	}
}

/* ---- routing */

/* A random IPv4 address of an answer, else a random IPv6 one. */
static struct ip
pick_ip(const struct ip *ips, int n)
{
	int v4 = 0;

	while (v4 < n && ips[v4].family == 4)
		v4++;
	return ips[rand_u64() % (uint64_t)(v4 > 0 ? v4 : n)];
}

/* An address of the hosts section goes before everything; an alias takes the name's place. */
static void
look_in_hosts(struct conn *c)
{
	struct ip ips[RESOLVE_IPS_MAX];
	const char *alias = NULL;
	int n;

	if (c->meta.host[0] == '\0')
		return;
	n = hosts_find(c->w->gen, c->meta.host, ips, RESOLVE_IPS_MAX, &alias);
	if (alias != NULL && alias[0] != '\0' && !str_equal(alias, c->meta.host))
		(void)conn_set_host(c, alias, strlen(alias));
	if (n > 0) {
		c->meta.dst_ip = pick_ip(ips, n);
		c->meta.dns_mode = DNS_HOSTS;
	}
}

/* An address that stands for a name: of fake-ip, or of an answer given lately. False: a fake one that is nobody's. */
static bool
look_behind(struct conn *c)
{
	char name[HOST_MAX + 1];
	bool mapped;

	if (c->meta.host[0] != '\0')
		return true;
	switch (fakeip_behind(c->w->gen, &c->meta.dst_ip, name, &mapped)) {
	case FAKE_FOREIGN:
		return true;
	case FAKE_MISSING:
		return false;
	case FAKE_FOUND:
		break;
	}
	if (conn_set_host(c, name, strlen(name)) != 0 || c->meta.host[0] == '\0')
		return mapped;
	c->meta.dns_mode = mapped ? DNS_REDIR_HOST : DNS_FAKE_IP;
	if (!mapped)
		c->meta.dst_ip = (struct ip){ .family = 0 };
	return true;
}

static void on_resolved(void *arg, int err, const struct ip *ips, int n);
static void on_process(void *arg, uint32_t uid, const char *path);

static void
finish(struct conn *c, route_cb *done, struct outbound *ob, int err)
{
	if (c->routing != NULL)
		route_cancel(c);
	done(c, ob, err);
}

/* What a wait needs, made by the first one; NULL: out of memory, and the conn is finished. */
static struct routing *
routing_of(struct conn *c, route_cb *done)
{
	struct routing *r = c->routing;

	if (r != NULL)
		return r;
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		finish(c, done, NULL, E_NOMEM);
		return NULL;
	}
	r->c = c;
	r->done = done;
	c->routing = r;
	return r;
}

/* Waits for the address of meta.host; m is the walk so far, NULL before the rules. */
static void
wait_for_ip(struct conn *c, const struct match *m, route_cb *done)
{
	struct routing *r = routing_of(c, done);

	if (r == NULL)
		return;
	r->before_rules = m == NULL;
	if (m != NULL)
		r->match = *m;
	r->req = (struct resolve_req){ .n = 0 };
	resolver_ask(c->w->gen, &r->req, c->meta.host, RESOLVE_BOTH, USE_RULES, on_resolved, r);
}

/* The client's socket: its other end is our listener, or for what was taken from its way the address that it was for. */
static struct msg_find
client_socket(const struct conn *c)
{
	const struct meta *m = &c->meta;
	struct msg_find f = { .udp = m->network == NET_UDP, .src = m->src_ip, .src_port = m->src_port, .dst = m->in_ip,
		.dst_port = m->in_port };

	if (m->kind == IN_REDIR || m->kind == IN_TPROXY || m->kind == IN_TUN) {
		f.dst = m->dst_ip;
		f.dst_port = m->dst_port;
	} else if (c->udp != NULL) {
		f.dst = *udp_local(c);
	}
	return f;
}

/* Waits for the client's program; false: there is nobody to ask, it stays unknown. */
static bool
wait_for_process(struct conn *c, const struct match *m, route_cb *done)
{
	struct msg_find find = client_socket(c);
	struct routing *r = routing_of(c, done);

	if (r == NULL)
		return true;
	r->match = *m;
	return process_ask(c->w, &r->process, &find, on_process, r) == 0;
}

static void
walk(struct conn *c, struct match *m, route_cb *done)
{
	for (;;) {
		switch (rules_walk(m, &c->meta, loop_wall_ns())) {
		case MATCH_HIT:
			c->rule = m->verdict.rule;
			finish(c, done, m->verdict.outbound, 0);
			return;
		case MATCH_NEED_IP:
			if (c->meta.host[0] != '\0' && c->meta.dst_ip.family == 0) {
				wait_for_ip(c, m, done);
				return;
			}
			m->resolved = true;
			break;
		case MATCH_NEED_PROCESS:
			if (wait_for_process(c, m, done))
				return;
			m->process_known = true;
			break;
		case MATCH_NONE:
			finish(c, done, c->w->gen->direct, 0);
			return;
		}
	}
}

static const struct rules *
rules_for(const struct conn *c)
{
	const struct gen *g = c->w->gen;
	const struct rules *sub = NULL;

	if (c->meta.special_rules[0] != '\0')
		sub = map_get(&g->sub_rules, c->meta.special_rules);
	return sub != NULL ? sub : g->rules;
}

static void
decide(struct conn *c, route_cb *done)
{
	struct gen *g = c->w->gen;
	struct match m = { .quiet = c->quiet };
	struct outbound *ob;

	if (c->meta.special_proxy[0] != '\0') {
		ob = outbound_find(g, c->meta.special_proxy);
		finish(c, done, ob, ob != NULL ? 0 : E_NOTFOUND);
	} else if (g->general.mode == MODE_DIRECT) {
		finish(c, done, g->direct, 0);
	} else if (g->general.mode == MODE_GLOBAL) {
		finish(c, done, g->global, 0);
	} else {
		m.list = rules_for(c);
		m.process_known = c->quiet || c->meta.kind == IN_INNER || g->general.find_process == FIND_OFF;
		if (m.list == NULL)
			finish(c, done, g->direct, 0);
		else if (m.process_known || g->general.find_process == FIND_STRICT || !wait_for_process(c, &m, done))
			walk(c, &m, done);
	}
}

static void
on_resolved(void *arg, int err, const struct ip *ips, int n)
{
	struct routing *r = arg;
	struct conn *c = r->c;
	struct match m = r->match;

	if (err == 0 && n > 0)
		c->meta.dst_ip = pick_ip(ips, n);
	conn_touch(c);
	if (!r->before_rules) {
		m.resolved = true;
		walk(c, &m, r->done);
	} else if (c->meta.dst_ip.family == 0) {
		finish(c, r->done, NULL, err != 0 ? err : E_DNS);
	} else {
		decide(c, r->done);
	}
}

static void
on_process(void *arg, uint32_t uid, const char *path)
{
	struct routing *r = arg;
	struct conn *c = r->c;
	struct match m = r->match;

	conn_set_process(c, uid, path);
	conn_touch(c);
	m.process_known = true;
	walk(c, &m, r->done);
}

void
route_cancel(struct conn *c)
{
	resolver_cancel(&c->routing->req);
	process_cancel(&c->routing->process);
	free(c->routing);
	c->routing = NULL;
}

void
conn_route(struct conn *c, route_cb *done)
{
	c->state = CONN_ROUTING;
	if (!look_behind(c)) {
		char ip[ADDR_TEXT_MAX];

		log_debug("fake DNS record %s missing", ip_text(&c->meta.dst_ip, ip));
		finish(c, done, NULL, E_NOTFOUND);
		return;
	}
	look_in_hosts(c);
	if (c->meta.network == NET_UDP && c->meta.dst_ip.family == 0 && c->meta.host[0] != '\0')
		wait_for_ip(c, NULL, done);
	else
		decide(c, done);
}

/* ---- TCP: the dial */

static void
failed(struct conn *c, int err, const char *why)
{
	groups_dialled(&c->chain, err);
	if (c->w->stat != NULL && err != E_REJECTED)
		stat_add(&c->w->stat->failed, 1);
	conn_log(c, err, why);
	if (c->reply != NULL)
		c->reply(c, err);
	conn_close(c, err == E_REJECTED ? BY_RULE : err == E_TIMEOUT ? BY_TIMEOUT : BY_ERROR);
}

void
conn_deadline(struct conn *c)
{
	c->deadline_ms = 0;
	if (c->state == CONN_ROUTING || c->state == CONN_DIALING) {
		if (c->udp == NULL) {
			failed(c, E_TIMEOUT, "i/o timeout");
			return;
		}
		conn_log(c, E_TIMEOUT, "i/o timeout");
	}
	conn_close(c, BY_TIMEOUT);
}

/* The address that the lowest layer reached, else the server's name. */
static void
note_remote(struct conn *c)
{
	const struct stream *s = c->out;
	uint16_t port;

	while (s->lower != NULL)
		s = s->lower;
	if (!tcp_peer(s, &c->remote_ip, &port) && c->chain.n > 0 && c->chain.ob[0]->server != NULL)
		c->remote_host = c->chain.ob[0]->server;
}

static void
opened(struct conn *c)
{
	note_remote(c);
	conn_log(c, 0, NULL);
	groups_dialled(&c->chain, 0);
	c->deadline_ms = 0;
	if (c->reply != NULL)
		c->reply(c, 0);
	if (c->state == CONN_DIALING)
		relay_start(c);
}

static void
on_out(struct stream *s, int events, void *arg)
{
	struct conn *c = arg;

	if ((events & ST_FAIL) != 0)
		failed(c, s->err, stream_why(s));
	else if ((events & ST_OPEN) != 0)
		opened(c);
}

/* While the dial is on nothing is read: interest is taken back only when bytes do come, which spares most connections the
 * system calls. */
static void
on_client_early(struct stream *s, int events, void *arg)
{
	struct conn *c = arg;

	if ((events & ST_FAIL) != 0)
		conn_close(c, BY_CLIENT);
	else
		stream_want(s, 0);
}

static void
on_routed(struct conn *c, struct outbound *ob, int err)
{
	struct target to = { .host = c->meta.host, .ip = c->meta.dst_ip, .port = c->meta.dst_port };
	struct dial dial = { .to = &to, .meta = &c->meta, .chain = &c->chain };

	if (ob == NULL) {
		failed(c, err != 0 ? err : E_REJECTED, err != E_NOTFOUND ? NULL : c->meta.special_proxy[0] != '\0' ?
		    "proxy not found" : "fake DNS record missing");
		return;
	}
	if (c->meta.dns_mode == DNS_HOSTS && to.ip.family != 0)
		to.host = "";
	c->state = CONN_DIALING;
	c->listed = true;
	c->deadline_ms = dial.deadline_ms = c->w->loop.now_ms + DIAL_TIMEOUT_MS;
	c->out = outbound_dial(ob, &dial);
	if (c->chain.n > 0 && c->chain.ob[0] == c->w->gen->reject_drop)
		c->deadline_ms = 0;		/* it holds the client on purpose, and ends by itself */
	if (c->out == NULL) {
		failed(c, E_NOMEM, NULL);
		return;
	}
	stream_set_cb(c->out, on_out, c);
	if ((c->out->state & ST_OPEN) != 0)
		opened(c);
}

void
conn_dispatch(struct conn *c)
{
	stream_set_cb(c->in, on_client_early, c);
	c->deadline_ms = c->w->loop.now_ms + RESOLVER_TIMEOUT_MS + DIAL_TIMEOUT_MS;
	conn_route(c, on_routed);
}
