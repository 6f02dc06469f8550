/* SPDX-License-Identifier: MIT */
/* Protocols that sluice reads and lists but does not speak yet: one table of rows with the keys they need (spec/protocols.md
 * 1.4) and checks of values that the reference refuses. Called through outbound_type by parse.c. Such a node is not alive,
 * is named once in the log, and its dial fails at once. A protocol that learns to speak moves to its own file and loses its
 * row here; its checks go with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/outbound/outbound.h"

struct row {
	const char *name;
	const char *const *needs;	/* required keys, NULL-terminated */
	int (*check)(struct outbound *, const struct cfg_node *, struct cfg_err *);	/* may be NULL */
};

static bool
in_list(const char *const *list, const char *s)
{
	for (; *list != NULL; list++)
		if (str_case_equal(*list, s))
			return true;
	return false;
}

/* A text key that was not written is "". */
static int
text_of(const struct cfg_node *item, const char *key, const char **out, struct cfg_err *err)
{
	*out = "";
	return cfgw_str(item, key, out, err);
}

static bool
written(const struct cfg_node *item, const char *key)
{
	const char *s = cfg_text(cfg_get(item, key));

	return s != NULL && s[0] != '\0';
}

static int
missing(const struct cfg_node *item, const char *key, struct cfg_err *err)
{
	return cfg_fail(err, item, key, "key '%s' missing", key);
}

/* ---- ss: spec/protocols.md 1.4, 2.1-2.3 */

static const char *const ss_ciphers[] = {
	"aes-128-gcm", "aes-192-gcm", "aes-256-gcm", "aes-128-ccm", "aes-192-ccm", "aes-256-ccm", "aes-128-gcm-siv",
	    "aes-256-gcm-siv",
	"chacha20-ietf-poly1305", "xchacha20-ietf-poly1305", "chacha8-ietf-poly1305", "xchacha8-ietf-poly1305",
	    "rabbit128-poly1305",
	"lea-128-gcm", "lea-192-gcm", "lea-256-gcm", "aegis-128l", "aegis-256", "aez-384", "deoxys-ii-256-128",
	"aes-128-ctr", "aes-192-ctr", "aes-256-ctr", "aes-128-cfb", "aes-192-cfb", "aes-256-cfb", "chacha20-ietf", "chacha20",
	    "xchacha20", "rc4-md5",
	"none", NULL
};

static const struct ss_2022 {
	const char *name;
	int key;
	bool multi;	/* identity keys before the user's: AES only, spec/protocols.md 2.3 */
} ss_2022[] = {
	{ "2022-blake3-aes-128-gcm", 16, true }, { "2022-blake3-aes-256-gcm", 32, true },
	{ "2022-blake3-chacha20-poly1305", 32, false },
	{ "2022-blake3-chacha8-poly1305", 32, false }, { "2022-blake3-aes-128-ccm", 16, true },
	{ "2022-blake3-aes-256-ccm", 32, true },
};

static int
ss_refuse(const struct outbound *ob, const struct cfg_node *item, struct cfg_err *err, const char *key, const char *why,
    const char *what)
{
	char at[HOST_MAX + 16];

	return cfg_fail(err, cfg_get(item, key), key, "ss %s initialize error: %s%.64s",
	    hostport_text(at, sizeof(at), ob->server, ob->port), why, what);
}

static int
check_2022(const struct outbound *ob, const struct cfg_node *item, const struct ss_2022 *m, const char *password,
    struct cfg_err *err)
{
	uint8_t key[64];

	for (const char *p = password;;) {
		size_t n = strcspn(p, ":");
		int len = n <= 80 ? base64_decode(key, sizeof(key), p, n) : -E_INVAL;

		if (len < 0)
			return ss_refuse(ob, item, err, "password", "decode psk: illegal base64 data", "");
		if (len != m->key)
			return ss_refuse(ob, item, err, "password", "bad key length for ", m->name);
		if (p[n] == '\0')
			return 0;
		if (!m->multi)
			return ss_refuse(ob, item, err, "password", "identity keys are not supported by ", m->name);
		p += n + 1;
	}
}

static int
check_ss_plugin(const struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const plugins[] = { "obfs", "v2ray-plugin", "gost-plugin", "shadow-tls", "restls", "kcptun", "jls",
	    NULL };
	const struct cfg_node *opts = cfg_get(item, "plugin-opts");
	const char *plugin, *mode;

	if (text_of(item, "plugin", &plugin, err) != 0)
		return -E_INVAL;
	if (plugin[0] != '\0' && !in_list(plugins, plugin))
		log_warn("proxy %s: plugin %s is unknown and ignored", ob->name, plugin);
	if (strcmp(plugin, "obfs") != 0)
		return 0;
	if (text_of(opts, "mode", &mode, err) != 0)
		return -E_INVAL;
	if (strcmp(mode, "http") != 0 && strcmp(mode, "tls") != 0)
		return cfg_fail(err, item, "plugin-opts", "ss %s obfs mode error: %.32s", ob->server, mode);
	return 0;
}

static int
check_ss(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	const char *cipher, *password;
	bool uot = false;
	int64_t version = 0;

	if (text_of(item, "cipher", &cipher, err) != 0 || text_of(item, "password", &password, err) != 0 ||
	    cfgw_bool(item, "udp-over-tcp", &uot, err) != 0 || cfgw_int(item, "udp-over-tcp-version", 0, 2, &version, err) != 0 ||
	    check_ss_plugin(ob, item, err) != 0)
		return -E_INVAL;
	if (uot)
		ob->flags |= OB_UOT;
	for (size_t i = 0; i < countof(ss_2022); i++)
		if (str_case_equal(cipher, ss_2022[i].name))
			return check_2022(ob, item, &ss_2022[i], password, err);
	if (!in_list(ss_ciphers, cipher))
		return ss_refuse(ob, item, err, "cipher", "unknown method: ", cipher);
	if (password[0] == '\0' && !str_case_equal(cipher, "none"))
		return ss_refuse(ob, item, err, "password", "missing password", "");
	return 0;
}

static int
check_ssr(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const ciphers[] = { "aes-128-ctr", "aes-192-ctr", "aes-256-ctr", "aes-128-cfb", "aes-192-cfb",
	    "aes-256-cfb", "chacha20-ietf",
		"chacha20", "xchacha20", "rc4-md5", "none", "dummy", NULL };
	static const char *const obfs[] = { "plain", "http_simple", "http_post", "random_head", "tls1.2_ticket_auth",
	    "tls1.2_ticket_fastauth", NULL };
	static const char *const protocols[] = { "origin", "auth_sha1_v4", "auth_aes128_md5", "auth_aes128_sha1",
	    "auth_chain_a", "auth_chain_b", NULL };
	const char *cipher, *o, *p;

	if (text_of(item, "cipher", &cipher, err) != 0 || text_of(item, "obfs", &o, err) != 0 ||
	    text_of(item, "protocol", &p, err) != 0)
		return -E_INVAL;
	if (!in_list(ciphers, cipher))
		return cfg_fail(err, item, "cipher", "ssr %s initialize cipher error: %.64s", ob->server, cipher);
	if (!in_list(obfs, o))
		return cfg_fail(err, item, "obfs", "ssr %s initialize obfs error: %.64s", ob->server, o);
	if (!in_list(protocols, p))
		return cfg_fail(err, item, "protocol", "ssr %s initialize protocol error: %.64s", ob->server, p);
	return 0;
}

static int
check_snell(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const modes[] = { "", "http", "tls", "shadow-tls", "restls", "jls", NULL };
	const struct cfg_node *opts = cfg_get(item, "obfs-opts");
	const char *mode;
	int64_t version = 1;

	if (cfgw_int(item, "version", INT32_MIN, INT32_MAX, &version, err) != 0 || text_of(opts, "mode", &mode, err) != 0)
		return -E_INVAL;
	if (!in_list(modes, mode))
		return cfg_fail(err, opts, "obfs-opts", "snell %s obfs mode error: %.32s", ob->server, mode);
	version = version == 0 ? 1 : version;
	if (version < 1 || version > 5)
		return cfg_fail(err, item, "version", "snell version error: %lld", (long long)version);
	if (version < 3 && (ob->flags & OB_UDP) != 0)
		return cfg_fail(err, item, "udp", "snell version %lld not support UDP", (long long)version);
	return 0;
}

/* ---- vmess, vless: any text is a uuid, what is none is hashed */

static int
packet_encoding(struct outbound *ob, const struct cfg_node *item, bool by_default, struct cfg_err *err)
{
	const char *enc;
	bool xudp = by_default, addr = false;

	if (text_of(item, "packet-encoding", &enc, err) != 0 || cfgw_bool(item, "packet-addr", &addr, err) != 0)
		return -E_INVAL;
	if (by_default && addr)
		xudp = false;
	if (cfgw_bool(item, "xudp", &xudp, err) != 0)
		return -E_INVAL;
	if (strcmp(enc, "xudp") == 0)
		xudp = true;
	else if (strcmp(enc, "packetaddr") == 0 || strcmp(enc, "packet") == 0)
		xudp = false;
	if (xudp)
		ob->flags |= OB_XUDP;
	return 0;
}

static int
check_vmess(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const ciphers[] = { "auto", "none", "zero", "aes-128-gcm", "chacha20-poly1305", "aes-128-cfb", NULL };
	const char *cipher;
	int64_t alter = 0;

	if (text_of(item, "cipher", &cipher, err) != 0 || cfgw_int(item, "alterId", INT32_MIN, INT32_MAX, &alter, err) != 0)
		return -E_INVAL;
	if (!in_list(ciphers, cipher))
		return cfg_fail(err, cfg_get(item, "cipher"), "cipher", "vmess: unknown security type: %.64s", cipher);
	return packet_encoding(ob, item, false, err);
}

/* Only the first 16 characters count; a shorter flow, or one over WebSocket, is ignored: spec/config.md 18. */
static int
check_vless(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	const char *flow, *network;

	if (text_of(item, "flow", &flow, err) != 0 || text_of(item, "network", &network, err) != 0)
		return -E_INVAL;
	if (strcmp(network, "ws") != 0 && strlen(flow) >= 16 && strncmp(flow, "xtls-rprx-vision", 16) != 0)
		return cfg_fail(err, cfg_get(item, "flow"), "flow", "unsupported xtls flow type: %.64s", flow);
	if (flow[0] != '\0' && strncmp(flow, "xtls-rprx-vision", 16) != 0)
		log_warn("proxy %s: flow %.64s is unknown and ignored", ob->name, flow);
	return packet_encoding(ob, item, true, err);
}

/* ---- QUIC and the rest */

static int
needs_port(const struct cfg_node *item, const char *other, struct cfg_err *err)
{
	return written(item, "port") || written(item, other) ? 0 : missing(item, "port", err);
}

static int
check_hysteria(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	(void)ob;
	if (!written(item, "up") && !written(item, "up-speed"))
		return missing(item, "up", err);
	if (!written(item, "down") && !written(item, "down-speed"))
		return missing(item, "down", err);
	return needs_port(item, "ports", err);
}

static int
check_hysteria2(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const known[] = { "", "salamander", "gecko", NULL };
	const char *obfs;

	(void)ob;
	if (text_of(item, "obfs", &obfs, err) != 0)
		return -E_INVAL;
	if (!in_list(known, obfs))
		return cfg_fail(err, item, "obfs", "unknown obfs type: %.64s", obfs);
	return needs_port(item, "ports", err);
}

static int
check_tuic(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	uint8_t u[16];

	(void)ob;
	if (written(item, "token"))
		return 0;
	if (!written(item, "uuid"))
		return missing(item, "uuid", err);
	if (!written(item, "password"))
		return missing(item, "password", err);
	if (uuid_parse(u, cfg_text(cfg_get(item, "uuid"))) != 0)
		return cfg_fail(err, item, "uuid", "uuid: incorrect UUID format");
	return 0;
}

static int
check_key32(const struct cfg_node *item, const char *key, struct cfg_err *err)
{
	const char *s = cfg_text(cfg_get(item, key));
	uint8_t raw[40];

	if (s == NULL || strlen(s) > 64 || base64_decode(raw, sizeof(raw), s, strlen(s)) != 32)
		return cfg_fail(err, item, key, "decode %s: not a key of 32 bytes in base64", key);
	return 0;
}

static int
check_wireguard(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	(void)ob;
	if (cfg_count(cfg_get(item, "peers")) == 0) {
		if (!written(item, "server"))
			return missing(item, "server", err);
		if (!written(item, "port"))
			return missing(item, "port", err);
	}
	return check_key32(item, "private-key", err);
}

static int
check_mieru(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	(void)ob;
	return needs_port(item, "port-range", err);
}

/* ---- the type */

#define NEEDS(...) (const char *const[]){ __VA_ARGS__, NULL }
static const struct row rows[] = {
	{ "ss", NEEDS("server", "port", "cipher", "password"), check_ss },
	{ "ssr", NEEDS("server", "port", "cipher", "password", "obfs", "protocol"), check_ssr },
	{ "snell", NEEDS("server", "port", "psk"), check_snell },
	{ "vmess", NEEDS("server", "port", "uuid", "alterId", "cipher"), check_vmess },
	{ "vless", NEEDS("server", "port", "uuid"), check_vless },
	{ "trojan", NEEDS("server", "port", "password"), NULL },
	{ "anytls", NEEDS("server", "port", "password"), NULL },
	{ "hysteria", NEEDS("server"), check_hysteria },
	{ "hysteria2", NEEDS("server"), check_hysteria2 },
	{ "tuic", NEEDS("server", "port"), check_tuic },
	{ "wireguard", NEEDS("private-key"), check_wireguard },
	{ "ssh", NEEDS("server", "port", "username"), NULL },
	{ "mieru", NEEDS("server", "transport", "username", "password"), check_mieru },
	{ "sudoku", NEEDS("server", "port", "key"), NULL },
	{ "masque", NEEDS("server", "port", "private-key", "public-key"), NULL },
	{ "trusttunnel", NEEDS("server", "port", "username", "password"), NULL },
	{ "shadowquic", NEEDS("server", "port", "username", "password"), NULL },
	{ "openvpn", NEEDS("server", "port", "ca"), NULL },
	{ "zerotier", NEEDS("network"), NULL },
	{ NULL, NULL, NULL }	/* tailscale, rematch: nothing */
};

static int
init(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	const struct row *r = rows;

	while (r->name != NULL && strcmp(r->name, ob->type->name) != 0)
		r++;
	for (const char *const *k = r->needs; k != NULL && *k != NULL; k++)
		if (cfg_is_null(cfg_get(item, *k)))
			return missing(item, *k, err);
	if (r->check != NULL && r->check(ob, item, err) != 0)
		return -E_INVAL;
	ob->history.alive = false;
	if (!ob->gen->quiet_nodes)
		log_warn("proxy %s: protocol \"%s\" is not spoken yet: listed, not alive", ob->name, ob->type->name);
	return 0;
}

static struct stream *
dial_nothing(struct outbound *ob, const struct dial *dial)
{
	char text[STREAM_TEXT_MAX];

	(void)dial;
	(void)snprintf(text, sizeof(text), "protocol \"%s\" is not spoken yet", ob->type->name);
	return outbound_failed(ob, E_UNSUP, text);
}

static struct dgram *
packet_nothing(struct outbound *ob, const struct dial *dial)
{
	char text[STREAM_TEXT_MAX];

	(void)dial;
	(void)snprintf(text, sizeof(text), "protocol \"%s\" is not spoken yet", ob->type->name);
	return outbound_failed_packet(ob, E_UNSUP, text);
}

#define ROW(yaml, api, extra) { .name = (yaml), .api_name = (api), .flags = OB_TCP | OB_UNSPOKEN | (extra), .size = sizeof(struct outbound), \
	.init = init, .dial = dial_nothing, .packet = packet_nothing }
/* OB_UDP here: always on (QUIC); the others have it by their `udp` key. */
const struct outbound_type unspoken_types[] = {
	ROW("ss", "Shadowsocks", 0), ROW("ssr", "ShadowsocksR", 0), ROW("snell", "Snell", OB_UOT), ROW("vmess", "Vmess", OB_UOT),
	ROW("vless", "Vless", OB_UOT), ROW("trojan", "Trojan", OB_UOT), ROW("anytls", "AnyTLS", OB_UOT),
	ROW("hysteria", "Hysteria", OB_UDP),
	ROW("hysteria2", "Hysteria2", OB_UDP), ROW("tuic", "Tuic", OB_UDP), ROW("wireguard", "WireGuard", 0),
	ROW("ssh", "Ssh", 0),
	ROW("mieru", "Mieru", 0), ROW("sudoku", "Sudoku", 0), ROW("masque", "Masque", 0), ROW("trusttunnel", "TrustTunnel", 0),
	ROW("shadowquic", "ShadowQuic", OB_UDP), ROW("openvpn", "OpenVPN", 0), ROW("tailscale", "Tailscale", 0),
	    ROW("zerotier", "ZeroTier", 0),
	ROW("rematch", "Rematch", 0), { .name = NULL }
};
