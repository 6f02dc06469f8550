/* SPDX-License-Identifier: MIT */
/* `proxies:` of the configuration: the common keys of every node, the TLS keys, names, the built-ins, and what dialer-proxy
 * refers to. Called by apply.c (and by providers for single nodes). Everything made here lives in the generation's arena.
 * Error texts: spec/config.md 1 and 8. */
#include <ctype.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/outbound/handshake.h"
#include "worker/outbound/types.h"

enum { KEYS_MAX = 64 };		/* known keys of one type, common ones included */

int
outbound_err_prefix(struct cfg_err *err, const char *fmt, ...)
{
	char prefix[sizeof(err->text)], text[sizeof(err->text)];
	va_list ap;

	if (err == NULL)
		return -E_INVAL;
	va_start(ap, fmt);
	(void)vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	(void)str_copy(text, sizeof(text), err->text);
	if (str_copy(err->text, sizeof(err->text), prefix) < sizeof(err->text))
		(void)str_copy(err->text + strlen(prefix), sizeof(err->text) - strlen(prefix), text);
	return -E_INVAL;
}

struct outbound *
outbound_new(struct gen *g, const struct outbound_type *type, const char *name)
{
	struct outbound *ob = arena_alloc(&g->arena, type->size);

	ob->type = type;
	ob->gen = g;
	ob->name = name;
	ob->flags = type->flags;
	ob->dialer_proxy = ob->provider = "";
	ob->history.alive = true;
	ob->index = -1;
	uuid_make(ob->id);
	return ob;
}

/* ---- TLS keys */

static int
parse_fingerprint(struct outbound *ob, const struct cfg_node *item, const char *text, const char **out, struct cfg_err *err)
{
	char hex[65];
	size_t n = 0;

	for (; *text != '\0'; text++) {
		if (*text == ':')
			continue;
		if (!isxdigit((unsigned char)*text) || n == 64)
			return cfg_fail(err, item, "fingerprint", "fingerprint is not the SHA-256 of a certificate in hex");
		hex[n++] = (char)tolower((unsigned char)*text);
	}
	if (n != 0 && n != 64)
		return cfg_fail(err, item, "fingerprint", "fingerprint string length error,need sha256 fingerprint");
	hex[n] = '\0';
	*out = arena_strdup(&ob->gen->arena, hex);
	return 0;
}

int
node_tls_parse(struct outbound *ob, const struct cfg_node *item, const char *sni_key, struct node_tls *out, struct cfg_err *err)
{
	const char *fingerprint = "", *sni = "";

	if (cfgw_bool(item, "tls", &out->on, err) != 0 || cfgw_bool(item, "skip-cert-verify", &out->opts.skip_verify, err) != 0 ||
	    cfgw_str(item, "fingerprint", &fingerprint, err) != 0 || (sni_key != NULL && cfgw_str(item, sni_key, &sni, err) != 0))
		return -E_INVAL;
	out->opts.server_name = sni[0] != '\0' ? arena_strdup(&ob->gen->arena, sni) : ob->server;
	return parse_fingerprint(ob, item, fingerprint, &out->opts.fingerprint, err);
}

struct stream *
node_dial(struct outbound *ob, const struct dial *dial, const struct node_tls *tls)
{
	struct stream *s = dialer_server(ob, dial);

	return s != NULL && tls->on ? tls_client(s, &tls->opts) : s;
}

/* ---- one node */

static const char *const common_keys[] = { "name", "type", "server", "port", "udp", "ip-version", "interface-name", "tfo",
    "mptcp", "dialer-proxy", NULL };
static const char *const later_keys[] = { "smux", "routing-mark", "certificate", "private-key", "name-cert-verify",
    "client-fingerprint", "alpn",
	"ech-opts", "reality-opts", NULL };

static void
warn_keys(const struct outbound *ob, const struct cfg_node *item, const char *path)
{
	const char *known[KEYS_MAX];
	char where[160];
	int n = 0;

	if (ob->type->keys == NULL || ob->gen->quiet_nodes)
		return;
	for (int i = 0; common_keys[i] != NULL && n < KEYS_MAX - 1; i++)
		known[n++] = common_keys[i];
	for (int i = 0; ob->type->keys[i] != NULL && n < KEYS_MAX - 1; i++)
		known[n++] = ob->type->keys[i];
	known[n] = NULL;
	(void)snprintf(where, sizeof(where), "%s%.100s", path, ob->name);
	cfg_warn_unknown(item, where, known, later_keys);
}

/* An unknown word is the default, as in the reference, but said. */
static enum ip_version
parse_ip_version(const struct outbound *ob, const char *s)
{
	static const char *const names[] = { "dual", "ipv4", "ipv6", "ipv4-prefer", "ipv6-prefer" };

	for (size_t i = 0; i < countof(names); i++)
		if (str_case_equal(s, names[i]))
			return (enum ip_version)i;
	if (s[0] != '\0')
		log_warn("proxy %s: ip-version %s is unknown: dual is used", ob->name, s);
	return IPV_DUAL;
}

static int
parse_common(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	struct arena *a = &ob->gen->arena;
	const char *server = NULL, *version = "", *iface = "", *dialer = "";
	int64_t port = 0, mark = 0;
	bool udp = false;

	if (cfgw_str(item, "server", &server, err) != 0 || cfgw_int(item, "port", 0, 65535, &port, err) != 0 ||
	    cfgw_bool(item, "udp", &udp, err) != 0 || cfgw_str(item, "ip-version", &version, err) != 0 ||
	    cfgw_str(item, "interface-name", &iface, err) != 0 ||
	    cfgw_int(item, "routing-mark", 0, UINT32_MAX, &mark, err) != 0 || cfgw_bool(item, "tfo", &ob->tcp.tfo, err) != 0 ||
	    cfgw_bool(item, "mptcp", &ob->tcp.mptcp, err) != 0 || cfgw_str(item, "dialer-proxy", &dialer, err) != 0)
		return -E_INVAL;
	if (strlen(iface) >= IFNAMSIZ)
		return cfg_fail(err, item, "interface-name", "interface-name %.32s is longer than %d bytes", iface, IFNAMSIZ - 1);
	if (server != NULL && strlen(server) > HOST_MAX)
		return cfg_fail(err, item, "server", "server is longer than %d bytes", HOST_MAX);
	ob->server = arena_strdup(a, server);
	ob->port = (uint16_t)port;
	ob->ip_version = parse_ip_version(ob, version);
	ob->tcp.iface = iface[0] != '\0' ? arena_strdup(a, iface) : NULL;
	ob->tcp.mark = (uint32_t)mark;
	ob->dialer_proxy = arena_strdup(a, dialer);
	if (udp)
		ob->flags |= OB_UDP;
	return 0;
}

/* Whether a type is remote is what its row says by needing a server; the spoken ones are listed here. */
static bool
is_remote(const struct outbound_type *t)
{
	return t == &outbound_socks5 || t == &outbound_http;
}

static const struct outbound_type *
type_find(const char *name)
{
	for (int i = 0; outbound_types[i] != NULL; i++)
		if (strcmp(outbound_types[i]->name, name) == 0)
			return outbound_types[i];
	for (int i = 0; unspoken_types[i].name != NULL; i++)
		if (strcmp(unspoken_types[i].name, name) == 0)
			return &unspoken_types[i];
	return NULL;
}

static struct outbound *
parse_node(struct gen *g, const struct cfg_node *item, const char *path, struct cfg_err *err)
{
	const struct outbound_type *type;
	const char *type_name = NULL, *name = NULL, *needed = "";
	struct outbound *ob;
	int64_t port;

	if (cfg_is_null(cfg_get(item, "type")) || cfgw_str(item, "type", &type_name, err) != 0) {
		(void)cfg_fail(err, item, "type", "missing type");
		return NULL;
	}
	type = type_find(type_name);
	if (type == NULL || (type->flags & OB_BUILTIN) != 0) {
		(void)cfg_fail(err, cfg_get(item, "type"), "type", "unsupport proxy type: %.64s", type_name);
		return NULL;
	}
	if (cfgw_str_required(item, "name", &name, err) != 0)
		return NULL;
	ob = outbound_new(g, type, arena_strdup(&g->arena, name));
	if (parse_common(ob, item, err) != 0)
		return NULL;
	if (is_remote(type) && (cfgw_str_required(item, "server", &needed, err) != 0 ||
	    cfgw_int_required(item, "port", 0, 65535, &port, err) != 0))
		return NULL;
	if (type->init != NULL && type->init(ob, item, err) != 0)
		return NULL;
	warn_keys(ob, item, path);
	return ob;
}

struct outbound *
outbound_parse(struct gen *g, const struct cfg_node *item, const char *path, struct cfg_err *err)
{
	struct outbound *ob = parse_node(g, item, path, err);

	if (ob == NULL)
		(void)outbound_err_prefix(err, "%s", path);
	return ob;
}

/* ---- all nodes */

static struct outbound *
builtin(struct gen *g, const struct outbound_type *type, const char *name)
{
	struct outbound *ob = outbound_new(g, type, name);

	ob->flags |= OB_BUILTIN;
	(void)map_put(&g->proxies, name, ob);
	return ob;
}

static int
parse_list(struct gen *g, const struct cfg_node *list, struct cfg_err *err)
{
	char path[32];
	int i = 0;

	cfg_each(item, list) {
		struct outbound *ob;

		(void)snprintf(path, sizeof(path), "proxy %d: ", i);
		ob = outbound_parse(g, item, path, err);
		if (ob == NULL)
			return -E_INVAL;
		if (map_put(&g->proxies, ob->name, ob) != 0)
			return cfg_fail(err, item, "name", "proxy %s is the duplicate name", ob->name);
		ob->index = i;
		g->outbounds[i++] = ob;
		g->n_outbounds = i;
	}
	return 0;
}

int
outbounds_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list;

	g->direct = builtin(g, &outbound_direct, "DIRECT");
	g->reject = builtin(g, &outbound_reject, "REJECT");
	g->reject_drop = builtin(g, &outbound_reject_drop, "REJECT-DROP");
	g->compatible = builtin(g, &outbound_compatible, "COMPATIBLE");
	g->pass = builtin(g, &outbound_pass, "PASS");
	if (cfg_list_of_maps(cfg_get(root, "proxies"), "proxies", &list, err) != 0)
		return -E_INVAL;
	g->outbounds = arena_array(&g->arena, cfg_count(list) + 1, sizeof(struct outbound *));
	return parse_list(g, list, err);
}

/* ---- dialer-proxy */

/* A node whose way leads back to itself without a group in between can never be dialled. Through a group it depends on the
 * choice: that is refused when it happens (DIAL_DEPTH_MAX). */
static bool
has_loop(const struct outbound *ob)
{
	const struct outbound *at = ob->dialer;

	for (int i = 0; at != NULL && i < DIAL_DEPTH_MAX; i++) {
		if (at == ob)
			return true;
		at = at->dialer;
	}
	return at != NULL;
}

int
outbounds_link(struct gen *g, struct cfg_err *err)
{
	for (int i = 0; i < g->n_outbounds; i++) {
		struct outbound *ob = g->outbounds[i];

		if (ob->dialer_proxy[0] == '\0')
			continue;
		ob->dialer = outbound_find(g, ob->dialer_proxy);
		if (ob->dialer == NULL)
			return cfg_fail(err, NULL, "dialer-proxy", "proxy %s: dialer-proxy '%s' not found", ob->name,
			    ob->dialer_proxy);
	}
	for (int i = 0; i < g->n_outbounds; i++)
		if (has_loop(g->outbounds[i]))
			return cfg_fail(err, NULL, "dialer-proxy",
			    "proxy %s: dialer-proxy leads back to itself or through more than %d nodes",
			    g->outbounds[i]->name, DIAL_DEPTH_MAX);
	return 0;
}
