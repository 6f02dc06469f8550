/* SPDX-License-Identifier: MIT */
/* ss:// (SIP002, and the older form that is base64 as a whole) and ssr://. Facts: spec/config.md 9.1. */
#include <string.h>

#include "common/strutil.h"
#include "worker/loader/uri.h"

/* The value of "key=value" in a list separated by ';' (SIP003 plugin options); "" for none, also for a bare key. */
static const char *
option(struct arena *a, const char *list, const char *key)
{
	size_t klen = strlen(key), n;

	for (; *list != '\0'; list += n + (list[n] != '\0')) {
		n = strcspn(list, ";");
		if (n > klen && strncmp(list, key, klen) == 0 && list[klen] == '=')
			return arena_strndup(a, list + klen + 1, n - klen - 1);
	}
	return "";
}

/* Of a plugin that the reference has no words for here: every option under its own name, as its configuration has it
 * (shadow-tls, gost-plugin, restls, kcptun). */
static void
other_plugin(struct link *l, const char *name, const char *options)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz-";
	size_t n, key;

	link_text(l, "plugin", name);
	for (; *options != '\0'; options += n + (options[n] != '\0')) {
		n = strcspn(options, ";");
		key = strspn(options, letters);
		if (key > 0 && key < n && options[key] == '=')
			link_text(l, arena_printf(l->a, "plugin-opts/%.*s", (int)key, options),
			    arena_strndup(l->a, options + key + 1, n - key - 1));
	}
}

static void
plugin(struct link *l, const char *text)
{
	const char *name = arena_strndup(l->a, text, strcspn(text, ";"));

	if (strstr(name, "obfs") != NULL) {
		link_text(l, "plugin", "obfs");
		link_text(l, "plugin-opts/mode", option(l->a, text, "obfs"));
		link_some(l, "plugin-opts/host", option(l->a, text, "obfs-host"));
	} else if (strstr(name, "v2ray-plugin") != NULL) {
		const char *mode = option(l->a, text, "mode");

		link_text(l, "plugin", "v2ray-plugin");
		link_text(l, "plugin-opts/mode", mode[0] != '\0' ? mode : "websocket");
		link_some(l, "plugin-opts/host", option(l->a, text, "host"));
		link_some(l, "plugin-opts/path", option(l->a, text, "path"));
		link_bool(l, "plugin-opts/tls", strstr(text, "tls") != NULL);
	} else if (name[0] != '\0') {
		other_plugin(l, name, text + strlen(name)); /* unknown ones are named where the node is built */
	}
}

/* method:password, plain or base64. */
static bool
credentials(struct url *u)
{
	const char *text, *colon;

	if (u->has_pass)
		return true;
	text = text_base64(u->a, u->user, strlen(u->user));
	colon = text != NULL ? strchr(text, ':') : NULL;
	if (colon == NULL)
		return false;
	u->user = arena_strndup(u->a, text, (size_t)(colon - text));
	u->pass = arena_strdup(u->a, colon + 1);
	return true;
}

static bool
ss(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;

	if (!url_split(&u, out->a, rest))
		return false;
	if (u.port[0] == '\0') { /* BASE64(method:password@host:port)#name */
		size_t n = strcspn(rest, "#?");
		const char *name = u.name, *text;

		while (n > 0 && rest[n - 1] == '/')
			n--;
		text = text_base64(out->a, rest, n);
		if (text == NULL || !url_split(&u, out->a, arena_printf(out->a, "%s%s", text, rest + n)))
			return false;
		u.name = name;
	}
	if (!url_has_server(&u) || !credentials(&u) || u.user[0] == '\0')
		return false;
	l = links_new(out, "ss", &u);
	link_text(l, "cipher", u.user);
	link_text(l, "password", u.pass);
	link_bool(l, "udp", true);
	if (strcmp(url_get(&u, "udp-over-tcp"), "true") == 0 || strcmp(url_get(&u, "uot"), "1") == 0)
		link_bool(l, "udp-over-tcp", true);
	plugin(l, url_get(&u, "plugin"));
	return true;
}

/* host:port:protocol:method:obfs:BASE64PASS, the host may have colons. */
static bool
ssr_main(struct links *out, char *text, struct url *u, char *part[static 4], const char **pass)
{
	for (int i = 4; i >= 0; i--) {
		char *colon = strrchr(text, ':');

		if (colon == NULL)
			return false;
		*colon = '\0';
		if (i == 4) {
			*pass = text_base64(out->a, colon + 1, strlen(colon + 1));
			if (*pass == NULL)
				*pass = colon[1] == '\0' ? "" : NULL;
		} else {
			part[i] = colon + 1;
		}
	}
	u->host = text;
	u->port = part[0];
	return *pass != NULL && url_has_server(u);
}

static const char *
ssr_param(const struct url *u, const char *key)
{
	const char *v = url_get(u, key), *plain;
	char *s = arena_strdup(u->a, v);

	for (char *c = s; *c != '\0'; c++)
		if (*c == ' ') /* a '+' of the standard alphabet that stood in a query */
			*c = '+';
	plain = text_base64(u->a, s, strlen(s));
	return plain != NULL ? plain : "";
}

static bool
ssr(struct links *out, const char *rest)
{
	char *text = text_base64(out->a, rest, strcspn(rest, "#")), *query, *part[4];
	struct url u = { .a = out->a, .host = "", .port = "", .query = "", .name = "" };
	const char *pass = NULL;
	struct link *l;

	query = text != NULL ? strstr(text, "/?") : NULL;
	if (query == NULL)
		return false;
	*query = '\0';
	u.query = query + 2;
	if (!ssr_main(out, text, &u, part, &pass))
		return false;
	u.name = ssr_param(&u, "remarks");
	l = links_new(out, "ssr", &u);
	link_text(l, "cipher", part[2]);
	link_text(l, "password", pass);
	link_text(l, "obfs", part[3]);
	link_text(l, "protocol", part[1]);
	link_some(l, "obfs-param", ssr_param(&u, "obfsparam"));
	link_some(l, "protocol-param", ssr_param(&u, "protoparam"));
	link_bool(l, "udp", true);
	return true;
}

const struct link_family uri_ss[] = { { "ss", ss }, { "ssr", ssr }, { NULL, NULL } };
