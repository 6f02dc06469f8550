/* SPDX-License-Identifier: MIT */
/* socks://, socks5://, socks5h://, http://, https://: plain proxies (spec/config.md 9.1), credentials plain or as base64 of
 * "user:pass". */
#include <string.h>

#include "worker/loader/uri.h"

static void
credentials(struct link *l, const struct url *u)
{
	const char *user = u->user, *pass = u->pass, *text, *colon;

	if (!u->has_user || u->userinfo[0] == '\0')
		return;
	if (!u->has_pass && (text = text_base64(u->a, user, strlen(user))) != NULL && (colon = strchr(text, ':')) != NULL) {
		user = arena_strndup(u->a, text, (size_t)(colon - text));
		pass = colon + 1;
	}
	link_text(l, "username", user);
	link_text(l, "password", pass);
}

static struct link *
node(struct links *out, const char *rest, const char *type)
{
	struct url u;
	struct link *l;

	if (!url_split(&u, out->a, rest) || !url_has_server(&u))
		return NULL;
	l = links_new(out, type, &u);
	credentials(l, &u);
	link_bool(l, "skip-cert-verify", true);
	return l;
}

static bool
socks(struct links *out, const char *rest)
{
	return node(out, rest, "socks5") != NULL;
}

static bool
http(struct links *out, const char *rest)
{
	return node(out, rest, "http") != NULL;
}

static bool
https(struct links *out, const char *rest)
{
	struct link *l = node(out, rest, "http");

	link_bool(l, "tls", true);
	return l != NULL;
}

const struct link_family uri_plain[] = { { "socks", socks }, { "socks5", socks }, { "socks5h", socks }, { "http", http },
	{ "https", https }, { NULL, NULL } };
