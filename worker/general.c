/* SPDX-License-Identifier: MIT */
/* The general section: every key of spec/config.md 2 and of the small sections beside it (ntp, tls, experimental, iptables,
 * ...). Called by apply.c before anything else is built. Texts are lent by the tree, lists lie in the generation's arena.
 *
 * What the controller reads of the tree (external-*, secret, tls, external-ui) is checked here too, so that a wrong type
 * refuses the configuration whoever reads it first. */
#include <stddef.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "common/version.h"
#include "worker/gen.h"
#include "worker/general_show.h"
#include "worker/match/check.h"
#include "worker/match/cidr.h"
#include "worker/worker.h"

#define GEO_URL "https://github.com/MetaCubeX/meta-rules-dat/releases/download/latest/"

enum { PORT_MAX = 65535 };

static const char *const modes[] = { [MODE_RULE] = "rule", [MODE_GLOBAL] = "global", [MODE_DIRECT] = "direct", NULL };
static const char *const finds[] = { [FIND_ALWAYS] = "always", [FIND_STRICT] = "strict", [FIND_OFF] = "off", NULL };
static const char *const levels[] = { [LL_DEBUG] = "debug", [LL_INFO] = "info", [LL_WARNING] = "warning", [LL_ERROR] = "error",
	[LL_SILENT] = "silent", NULL };

static int
name_index(const char *const *names, const char *s)
{
	for (int i = 0; names[i] != NULL; i++)
		if (str_case_equal(names[i], s))
			return i;
	return -1;
}

int
general_mode_parse(const char *s)
{
	return name_index(modes, s);
}

const char *
general_mode_name(int mode)
{
	return mode >= MODE_RULE && mode <= MODE_DIRECT ? modes[mode] : "";
}

int
general_find_parse(const char *s)
{
	return name_index(finds, s);
}

const char *
general_find_name(int mode)
{
	return mode >= FIND_ALWAYS && mode <= FIND_OFF ? finds[mode] : "";
}

void
general_defaults(struct gen *g)
{
	struct prefix *all = arena_array(&g->arena, 2, sizeof *all);

	all[0].ip.family = 4;
	all[1].ip.family = 6;
	g->general = (struct general){
		.bind_address = "*",
		.lan_allowed = { .p = all, .n = 2, .set = true },
		.mode = MODE_RULE,
		.log_level = LL_INFO,
		.ipv6 = true,
		.interface_name = "",
		.find_process = FIND_STRICT,
		.ss_config = "",
		.vmess_config = "",
		.etag_support = true,
		.geodata_mode = g->w != NULL && g->w->geodata_flag,
		.geo_update_interval = 24,
		.geodata_loader = "memconservative",
		.geosite_matcher = "succinct",
		.global_ua = "clash.meta/" SLUICE_COMPAT,
		.client_fingerprint = "",
		.geox_geoip = GEO_URL "geoip.dat",
		.geox_mmdb = GEO_URL "geoip.metadb",
		.geox_asn = GEO_URL "GeoLite2-ASN.mmdb",
		.geox_geosite = GEO_URL "geosite.dat",
		.store_selected = true,
	};
}

/* ---- values that struct general keeps */

enum kind { KIND_INT64, KIND_PORT, KIND_BOOL, KIND_STR };
struct field {
	const char *key;
	enum kind kind;
	size_t at;
	bool later;
};
#define FIELD(key, kind, member) { key, kind, offsetof(struct general, member), false }
#define LATER(key, kind, member) { key, kind, offsetof(struct general, member), true }

static const struct field fields[] = {
	FIELD("port", KIND_PORT, port), FIELD("socks-port", KIND_PORT, socks_port), FIELD("mixed-port", KIND_PORT, mixed_port),
	LATER("redir-port", KIND_PORT, redir_port), LATER("tproxy-port", KIND_PORT, tproxy_port),
	FIELD("allow-lan", KIND_BOOL, allow_lan), FIELD("bind-address", KIND_STR, bind_address),
	FIELD("ipv6", KIND_BOOL, ipv6), FIELD("unified-delay", KIND_BOOL, unified_delay), FIELD("tcp-concurrent", KIND_BOOL,
	    tcp_concurrent),
	FIELD("inbound-tfo", KIND_BOOL, inbound_tfo), FIELD("inbound-mptcp", KIND_BOOL, inbound_mptcp),
	FIELD("interface-name", KIND_STR, interface_name), LATER("routing-mark", KIND_INT64, routing_mark),
	FIELD("keep-alive-idle", KIND_INT64, keep_alive_idle), FIELD("keep-alive-interval", KIND_INT64, keep_alive_interval),
	FIELD("disable-keep-alive", KIND_BOOL, disable_keep_alive),
	LATER("ss-config", KIND_STR, ss_config), LATER("vmess-config", KIND_STR, vmess_config),
	FIELD("geodata-mode", KIND_BOOL, geodata_mode), FIELD("geo-auto-update", KIND_BOOL, geo_auto_update),
	FIELD("geo-update-interval", KIND_INT64, geo_update_interval), FIELD("geodata-loader", KIND_STR, geodata_loader),
	FIELD("geosite-matcher", KIND_STR, geosite_matcher), FIELD("etag-support", KIND_BOOL, etag_support),
	FIELD("global-ua", KIND_STR, global_ua), LATER("global-client-fingerprint", KIND_STR, client_fingerprint),
};
static const struct field geox_fields[] = {
	FIELD("geoip", KIND_STR, geox_geoip), FIELD("mmdb", KIND_STR, geox_mmdb), FIELD("asn", KIND_STR, geox_asn),
	FIELD("geosite", KIND_STR, geox_geosite),
};
static const struct field profile_fields[] = {
	FIELD("store-selected", KIND_BOOL, store_selected), FIELD("store-fake-ip", KIND_BOOL, store_fake_ip),
};

/* The reference takes any number and fails to listen, which it only logs. */
static int
get_port(const struct cfg_node *n, const char *key, int *out, struct cfg_err *err)
{
	int64_t v = *out;
	int rc = cfg_int(n, key, INT64_MIN, INT64_MAX, &v, err);

	if (rc != 0)
		return rc;
	if (v < 0 || v > PORT_MAX) {
		log_error("line %u: %s: %lld is no port: nothing listens", n->line, key, (long long)v);
		v = 0;
	}
	*out = (int)v;
	return 0;
}

static int
get_field(struct general *o, const struct cfg_node *section, const struct field *f, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(section, f->key);
	char *at = (char *)o + f->at;
	bool set = false;
	int rc = 0;

	if (cfg_is_null(n))
		return 0;
	switch (f->kind) {
	case KIND_INT64:
		rc = cfg_int(n, f->key, INT64_MIN, INT64_MAX, (int64_t *)(void *)at, err);
		set = rc == 0 && *(int64_t *)(void *)at != 0;
		break;
	case KIND_PORT:
		rc = get_port(n, f->key, (int *)(void *)at, err);
		set = rc == 0 && *(int *)(void *)at != 0;
		break;
	case KIND_BOOL:
		rc = cfg_bool(n, f->key, (bool *)at, err);
		set = rc == 0 && *(bool *)at;
		break;
	case KIND_STR:
		rc = cfg_str(n, f->key, (const char **)(void *)at, err);
		set = rc == 0 && (*(const char **)(void *)at)[0] != '\0';
		break;
	}
	if (f->later && set)
		log_warn("line %u: %s does not work yet and is ignored", n->line, f->key);
	return rc;
}

static int
get_fields(struct general *o, const struct cfg_node *section, const char *name, const struct field *f, size_t n,
    struct cfg_err *err)
{
	if (section != NULL && section->type != CFG_MAP && section->type != CFG_NULL)
		return cfg_mismatch(err, section, name, "map[string]interface {}");
	for (size_t i = 0; i < n; i++) {
		int rc = get_field(o, section, &f[i], err);

		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- enums, prefixes, users: their errors win over wrong types (spec/config.md 1) */

static int
get_enums(struct general *o, const struct cfg_node *root, struct cfg_err *err)
{
	int rc = cfg_enum(cfg_get(root, "mode"), "mode", modes, "invalid mode", &o->mode, err);

	if (rc == 0)		/* the same text in the reference */
		rc = cfg_enum(cfg_get(root, "log-level"), "log-level", levels, "invalid mode", &o->log_level, err);
	if (rc == 0)
		rc = cfg_enum(cfg_get(root, "find-process-mode"), "find-process-mode", finds, "invalid find process mode",
		    &o->find_process, err);
	return rc;
}

static int
get_prefixes(struct gen *g, const struct cfg_node *root, const char *key, struct prefix_list *out, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(root, key);
	struct prefix_list list = { 0 };
	int rc;

	if (n == NULL)
		return 0;
	rc = check_value(n, key, CHECK_PREFIXES, err);
	if (rc != 0)
		return rc;
	/* null empties the list; of lan-allowed-ips that is to allow nobody, in the reference too */
	list.set = !cfg_is_null(n) || out->set;
	list.p = arena_array(&g->arena, cfg_count(n) + 1, sizeof *list.p);
	cfg_each(c, n)
		if (prefix_parse(&list.p[list.n], cfg_text(c)) == 0)
			list.n++;
	*out = list;
	return 0;
}

static int
get_users(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *list;
	int rc = cfg_list(cfg_get(root, "authentication"), "authentication", &list, err), bad = 0;

	if (rc != 0)
		return rc;
	g->general.auth_users = arena_array(&g->arena, cfg_count(list) + 1, sizeof *g->general.auth_users);
	g->general.n_auth = 0;
	cfg_each(c, list) {
		if (strchr(cfg_text(c), ':') != NULL)
			g->general.auth_users[g->general.n_auth++] = cfg_text(c);
		else
			bad++;
	}
	if (bad != 0)		/* the text may be a password: not shown */
		log_warn("authentication: %d entries without ':' are ignored", bad);
	return 0;
}

/* ---- what is only checked */

static const struct check top[] = {
	{ "external-controller", CHECK_STR, false }, { "external-controller-tls", CHECK_STR, false },
	{ "external-controller-unix", CHECK_STR, false }, { "external-controller-pipe", CHECK_STR, true },
	{ "external-controller-routing-mark", CHECK_INT, true }, { "external-doh-server", CHECK_STR, false },
	{ "secret", CHECK_STR, false },
	{ "external-ui", CHECK_STR, false }, { "external-ui-name", CHECK_STR, false }, { "external-ui-url", CHECK_STR, false },
	{ NULL, CHECK_ANY, false }
};
static const struct check cors[] = {
	{ "allow-origins", CHECK_STRS, false }, { "allow-private-network", CHECK_BOOL, false }, { NULL, CHECK_ANY, false }
};
static const struct check tls[] = {
	{ "certificate", CHECK_STR, false }, { "private-key", CHECK_STR, false }, { "custom-certifactes", CHECK_STRS, false },
	{ "client-auth-type", CHECK_STR, true }, { "client-auth-cert", CHECK_STR, true }, { "ech-key", CHECK_STR, true },
	{ NULL, CHECK_ANY, false }
};
static const struct check ntp[] = {
	{ "enable", CHECK_BOOL, true }, { "server", CHECK_STR, false }, { "port", CHECK_INT, false },
	{ "server-port", CHECK_INT, false },
	{ "interval", CHECK_INT, false }, { "write-to-system", CHECK_BOOL, false }, { "dialer-proxy", CHECK_STR, false },
	{ NULL, CHECK_ANY, false }
};
static const struct check experimental[] = {
	{ "quic-go-disable-gso", CHECK_BOOL, false }, { "quic-go-disable-ecn", CHECK_BOOL, false },
	{ "dialer-ip4p-convert", CHECK_BOOL, true },
	{ "fingerprints", CHECK_STRS, false }, { NULL, CHECK_ANY, false }
};
static const struct check iptables[] = {
	{ "enable", CHECK_BOOL, true }, { "inbound-interface", CHECK_STR, false }, { "bypass", CHECK_STRS, false },
	{ "dns-redirect", CHECK_BOOL, false }, { NULL, CHECK_ANY, false }
};
static const struct check profile[] = {
	{ "store-selected", CHECK_BOOL, false }, { "store-fake-ip", CHECK_BOOL, false }, { "tracing", CHECK_ANY, false },
	{ NULL, CHECK_ANY, false }
};
static const struct check geox[] = {
	{ "geoip", CHECK_STR, false }, { "geosite", CHECK_STR, false }, { "mmdb", CHECK_STR, false }, { "asn", CHECK_STR, false },
	{ NULL, CHECK_ANY, false }
};
static const struct check android[] = {
	{ "append-system-dns", CHECK_BOOL, false }, { "ui-subtitle-pattern", CHECK_STR, false }, { NULL, CHECK_ANY, false }
};
static const struct {
	const char *name;
	const struct check *keys;
} small[] = {
	{ "external-controller-cors", cors }, { "tls", tls }, { "ntp", ntp }, { "experimental", experimental },
	{ "iptables", iptables },
	{ "profile", profile }, { "geox-url", geox }, { "clash-for-android", android },
};
/* Read elsewhere. */
static const char *const others[] = { "sluice", "mode", "log-level", "find-process-mode", "lan-allowed-ips",
    "lan-disallowed-ips", "authentication",
	"skip-auth-prefixes", "hosts", "dns", "sniffer", "tun", "tuic-server", "tunnels", "listeners", "proxies", "proxy-groups",
	    "proxy-providers",
	"rule-providers", "rules", "sub-rules" };

static int
check_small(const struct cfg_node *root, struct cfg_err *err)
{
	for (size_t i = 0; i < countof(small); i++) {
		int rc = check_section(cfg_get(root, small[i].name), small[i].name, small[i].keys, err);

		if (rc != 0)
			return rc;
	}
	for (const struct check *c = top; c->key != NULL; c++) {
		const struct cfg_node *n = cfg_get(root, c->key);
		int rc = check_value(n, c->key, c->type, err);

		if (rc != 0)
			return rc;
		if (c->later && !cfg_is_null(n) && cfg_text(n)[0] != '\0' && strcmp(cfg_text(n), "0") != 0)
			log_warn("line %u: %s does not work yet and is ignored", n->line, c->key);
	}
	return 0;
}

/* People keep anchors under keys of their own, so these are no errors. */
static void
warn_unknown(const struct cfg_node *root)
{
	const char *known[countof(fields) + countof(top) + countof(small) + countof(others) + 1];
	size_t n = 0;

	for (size_t i = 0; i < countof(fields); i++)
		known[n++] = fields[i].key;
	for (size_t i = 0; top[i].key != NULL; i++)
		known[n++] = top[i].key;
	for (size_t i = 0; i < countof(small); i++)
		known[n++] = small[i].name;
	for (size_t i = 0; i < countof(others); i++)
		known[n++] = others[i];
	known[n] = NULL;
	cfg_warn_unknown(root, "configuration", known, NULL);
}

int
general_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	struct general *o = &g->general;
	int rc;

	if (root == NULL || root->type != CFG_MAP)
		return cfg_fail(err, root, NULL, "cannot unmarshal %s into config.RawConfig", root != NULL ?
		    cfg_tag(root) : "!!null");
	rc = get_enums(o, root, err);
	if (rc == 0)
		rc = get_prefixes(g, root, "lan-allowed-ips", &o->lan_allowed, err);
	if (rc == 0)
		rc = get_prefixes(g, root, "lan-disallowed-ips", &o->lan_disallowed, err);
	if (rc == 0)
		rc = get_prefixes(g, root, "skip-auth-prefixes", &o->skip_auth, err);
	if (rc == 0)
		rc = get_fields(o, root, "", fields, countof(fields), err);
	if (rc == 0)
		rc = get_fields(o, cfg_get(root, "geox-url"), "geox-url", geox_fields, countof(geox_fields), err);
	if (rc == 0)
		rc = get_fields(o, cfg_get(root, "profile"), "profile", profile_fields, countof(profile_fields), err);
	if (rc == 0)
		rc = get_users(g, root, err);
	if (rc == 0)
		rc = check_small(root, err);
	if (rc != 0)
		return rc;
	o->tun = cfg_get(root, "tun");
	o->tuic_server = cfg_get(root, "tuic-server");
	o->sniffing = check_on(cfg_get(root, "sniffer"), "enable");
	warn_unknown(root);
	return 0;
}
