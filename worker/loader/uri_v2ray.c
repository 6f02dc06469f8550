/* SPDX-License-Identifier: MIT */
/* vmess:// (v2rayN's JSON in base64, and the newer URL form), vless:// and trojan://, which share transports. Facts:
 * spec/config.md 9.1. The reference adds a random browser's User-Agent to WebSocket nodes; one fixed common text does the
 * same here and keeps equal input equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/strutil.h"
#include "worker/loader/uri.h"

enum { JSON_BYTES_MAX = 32768 };
static const char browser[] =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";

/* ---- transports */

struct transport {
	const char *host, *path, *service, *method, *ed, *eh;
};

static void
websocket(struct link *l, const struct transport *t, bool upgrade)
{
	link_text(l, "ws-opts/path", t->path[0] != '\0' ? t->path : "/");
	link_text(l, "ws-opts/headers/User-Agent", browser);
	link_some(l, "ws-opts/headers/Host", t->host);
	if (upgrade)
		link_bool(l, "ws-opts/v2ray-http-upgrade", true);
	if (t->ed[0] != '\0' && upgrade) {
		link_bool(l, "ws-opts/v2ray-http-upgrade-fast-open", true);
	} else if (t->ed[0] != '\0') {
		link_plain(l, "ws-opts/max-early-data", t->ed);
		if (t->eh[0] == '\0')
			link_text(l, "ws-opts/early-data-header-name", "Sec-WebSocket-Protocol");
	}
	link_some(l, "ws-opts/early-data-header-name", t->eh);
}

static bool
transport(struct link *l, const char *network, const struct transport *t)
{
	int64_t ed;

	if (t->ed[0] != '\0' && str_to_i64(t->ed, 0, INT32_MAX, &ed) != 0)
		return false;
	if (strcmp(network, "ws") == 0 || strcmp(network, "httpupgrade") == 0) {
		link_text(l, "network", "ws"); /* an upgrade is an option of ws */
		websocket(l, t, network[0] == 'h');
		return true;
	}
	link_text(l, "network", network);
	if (strcmp(network, "http") == 0) {
		link_some(l, "http-opts/method", t->method);
		link_list(l, "http-opts/path", t->path[0] != '\0' ? t->path : "/");
		link_list(l, "http-opts/headers/Host", t->host);
	} else if (strcmp(network, "h2") == 0) {
		link_text(l, "h2-opts/path", t->path[0] != '\0' ? t->path : "/");
		link_list(l, "h2-opts/host", t->host);
	} else if (strcmp(network, "grpc") == 0) {
		link_text(l, "grpc-opts/grpc-service-name", t->service);
	} else if (strcmp(network, "xhttp") == 0) {
		link_text(l, "xhttp-opts/path", t->path[0] != '\0' ? t->path : "/");
		link_some(l, "xhttp-opts/host", t->host);
	}
	return true;
}

/* What `type` and `headerType` of a link mean together. */
static const char *
network_of(struct arena *a, const char *type, const char *fake)
{
	type = type[0] != '\0' ? text_lower(a, type) : "tcp";
	if (str_case_equal(fake, "http"))
		return "http";
	return strcmp(type, "http") == 0 ? "h2" : strcmp(type, "raw") == 0 ? "tcp" : type;
}

static struct transport
transport_of(const struct url *u)
{
	return (struct transport){ url_get(u, "host"), url_get(u, "path"), url_get(u, "serviceName"), url_get(u, "method"),
		url_get(u, "ed"), url_get(u, "eh") };
}

/* ---- the URL form */

static void
security(struct link *l, const struct url *u)
{
	const char *mode = text_lower(u->a, url_get(u, "security")), *fp = url_get(u, "fp"), *sni = url_get(u, "sni");
	bool tls = str_ends(mode, "tls") || strcmp(mode, "reality") == 0 || text_true(url_get(u, "tls"));

	link_bool(l, "tls", tls);
	if (tls) {
		link_text(l, "client-fingerprint", fp[0] != '\0' ? fp : "chrome");
		link_list(l, "alpn", url_get(u, "alpn"));
		link_some(l, "fingerprint", url_get(u, "pcs"));
		if (text_true(url_get(u, "allowInsecure")) || text_true(url_get(u, "insecure")))
			link_bool(l, "skip-cert-verify", true);
	}
	link_some(l, "servername", sni[0] != '\0' ? sni : url_get(u, "peer"));
	if (url_get(u, "pbk")[0] != '\0') {
		link_text(l, "reality-opts/public-key", url_get(u, "pbk"));
		link_text(l, "reality-opts/short-id", url_get(u, "sid"));
	}
}

bool
v2ray_common(struct link *l, const struct url *u)
{
	const char *packet = url_get(u, "packetEncoding");
	struct transport t = transport_of(u);

	link_text(l, "uuid", u->user);
	link_bool(l, "udp", true);
	security(l, u);
	if (strcmp(packet, "packet") == 0)
		link_bool(l, "packet-addr", true);
	else if (strcmp(packet, "none") != 0)
		link_bool(l, "xudp", true);
	if (strcmp(url_get(u, "obfs"), "websocket") == 0) { /* as the base64 form says it */
		t.host = url_get(u, "obfsParam");
		return transport(l, "ws", &t);
	}
	return transport(l, network_of(u->a, url_get(u, "type"), url_get(u, "headerType")), &t);
}

/* Some programs write the authority as base64 of "[cipher:]uuid@host:port", and the name as a parameter. */
static bool
split(struct url *u, struct links *out, const char *rest)
{
	size_t n = strcspn(rest, "?#");
	const char *text, *at, *colon;

	if (memchr(rest, '@', n) == NULL) {
		text = text_base64(out->a, rest, n);
		if (text == NULL || (at = strchr(text, '@')) == NULL)
			return false;
		colon = memchr(text, ':', (size_t)(at - text));
		rest = arena_printf(out->a, "%s%s", colon != NULL ? colon + 1 : text, rest + n);
	}
	if (!url_split(u, out->a, rest) || !url_has_server(u) || u->user[0] == '\0')
		return false;
	if (u->name[0] == '\0')
		u->name = url_get(u, "remarks");
	return true;
}

static bool
vless(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;

	if (!split(&u, out, rest))
		return false;
	l = links_new(out, "vless", &u);
	link_some(l, "flow", text_lower(out->a, url_get(&u, "flow")));
	if (strcmp(url_get(&u, "encryption"), "none") != 0)
		link_some(l, "encryption", url_get(&u, "encryption"));
	return v2ray_common(l, &u);
}

static bool
vmess_url(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;
	const char *cipher;

	if (!split(&u, out, rest))
		return false;
	cipher = url_get(&u, "encryption");
	l = links_new(out, "vmess", &u);
	link_plain(l, "alterId", "0");
	link_text(l, "cipher", cipher[0] != '\0' ? cipher : "auto");
	return v2ray_common(l, &u);
}

/* ---- v2rayN's JSON */

/* A member as text: a string or a whole number; "" for everything else. */
static const char *
member(struct arena *a, const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	if (cJSON_IsString(v))
		return arena_strdup(a, v->valuestring);
	if (cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble <= UINT32_MAX)
		return arena_printf(a, "%lld", (long long)v->valuedouble);
	return "";
}

/* "?ed=2048" in the path of a WebSocket. */
static void
take_early_data(struct arena *a, struct transport *t)
{
	struct url u = { .a = a };
	const char *q = strchr(t->path, '?');
	int64_t ed;

	if (q == NULL)
		return;
	u.query = q + 1;
	if (str_to_i64(url_get(&u, "ed"), 0, INT32_MAX, &ed) != 0)
		return;
	t->ed = url_get(&u, "ed");
	t->eh = url_get(&u, "eh");
	t->path = arena_strndup(a, t->path, (size_t)(q - t->path));
}

static bool
vmess_fill(struct links *out, const cJSON *j)
{
	struct arena *a = out->a;
	const char *id = member(a, j, "id"), *aid = member(a, j, "aid"), *cipher = member(a, j, "scy"), *network;
	struct url u = {
		.a = a, .host = member(a, j, "add"), .port = str_trim(arena_strdup(a, member(a, j, "port"))), .query = ""
	};
	struct transport t = { .host = member(a, j, "host"), .path = member(a, j, "path"), .method = "", .ed = "", .eh = "" };
	bool tls = str_ends(text_lower(a, member(a, j, "tls")), "tls");
	struct link *l;
	int64_t n;

	if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(j, "ps")) || !url_has_server(&u) || id[0] == '\0')
		return false;
	u.name = member(a, j, "ps");
	l = links_new(out, "vmess", &u);
	link_text(l, "uuid", id);
	link_plain(l, "alterId", str_to_i64(aid, 0, INT32_MAX, &n) == 0 ? aid : "0");
	link_text(l, "cipher", cipher[0] != '\0' ? cipher : "auto");
	link_bool(l, "udp", true);
	link_bool(l, "xudp", true);
	link_bool(l, "tls", tls);
	link_bool(l, "skip-cert-verify", false);
	link_some(l, "servername", member(a, j, "sni"));
	link_some(l, "client-fingerprint", member(a, j, "fp"));
	if (tls)
		link_list(l, "alpn", member(a, j, "alpn"));
	network = network_of(a, member(a, j, "net"), member(a, j, "type"));
	t.service = t.path;
	if (strcmp(network, "ws") == 0 || strcmp(network, "httpupgrade") == 0)
		take_early_data(a, &t);
	return transport(l, network, &t);
}

static bool
vmess(struct links *out, const char *rest)
{
	size_t n = strlen(rest);
	const char *text = n <= JSON_BYTES_MAX ? text_base64(out->a, rest, strcspn(rest, "#?")) : NULL;
	cJSON *j = text != NULL ? cJSON_Parse(text) : NULL;
	bool ok;

	if (!cJSON_IsObject(j)) {
		cJSON_Delete(j);
		return vmess_url(out, rest);
	}
	ok = vmess_fill(out, j);
	cJSON_Delete(j);
	return ok;
}

/* ---- trojan */

static bool
trojan(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;
	struct transport t;
	const char *fp, *type, *sni;

	if (!url_split(&u, out->a, rest))
		return false;
	if (u.port[0] == '\0')
		u.port = "443";
	if (!url_has_server(&u) || u.userinfo[0] == '\0')
		return false;
	l = links_new(out, "trojan", &u);
	fp = url_get(&u, "fp");
	type = text_lower(out->a, url_get(&u, "type"));
	t = transport_of(&u);
	link_text(l, "password", u.userinfo);
	link_bool(l, "udp", true);
	link_bool(l, "skip-cert-verify", text_true(url_get(&u, "allowInsecure")) || text_true(url_get(&u, "insecure")));
	sni = url_get(&u, "sni");
	link_some(l, "sni", sni[0] != '\0' ? sni : url_get(&u, "peer"));
	link_list(l, "alpn", url_get(&u, "alpn"));
	link_text(l, "client-fingerprint", fp[0] != '\0' ? fp : "chrome");
	link_some(l, "fingerprint", url_get(&u, "pcs"));
	if (url_get(&u, "pbk")[0] != '\0') {
		link_text(l, "reality-opts/public-key", url_get(&u, "pbk"));
		link_text(l, "reality-opts/short-id", url_get(&u, "sid"));
	}
	return strcmp(type, "ws") == 0 || strcmp(type, "grpc") == 0 || strcmp(type, "httpupgrade") == 0 ? transport(l, type, &t) :
													  true;
}

const struct link_family uri_v2ray[] = { { "vmess", vmess }, { "vless", vless }, { "trojan", trojan }, { NULL, NULL } };
