/* SPDX-License-Identifier: MIT */
/* GET /configs (spec/api.md 3.8): every key, always, in the reference's order. Called by query.c; owns nothing. tun and
 * tuic-server do not run yet: they are shown as written, but not enabled. */
#include "worker/general_show.h"

#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "common/value.h"

static const char masked[] = "***";

static void
key_secret(struct wire *w, const char *key, const char *s)
{
	value_key_str(w, key, s[0] != '\0' ? masked : "");
}

static void
key_prefixes(struct wire *w, const char *key, const struct prefix_list *list)
{
	char text[ADDR_TEXT_MAX];

	value_key(w, key);
	if (!list->set) {
		value_null(w);
		return;
	}
	value_list(w);
	for (int i = 0; i < list->n; i++)
		value_str(w, prefix_text(&list->p[i], text));
	value_list_end(w);
}

static void
show_users(struct wire *w, const struct general *o)
{
	value_key(w, "authentication");
	if (o->n_auth == 0) {
		value_null(w);
		return;
	}
	value_list(w);
	for (int i = 0; i < o->n_auth; i++)
		value_strn(w, o->auth_users[i], strcspn(o->auth_users[i], ":"));
	value_list_end(w);
}

/* ---- sections that are shown as they were written: the parsers have checked every type */

enum shape { SHAPE_BOOL, SHAPE_INT, SHAPE_STR, SHAPE_LIST, SHAPE_INTS, SHAPE_SECRET, SHAPE_SECRETS, SHAPE_SECRET_MAP };
struct member {
	const char *key;
	enum shape shape;
	bool always;		/* shown even when it is empty */
	const char *text;	/* default of a string, or the only item of a list's; NULL: empty */
	int64_t number;		/* default of a number or boolean */
};

static void
show_list(struct wire *w, const struct cfg_node *n, const struct member *m)
{
	value_list(w);
	if (n == NULL && m->text != NULL)
		value_str(w, m->text);
	if (n != NULL && n->type == CFG_SCALAR)
		value_str(w, cfg_text(n));
	cfg_each(c, n) {
		int64_t v = 0;

		if (m->shape == SHAPE_INTS && cfg_int(c, "", 0, UINT32_MAX, &v, NULL) == 0)
			value_int(w, v);
		else
			value_str(w, m->shape == SHAPE_SECRETS ? masked : cfg_text(c));
	}
	value_list_end(w);
}

static void
show_secret_map(struct wire *w, const struct cfg_node *n)
{
	value_map(w);
	cfg_each(c, n)
		if (cfg_key(c) != NULL)
			value_key_str(w, cfg_key(c), masked);
	value_map_end(w);
}

static void
show_member(struct wire *w, const struct cfg_node *section, const struct member *m)
{
	const struct cfg_node *n = cfg_get(section, m->key);
	const char *text = m->text != NULL ? m->text : "";
	int64_t number = m->number;
	bool on = m->number != 0;

	if (cfg_is_null(n) && n != NULL && m->shape >= SHAPE_LIST && !m->always)
		return;		/* emptied */
	switch (m->shape) {
	case SHAPE_BOOL:
		if (cfg_bool(n, "", &on, NULL) == 0 && (on || m->always))
			value_key_bool(w, m->key, on);
		break;
	case SHAPE_INT:
		if (cfg_int(n, "", INT64_MIN, INT64_MAX, &number, NULL) == 0 && (number != 0 || m->always))
			value_key_int(w, m->key, number);
		break;
	case SHAPE_STR:
	case SHAPE_SECRET:
		if (cfg_str(n, "", &text, NULL) == 0 && (text[0] != '\0' || m->always))
			value_key_str(w, m->key, m->shape == SHAPE_SECRET && text[0] != '\0' ? masked : text);
		break;
	case SHAPE_LIST:
	case SHAPE_INTS:
	case SHAPE_SECRETS:
		if (!m->always && (n == NULL ? m->text == NULL : n->type == CFG_LIST && cfg_count(n) == 0))
			break;
		value_key(w, m->key);
		if (n != NULL && cfg_is_null(n))
			value_null(w);
		else
			show_list(w, n, m);
		break;
	case SHAPE_SECRET_MAP:
		if (cfg_count(n) == 0)
			break;
		value_key(w, m->key);
		show_secret_map(w, n);
		break;
	}
}

static void
show_members(struct wire *w, const struct cfg_node *section, const struct member *m)
{
	for (; m->key != NULL; m++)
		show_member(w, section, m);
}

static const char *
stack_name(const struct cfg_node *tun)
{
	static const char *const names[] = { "gVisor", "System", "Mixed" };
	const char *s = cfg_text(cfg_get(tun, "stack"));

	for (size_t i = 0; s != NULL && i < countof(names); i++)
		if (str_case_equal(s, names[i]))
			return names[i];
	return names[0];
}

/* The first address of the fake-ip range with /30, if fake-ip is on. */
static const char *
tun_address(const struct gen *g, char text[static ADDR_TEXT_MAX])
{
	const struct cfg_node *dns = cfg_get(g->root, "dns");
	const char *mode = cfg_text(cfg_get(dns, "enhanced-mode")), *range = cfg_text(cfg_get(dns, "fake-ip-range"));
	struct prefix p = { 0 };

	if (mode == NULL || !str_case_equal(mode, "fake-ip") || range == NULL || prefix_parse(&p, range) != 0 || p.ip.family != 4)
		(void)prefix_parse(&p, "198.18.0.1/16");
	p.bits = 30;
	return prefix_text(&p, text);
}

static void
show_tun(struct wire *w, const struct gen *g)
{
	static const struct member before[] = {
		{ "dns-hijack", SHAPE_LIST, true, "0.0.0.0:53", 0 }, { "auto-route", SHAPE_BOOL, true, NULL, 1 },
		{ "auto-detect-interface", SHAPE_BOOL, true, NULL, 1 }, { "mtu", SHAPE_INT, false, NULL, 0 },
		{ "gso", SHAPE_BOOL, false, NULL, 0 },
		{ "gso-max-size", SHAPE_INT, false, NULL, 0 }, { 0 }
	};
	static const struct member inet6[] = { { "inet6-address", SHAPE_LIST, false, "fdfe:dcba:9876::1/126", 0 }, { 0 } };
	static const struct member after[] = {
		{ "iproute2-table-index", SHAPE_INT, false, NULL, 0 }, { "iproute2-rule-index", SHAPE_INT, false, NULL, 0 },
		{ "auto-redirect", SHAPE_BOOL, false, NULL, 0 }, { "auto-redirect-input-mark", SHAPE_INT, false, NULL, 0 },
		{ "auto-redirect-output-mark", SHAPE_INT, false, NULL, 0 }, { "strict-route", SHAPE_BOOL, false, NULL, 0 },
		{ "route-address", SHAPE_LIST, false, NULL, 0 }, { "route-address-set", SHAPE_LIST, false, NULL, 0 },
		{ "route-exclude-address", SHAPE_LIST, false, NULL, 0 }, { "route-exclude-address-set", SHAPE_LIST, false, NULL,
		    0 },
		{ "include-interface", SHAPE_LIST, false, NULL, 0 }, { "exclude-interface", SHAPE_LIST, false, NULL, 0 },
		{ "include-uid", SHAPE_INTS, false, NULL, 0 }, { "include-uid-range", SHAPE_LIST, false, NULL, 0 },
		{ "exclude-uid", SHAPE_INTS, false, NULL, 0 }, { "exclude-uid-range", SHAPE_LIST, false, NULL, 0 },
		{ "include-android-user", SHAPE_INTS, false, NULL, 0 }, { "include-package", SHAPE_LIST, false, NULL, 0 },
		{ "exclude-package", SHAPE_LIST, false, NULL, 0 }, { "endpoint-independent-nat", SHAPE_BOOL, false, NULL, 0 },
		{ "udp-timeout", SHAPE_INT, false, NULL, 0 }, { "file-descriptor", SHAPE_INT, true, NULL, 0 },
		{ "inet4-route-address", SHAPE_LIST, false, NULL, 0 }, { "inet6-route-address", SHAPE_LIST, false, NULL, 0 },
		{ "inet4-route-exclude-address", SHAPE_LIST, false, NULL, 0 },
		{ "inet6-route-exclude-address", SHAPE_LIST, false, NULL, 0 }, { 0 }
	};
	const struct cfg_node *tun = g->general.tun;
	const char *device = cfg_text(cfg_get(tun, "device"));
	char text[ADDR_TEXT_MAX];

	value_key(w, "tun");
	value_map(w);
	value_key_bool(w, "enable", false);
	value_key_str(w, "device", device);
	value_key_str(w, "stack", stack_name(tun));
	show_members(w, tun, before);
	value_key(w, "inet4-address");
	value_list(w);
	value_str(w, tun_address(g, text));
	value_list_end(w);
	if (g->general.ipv6)
		show_members(w, tun, inet6);
	show_members(w, tun, after);
	value_map_end(w);
}

static void
show_tuic(struct wire *w, const struct cfg_node *tuic)
{
	static const struct member members[] = {
		{ "listen", SHAPE_STR, true, NULL, 0 }, { "token", SHAPE_SECRETS, false, NULL, 0 },
		{ "users", SHAPE_SECRET_MAP, false, NULL, 0 },
		{ "certificate", SHAPE_STR, true, NULL, 0 }, { "private-key", SHAPE_SECRET, true, NULL, 0 },
		{ "congestion-controller", SHAPE_STR, false, NULL, 0 }, { "max-idle-time", SHAPE_INT, false, NULL, 15000 },
		{ "authentication-timeout", SHAPE_INT, false, NULL, 1000 }, { "alpn", SHAPE_LIST, false, "h3", 0 },
		{ "max-udp-relay-packet-size", SHAPE_INT, false, NULL, 1500 },
		{ "max-datagram-frame-size", SHAPE_INT, false, NULL, 0 },
		{ "cwnd", SHAPE_INT, false, NULL, 0 }, { 0 }
	};

	value_key(w, "tuic-server");
	value_map(w);
	value_key_bool(w, "enable", false);
	show_members(w, tuic, members);
	value_key(w, "mux-option");
	value_map(w);
	value_key(w, "brutal");
	value_map(w);
	value_key_bool(w, "enabled", false);
	value_map_end(w);
	value_map_end(w);
	value_map_end(w);
}

static void
show_first(struct wire *w, const struct gen *g)
{
	const struct general *o = &g->general;

	value_key_int(w, "port", o->port);
	value_key_int(w, "socks-port", o->socks_port);
	value_key_int(w, "redir-port", o->redir_port);
	value_key_int(w, "tproxy-port", o->tproxy_port);
	value_key_int(w, "mixed-port", o->mixed_port);
	show_tun(w, g);
	show_tuic(w, o->tuic_server);
	key_secret(w, "ss-config", o->ss_config);
	key_secret(w, "vmess-config", o->vmess_config);
	show_users(w, o);
	key_prefixes(w, "skip-auth-prefixes", &o->skip_auth);
	key_prefixes(w, "lan-allowed-ips", &o->lan_allowed);
	key_prefixes(w, "lan-disallowed-ips", &o->lan_disallowed);
	value_key_bool(w, "allow-lan", o->allow_lan);
	value_key_str(w, "bind-address", o->bind_address);
	value_key_bool(w, "inbound-tfo", o->inbound_tfo);
	value_key_bool(w, "inbound-mptcp", o->inbound_mptcp);
	value_key_str(w, "mode", general_mode_name(o->mode));
	value_key_bool(w, "unified-delay", o->unified_delay);
	value_key_str(w, "log-level", log_level_name(o->log_level));
}

static void
show_rest(struct wire *w, const struct general *o)
{
	value_key_bool(w, "ipv6", o->ipv6);
	value_key_str(w, "interface-name", o->interface_name);
	value_key_int(w, "routing-mark", o->routing_mark);
	value_key(w, "geox-url");
	value_map(w);
	value_key_str(w, "geo-ip", o->geox_geoip);
	value_key_str(w, "mmdb", o->geox_mmdb);
	value_key_str(w, "asn", o->geox_asn);
	value_key_str(w, "geo-site", o->geox_geosite);
	value_map_end(w);
	value_key_bool(w, "geo-auto-update", o->geo_auto_update);
	value_key_int(w, "geo-update-interval", o->geo_update_interval);
	value_key_bool(w, "geodata-mode", o->geodata_mode);
	value_key_str(w, "geodata-loader", o->geodata_loader);
	value_key_str(w, "geosite-matcher", o->geosite_matcher);
	value_key_bool(w, "tcp-concurrent", o->tcp_concurrent);
	value_key_str(w, "find-process-mode", general_find_name(o->find_process));
	value_key_bool(w, "sniffing", o->sniffing);
	value_key_str(w, "global-client-fingerprint", o->client_fingerprint);
	value_key_str(w, "global-ua", o->global_ua);
	value_key_bool(w, "etag-support", o->etag_support);
	value_key_int(w, "keep-alive-idle", o->keep_alive_idle);
	value_key_int(w, "keep-alive-interval", o->keep_alive_interval);
	value_key_bool(w, "disable-keep-alive", o->disable_keep_alive);
}

void
general_show(struct gen *g, struct wire *w)
{
	value_map(w);
	show_first(w, g);
	show_rest(w, &g->general);
	value_map_end(w);
}
