/* SPDX-License-Identifier: MIT */
/* anytls://, mierus:// and wireguard://. Facts: spec/config.md 9.1; wireguard as v2rayN and others write it. */
#include <string.h>

#include "common/strutil.h"
#include "worker/loader/uri.h"

static bool
anytls(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;

	if (!url_split(&u, out->a, rest))
		return false;
	if (u.port[0] == '\0')
		u.port = "443";
	if (!url_has_server(&u) || !u.has_user)
		return false;
	l = links_new(out, "anytls", &u);
	link_text(l, "password", u.has_pass ? u.pass : u.user);
	link_some(l, "sni", url_get(&u, "sni"));
	link_some(l, "fingerprint", url_get(&u, "hpkp"));
	link_bool(l, "skip-cert-verify", strcmp(url_get(&u, "insecure"), "1") == 0);
	link_bool(l, "udp", true);
	return true;
}

/* The i-th value of a key that comes several times; NULL when there are fewer. */
static const char *
nth(const struct url *u, const char *key, int i)
{
	size_t klen = strlen(key), n;

	for (const char *p = u->query; *p != '\0'; p += n + (p[n] != '\0')) {
		n = strcspn(p, "&");
		if (n > klen && strncmp(p, key, klen) == 0 && p[klen] == '=' && i-- == 0) {
			struct url one = { .a = u->a, .query = arena_strndup(u->a, p, n) };

			return url_get(&one, key);
		}
	}
	return NULL;
}

/* One node for each pair of port and protocol. */
static bool
mierus(struct links *out, const char *rest)
{
	struct url u;
	const char *port, *proto, *name;
	int64_t number;

	if (!url_split(&u, out->a, rest) || u.host[0] == '\0' || u.user[0] == '\0' || u.pass[0] == '\0')
		return false;
	name = u.name[0] != '\0' ? u.name : url_get(&u, "profile")[0] != '\0' ? url_get(&u, "profile") : u.host;
	for (int i = 0; (port = nth(&u, "port", i)) != NULL && (proto = nth(&u, "protocol", i)) != NULL; i++) {
		struct link *l = links_new(out, "mieru", NULL);

		if (l == NULL)
			return false;
		l->name = arena_printf(out->a, "%s:%s/%s", name, port, proto);
		link_text(l, "server", u.host);
		if (strchr(port, '-') != NULL)
			link_text(l, "port-range", port);
		else if (str_to_i64(port, 1, 65535, &number) == 0)
			link_plain(l, "port", port);
		else
			return false;
		link_text(l, "transport", proto);
		link_text(l, "username", u.user);
		link_text(l, "password", u.pass);
		link_some(l, "multiplexing", url_get(&u, "multiplexing"));
		link_some(l, "handshake-mode", url_get(&u, "handshake-mode"));
		link_some(l, "traffic-pattern", url_get(&u, "traffic-pattern"));
		link_bool(l, "udp", true);
	}
	return out->n > 0;
}

/* "10.0.0.2/32,fd00::2/128": the key of an address depends on its family. */
static void
addresses(struct link *l, struct arena *a, const char *list)
{
	bool v4 = false, v6 = false;
	size_t n;

	for (; *list != '\0'; list += n + (list[n] != '\0')) {
		char *one;
		bool is6;

		n = strcspn(list, ",");
		one = str_trim(arena_strndup(a, list, n));
		is6 = strchr(one, ':') != NULL;
		if (one[0] == '\0' || (is6 ? v6 : v4))
			continue;
		link_text(l, is6 ? "ipv6" : "ip", one);
		v6 |= is6;
		v4 |= !is6;
	}
}

static const char *
either(const struct url *u, const char *a, const char *b)
{
	const char *v = url_get(u, a);

	return v[0] != '\0' ? v : url_get(u, b);
}

static bool
wireguard(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;
	const char *reserved;
	int64_t n;

	if (!url_split(&u, out->a, rest) || !url_has_server(&u) || u.userinfo[0] == '\0')
		return false;
	l = links_new(out, "wireguard", &u);
	link_text(l, "private-key", u.userinfo);
	link_some(l, "public-key", either(&u, "publickey", "public-key"));
	link_some(l, "pre-shared-key", either(&u, "presharedkey", "pre-shared-key"));
	addresses(l, out->a, either(&u, "address", "ip"));
	reserved = url_get(&u, "reserved");
	for (size_t len; *reserved != '\0'; reserved += len + (reserved[len] != '\0')) {
		len = strcspn(reserved, ",");
		if (str_to_i64(arena_strndup(out->a, reserved, len), 0, 255, &n) != 0)
			return false;
		link_list(l, "reserved", arena_strndup(out->a, reserved, len));
	}
	if (str_to_i64(url_get(&u, "mtu"), 576, 65535, &n) == 0)
		link_plain(l, "mtu", url_get(&u, "mtu"));
	link_bool(l, "udp", true);
	return true;
}

const struct link_family uri_other[] = { { "anytls", anytls }, { "mierus", mierus }, { "wireguard", wireguard },
	{ "wg", wireguard }, { NULL, NULL } };
