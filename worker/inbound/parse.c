/* SPDX-License-Identifier: MIT */
/* Makes the inbounds of a configuration: the top-level ports, listeners: and tunnels: (spec/config.md 2, 7; spec/protocols.md
 * 3). Called by apply.c, and for the top-level ports again by a live PATCH. Everything made lies in the generation's arena; no
 * socket is opened here. What the reference knows and sluice does not speak yet is named in the log and makes no inbound. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/inbound/inbound.h"
#include "worker/inbound/tunnel.h"

enum {
	INBOUNDS_MAX = 256,		/* of one configuration, as in apply.c; more are an error */
	RANGES_MAX = 28,		/* tokens of a port list, spec/config.md 2 */
	TUNNEL_PARTS = 4
};

static const struct inbound_type *
find_type(const char *name)
{
	int i;

	for (i = 0; inbound_types[i] != NULL; i++)
		if (str_case_equal(inbound_types[i]->name, name))
			return inbound_types[i];
	return NULL;
}

static bool
is_proxy_type(const struct inbound_type *t)
{
	return str_equal(t->name, "http") || str_equal(t->name, "socks") || str_equal(t->name, "mixed");
}

static struct inbound *
inbound_make(struct gen *g, const struct inbound_type *t, const char *name, const struct ip *ip, uint16_t port)
{
	struct inbound *inb = arena_alloc(&g->arena, t->size);

	inb->type = t;
	inb->w = g->w;
	inb->name = arena_strdup(&g->arena, name);
	inb->key.kind = LISTEN_TCP;
	inb->key.flags = (uint16_t)((g->general.inbound_tfo ? LISTEN_TFO : 0) | (g->general.inbound_mptcp ? LISTEN_MPTCP : 0));
	inb->key.ip = *ip;
	inb->key.port = port;
	inb->special_proxy = inb->special_rules = "";
	return inb;
}

static int
add(struct gen *g, struct inbound *inb, const struct cfg_node *at, struct cfg_err *err)
{
	if (g->n_inbounds == INBOUNDS_MAX)
		return cfg_fail(err, at, NULL, "more than %d inbounds", INBOUNDS_MAX);
	g->inbounds[g->n_inbounds++] = inb;
	return 0;
}

/* The address of a listen: value; "" and "::" are every address, "0.0.0.0" every IPv4 one. */
static int
parse_address(struct ip *out, const char *s)
{
	*out = (struct ip){ 0 };
	if (*s == '\0' || strcmp(s, "*") == 0)
		return 0;
	if (str_case_equal(s, "localhost"))
		s = "127.0.0.1";
	if (ip_parse(out, s) != 0)
		return -E_INVAL;
	if (out->family == 6 && ip_is_unspecified(out))
		*out = (struct ip){ 0 };
	return 0;
}

/* ---- top-level ports */

static bool
same_key(const struct msg_listen *a, const struct msg_listen *b)
{
	return a->kind == b->kind && a->flags == b->flags && a->port == b->port && a->ip.family == b->ip.family &&
	    memcmp(a->ip.b, b->ip.b, sizeof(a->ip.b)) == 0;
}

static struct inbound *
find_same(const struct gen *g, const struct inbound *like)
{
	int i;

	for (i = 0; i < g->n_inbounds; i++)
		if (g->inbounds[i]->top_level && g->inbounds[i]->type == like->type && same_key(&g->inbounds[i]->key, &like->key))
			return g->inbounds[i];
	return NULL;
}

int
inbounds_ports(struct gen *g, struct inbound **out, int max)
{
	const struct general *c = &g->general;
	const struct { const char *type, *name; int port;
	} ports[] = {
		{ "http", "DEFAULT-HTTP", c->port },
		{ "socks", "DEFAULT-SOCKS", c->socks_port },
		{ "mixed", "DEFAULT-MIXED", c->mixed_port },
	};
	struct ip ip = { .family = 4, .b = { 127, 0, 0, 1 } };
	struct inbound *inb, *same;
	size_t i;
	int k, n = 0;
	bool bad = c->allow_lan && parse_address(&ip, c->bind_address != NULL ? c->bind_address : "*") != 0;

	if (bad)
		log_error("bind-address %s is no address: no port is opened", c->bind_address);
	for (i = 0; i < countof(ports) && n < max; i++) {
		const struct inbound_type *t = find_type(ports[i].type);

		if (ports[i].port == 0 || t == NULL || bad)
			continue;
		if (ports[i].port < 0 || ports[i].port > 65535) {
			log_error("%s: invalid port %d", ports[i].name, ports[i].port);
			continue;
		}
		inb = inbound_make(g, t, ports[i].name, &ip, (uint16_t)ports[i].port);
		inb->top_level = inb->acl = true;
		inb->udp = (t->needs & IN_DGRAM) != 0;
		same = find_same(g, inb);
		if (same == NULL && t->init(inb, NULL, NULL) != 0)
			continue;
		out[n++] = same != NULL ? same : inb;
	}
	for (k = 0; k < g->n_inbounds && n < max; k++)
		if (!g->inbounds[k]->top_level)
			out[n++] = g->inbounds[k];
	return n;
}

static void
warn_unspoken_ports(const struct gen *g)
{
	const struct general *c = &g->general;
	bool enabled = false;

	if (c->redir_port != 0)
		log_warn("redir-port does not work yet: no such inbound is opened");
	if (c->tproxy_port != 0)
		log_warn("tproxy-port does not work yet: no such inbound is opened");
	if (c->ss_config != NULL && *c->ss_config != '\0')
		log_warn("ss-config does not work yet: no such inbound is opened");
	if (c->vmess_config != NULL && *c->vmess_config != '\0')
		log_warn("vmess-config does not work yet: no such inbound is opened");
	if (cfg_bool(cfg_get(c->tuic_server, "enable"), "enable", &enabled, &(struct cfg_err){ 0 }) == 0 && enabled)
		log_warn("tuic-server does not work yet: no such inbound is opened");
}

/* authentication:, unless general_parse() filled it: entries without ':' are dropped silently. */
static int
parse_authentication(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list;

	if (g->general.auth_users != NULL)
		return 0;
	if (cfg_list(cfg_get(root, "authentication"), "authentication", &list, err) != 0)
		return -E_INVAL;
	g->general.auth_users = arena_array(&g->arena, cfg_count(list) + 1, sizeof(char *));
	cfg_each(item, list) {
		const char *s = cfg_text(item);

		if (s != NULL && strchr(s, ':') != NULL)
			g->general.auth_users[g->general.n_auth++] = arena_strdup(&g->arena, s);
	}
	return 0;
}

/* ---- listeners: items */

struct ranges {
	struct { uint16_t from, to; } r[RANGES_MAX];
	int n;
};

/* "200,302,401-429", also with '/' between and brackets around; reversed ends are swapped (spec/config.md 2). */
static int
parse_ranges(struct ranges *out, const char *s, const struct cfg_node *at, struct cfg_err *err)
{
	char token[32], *first, *second;
	int64_t a, b;
	size_t n;

	out->n = 0;
	while (*s != '\0') {
		n = strcspn(s, ",/");
		if (n >= sizeof(token))
			return cfg_fail(err, at, "port", "intRanges error");
		memcpy(token, s, n);
		token[n] = '\0';
		s += n + (s[n] != '\0');
		first = token + strspn(token, "[] ");
		for (n = strlen(first); n > 0 && strchr("[] ", first[n - 1]) != NULL; n--)
			first[n - 1] = '\0';
		if (n == 0 || strcmp(first, "*") == 0)
			continue;
		if (out->n == RANGES_MAX)
			return cfg_fail(
			    err, at, "port", "intRanges error, too many ranges to use, maximum support %d ranges", RANGES_MAX);
		second = strchr(first, '-');
		if (second != NULL)
			*second++ = '\0';
		if (str_to_i64(str_trim(first), 0, 65535, &a) != 0 ||
		    str_to_i64(second != NULL ? str_trim(second) : first, 0, 65535, &b) != 0)
			return cfg_fail(err, at, "port", "intRanges error");
		out->r[out->n].from = (uint16_t)(a < b ? a : b);
		out->r[out->n++].to = (uint16_t)(a < b ? b : a);
	}
	return 0;
}

/* users: absent or null = the global ones; a list replaces them. */
static int
parse_users(struct gen *g, const struct cfg_node *item, struct user_list **out, struct cfg_err *err)
{
	const struct cfg_node *list = cfg_get(item, "users");
	struct user_list *l;

	*out = NULL;
	if (cfg_is_null(list))
		return 0;
	if (list->type != CFG_LIST)
		return cfg_fail(err, list, "users", "'users' is not a slice");
	l = arena_alloc(&g->arena, sizeof(*l));
	l->u = arena_array(&g->arena, cfg_count(list) + 1, sizeof(*l->u));
	cfg_each(u, list) {
		const char *name = "", *password = "";

		if (u->type != CFG_MAP)
			return cfg_fail(err, u, "users", "'users[%d]' expected a map", l->n);
		if (cfgw_str(u, "username", &name, err) != 0 || cfgw_str(u, "password", &password, err) != 0)
			return -E_INVAL;
		l->u[l->n].name = arena_strdup(&g->arena, name);
		l->u[l->n++].password = arena_strdup(&g->arena, password);
	}
	*out = l;
	return 0;
}

struct item {			/* what every type has */
	const char *name, *type, *listen, *rule, *proxy;
	struct ip ip;
	struct ranges ports;
	bool udp;
	struct user_list *users;
};

static int
parse_item(struct gen *g, const struct cfg_node *n, struct item *it, struct cfg_err *err)
{
	const char *ports;

	*it = (struct item){ .listen = "0.0.0.0", .rule = "", .proxy = "", .udp = true };
	if (cfg_is_null(cfg_get(n, "type")))
		return cfg_fail(err, n, "type", "missing type");
	if (cfgw_str(n, "type", &it->type, err) != 0 || cfgw_str_required(n, "name", &it->name, err) != 0 ||
	    cfgw_str(n, "listen", &it->listen, err) != 0 || cfgw_str(n, "rule", &it->rule, err) != 0 ||
	    cfgw_str(n, "proxy", &it->proxy, err) != 0 || cfgw_bool(n, "udp", &it->udp, err) != 0)
		return -E_INVAL;
	if (parse_address(&it->ip, *it->listen != '\0' ? it->listen : "0.0.0.0") != 0)
		return cfg_fail(err, cfg_get(n, "listen"), "listen", "ParseAddr(\"%s\"): unable to parse IP", it->listen);
	ports = cfg_text(cfg_get(n, "port"));
	if (parse_ranges(&it->ports, ports != NULL ? ports : "", cfg_get(n, "port"), err) != 0)
		return -E_INVAL;
	return parse_users(g, n, &it->users, err);
}

/* Types that the reference knows; what the value says: nothing of it works yet. */
static bool
is_known_type(const char *type)
{
	static const char *const known[] = { "redir", "tproxy", "tun", "shadowsocks", "vmess", "vless", "trojan", "anytls",
		"snell", "tuic", "hysteria2", "hysteria2-realm", "mieru", "sudoku", "trusttunnel", "shadowquic" };
	size_t i;

	for (i = 0; i < countof(known); i++)
		if (str_equal(known[i], type))
			return true;
	return false;
}

static void
drop_named(struct gen *g, const char *name, unsigned line)
{
	int i, kept = 0, before = g->n_inbounds;

	for (i = 0; i < g->n_inbounds; i++)
		if (g->inbounds[i]->top_level || !str_equal(g->inbounds[i]->name, name))
			g->inbounds[kept++] = g->inbounds[i];
	g->n_inbounds = kept;
	if (kept < before)
		log_warn("line %u: listener %s is there twice: the last one counts", line, name);
}

static void
warn_keys(const struct cfg_node *n, int index, const struct inbound_type *t)
{
	static const char *const common[] = { "name", "type", "listen", "port", "udp", "users", "rule", "proxy" };
	static const char *const unspoken[] = { "routing-mark", "certificate", "private-key", "client-auth-type",
		"client-auth-cert", "ech-key", NULL };
	const char *known[countof(common) + 16];
	char where[32];
	size_t i, k = 0;

	for (i = 0; i < countof(common); i++)
		known[k++] = common[i];
	for (i = 0; t->keys != NULL && t->keys[i] != NULL && k + 1 < countof(known); i++)
		known[k++] = t->keys[i];
	known[k] = NULL;
	snprintf(where, sizeof(where), "listeners[%d]", index);
	cfg_warn_unknown(n, where, known, unspoken);
}

static int
make_item(struct gen *g, const struct cfg_node *n, const struct item *it, const struct inbound_type *t, struct cfg_err *err)
{
	int i;
	uint32_t port;

	for (i = 0; i < it->ports.n; i++) {
		for (port = it->ports.r[i].from; port <= it->ports.r[i].to; port++) {
			struct inbound *inb;

			if (port == 0)
				continue;
			if (g->n_inbounds == INBOUNDS_MAX)
				return cfg_fail(err, n, "port", "more than %d inbounds", INBOUNDS_MAX);
			inb = inbound_make(g, t, it->name, &it->ip, (uint16_t)port);
			inb->udp = it->udp && (t->needs & IN_DGRAM) != 0;
			inb->users = it->users;
			inb->acl = is_proxy_type(t) && it->users == NULL;
			inb->special_proxy = arena_strdup(&g->arena, it->proxy);
			inb->special_rules = arena_strdup(&g->arena, it->rule);
			if (t->init(inb, n, err) != 0 || add(g, inb, n, err) != 0)
				return -E_INVAL;
		}
	}
	return 0;
}

static int
parse_listener(struct gen *g, const struct cfg_node *n, int index, struct cfg_err *err)
{
	const struct inbound_type *t;
	struct item it;
	const char *pem;

	if (parse_item(g, n, &it, err) != 0)
		return -E_INVAL;
	t = find_type(it.type);
	if (t == NULL && !is_known_type(it.type))
		return cfg_fail(err, cfg_get(n, "type"), "type", "unsupport proxy type: %s", it.type);
	drop_named(g, it.name, n->line);
	pem = cfg_text(cfg_get(n, "certificate"));
	if (t == NULL || (pem != NULL && *pem != '\0')) {
		/* Never in clear what was asked for with TLS. */
		log_warn("line %u: listeners[%d] %s: %s%s does not work yet: it is not opened", n->line, index, it.name, it.type,
		    t != NULL ? " with TLS" : "");
		return 0;
	}
	warn_keys(n, index, t);
	if (it.ports.n == 0)
		log_warn("line %u: listeners[%d] %s has no port: it is not opened", n->line, index, it.name);
	if (*it.proxy != '\0' && outbound_find(g, it.proxy) == NULL)
		log_warn("line %u: listeners[%d] %s: proxy %s not found", n->line, index, it.name, it.proxy);
	return make_item(g, n, &it, t, err);
}

/* "proxy I: " goes before every text of an item, as in the reference. */
static int
prefix(struct cfg_err *err, int index)
{
	char text[sizeof(err->text)];

	str_copy(text, sizeof(text), err->text);
	snprintf(err->text, sizeof(err->text), "proxy %d: %.*s", index, (int)sizeof(text) - 32, text);
	return -E_INVAL;
}

static int
parse_listeners(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list;
	int index = 0;

	if (cfg_list_of_maps(cfg_get(root, "listeners"), "listeners", &list, err) != 0)
		return -E_INVAL;
	cfg_each(n, list) {
		if (parse_listener(g, n, index, err) != 0)
			return prefix(err, index);
		index++;
	}
	return 0;
}

/* ---- tunnels: */

static int
make_tunnel(struct gen *g, const struct cfg_node *n, bool tcp, bool udp, const char *address, const char *target, const char *proxy, bool strict,
    struct cfg_err *err)
{
	char host[HOST_MAX + 1];
	struct inbound *inb;
	struct ip ip;
	uint16_t port;

	if (hostport_parse(address, host, sizeof(host), &port) != 0 || parse_address(&ip, host) != 0) {
		if (strict)
			return cfg_fail(err, n, "tunnels", "invalid tunnel target or address %s", address);
		log_error("line %u: tunnel: invalid address %s", n->line, address);
		return 0;
	}
	inb = inbound_make(g, &inbound_tunnel, "", &ip, port);
	if (inbound_tunnel.init(inb, NULL, err) != 0)
		return -E_INVAL;
	inb->no_stream = !tcp;
	inb->udp = udp;
	inb->special_proxy = arena_strdup(&g->arena, proxy);
	if (tunnel_set_target(inb, target) != 0) {
		if (strict)
			return cfg_fail(err, n, "tunnels", "invalid tunnel target or address %s", target);
		log_error("line %u: tunnel: invalid target %s", n->line, target);
		return 0;
	}
	if (*proxy != '\0' && outbound_find(g, proxy) == NULL)
		return cfg_fail(err, n, "tunnels", "tunnel proxy %s not found", proxy);
	return port == 0 || (!tcp && !udp) ? 0 : add(g, inb, n, err);
}

/* "NETS,LISTEN,TARGET[,PROXY]" */
static int
parse_tunnel_text(struct gen *g, const struct cfg_node *n, struct cfg_err *err)
{
	const char *text = cfg_text(n);
	char *copy = arena_strdup(&g->arena, text), *part[TUNNEL_PARTS], *at = copy, *network, *next;
	bool tcp = false, udp = false;
	int k = 0;

	while (at != NULL) {
		if (k == TUNNEL_PARTS)
			return cfg_fail(err, n, "tunnels", "invalid tunnel config %s", text);
		part[k++] = strsep(&at, ",");
	}
	if (k < TUNNEL_PARTS - 1)
		return cfg_fail(err, n, "tunnels", "invalid tunnel config %s", text);
	network = arena_strdup(&g->arena, str_trim(part[0]));
	for (next = network; next != NULL;) {
		char *name = strsep(&next, "/");

		if (str_equal(name, "tcp"))
			tcp = true;
		else if (str_equal(name, "udp"))
			udp = true;
		else
			return cfg_fail(err, n, "tunnels", "invalid tunnel network %s", str_trim(part[0]));
	}
	return make_tunnel(
	    g, n, tcp, udp, str_trim(part[1]), str_trim(part[2]), k == TUNNEL_PARTS ? str_trim(part[3]) : "", true, err);
}

static int
parse_tunnel_map(struct gen *g, const struct cfg_node *n, struct cfg_err *err)
{
	const char *address = "", *target = "", *proxy = "";
	const struct cfg_node *list;
	bool tcp = false, udp = false;

	if (cfg_list(cfg_get(n, "network"), "network", &list, err) != 0 ||
	    cfg_str(cfg_get(n, "address"), "address", &address, err) != 0 ||
	    cfg_str(cfg_get(n, "target"), "target", &target, err) != 0 || cfg_str(cfg_get(n, "proxy"), "proxy", &proxy, err) != 0)
		return -E_INVAL;
	cfg_each(item, list) {
		tcp |= str_equal(cfg_text(item), "tcp");
		udp |= str_equal(cfg_text(item), "udp");
	}
	return make_tunnel(g, n, tcp, udp, address, target, proxy, false, err);
}

static int
parse_tunnels(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list = cfg_get(root, "tunnels");

	if (cfg_is_null(list))
		return 0;
	if (list->type != CFG_LIST)
		return cfg_mismatch(err, list, "tunnels", "[]config.Tunnel");
	cfg_each(n, list) {
		if (n->type == CFG_LIST)
			return cfg_mismatch(err, n, "tunnels", "config.tunnel");
		if ((n->type == CFG_MAP ? parse_tunnel_map(g, n, err) : parse_tunnel_text(g, n, err)) != 0)
			return -E_INVAL;
	}
	return 0;
}

int
inbounds_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	g->inbounds = arena_array(&g->arena, INBOUNDS_MAX, sizeof(struct inbound *));
	g->n_inbounds = 0;
	warn_unspoken_ports(g);
	if (parse_authentication(g, root, err) != 0)
		return -E_INVAL;
	g->n_inbounds = inbounds_ports(g, g->inbounds, INBOUNDS_MAX);	/* there are no others yet */
	return parse_listeners(g, root, err) != 0 || parse_tunnels(g, root, err) != 0 ? -E_INVAL : 0;
}
