/* SPDX-License-Identifier: MIT */
/* Taking a share link apart, and making a node's map of its fields. Called by the families; owns nothing: texts lie in the
 * job's arena. */
#include <stdint.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "worker/loader/uri.h"

enum { PATHS_MAX = 16 }; /* maps and lists inside one node */

/* ---- texts */

/* Decoded once; an escape that is none leaves the text as it is. NULL for a text with a NUL in it. */
static const char *
decoded(struct arena *a, const char *s, size_t n)
{
	char *out = arena_strndup(a, s, n);
	size_t len = str_percent_decode(out, out, n);

	out[len] = '\0';
	return strlen(out) == len ? out : NULL;
}

bool
text_true(const char *s)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };

	for (size_t i = 0; i < countof(yes); i++)
		if (strcmp(s, yes[i]) == 0)
			return true;
	return false;
}

char *
text_base64(struct arena *a, const char *s, size_t n)
{
	char *in = arena_alloc(a, n + 1), *out = arena_alloc(a, n + 1);
	size_t len = 0;
	int got;

	for (size_t i = 0; i < n; i++)
		if (s[i] != '\r' && s[i] != '\n')
			in[len++] = s[i];
	while (len > 0 && (in[len - 1] == ' ' || in[len - 1] == '\t'))
		len--;
	got = len > 0 ? base64_decode((uint8_t *)out, n, in, len) : -E_INVAL;
	if (got <= 0 || memchr(out, '\0', (size_t)got) != NULL || !utf8_valid(out, (size_t)got))
		return NULL;
	out[got] = '\0';
	return out;
}

char *
text_lower(struct arena *a, const char *s)
{
	char *out = arena_strdup(a, s);

	str_lower(out);
	return out;
}

/* ---- URLs */

static bool
split_user(struct url *u, const char *s, size_t n)
{
	const char *colon = memchr(s, ':', n);
	size_t len = colon != NULL ? (size_t)(colon - s) : n;

	u->has_user = true;
	u->has_pass = colon != NULL;
	u->userinfo = decoded(u->a, s, n);
	u->user = decoded(u->a, s, len);
	if (colon != NULL)
		u->pass = decoded(u->a, colon + 1, n - len - 1);
	return u->user != NULL && u->pass != NULL && u->userinfo != NULL;
}

static bool
split_host(struct url *u, const char *s, size_t n)
{
	const char *colon;

	if (n > 0 && s[0] == '[') {
		const char *end = memchr(s, ']', n);

		if (end == NULL || (end + 1 < s + n && end[1] != ':'))
			return false;
		u->host = arena_strndup(u->a, s + 1, (size_t)(end - s) - 1);
		colon = end + 1 < s + n ? end + 1 : NULL;
	} else {
		colon = memrchr(s, ':', n);
		u->host = decoded(u->a, s, colon != NULL ? (size_t)(colon - s) : n);
	}
	if (colon != NULL)
		u->port = arena_strndup(u->a, colon + 1, n - (size_t)(colon + 1 - s));
	return u->host != NULL;
}

bool
url_split(struct url *u, struct arena *a, const char *rest)
{
	size_t main = strcspn(rest, "#"), before = 0, authority;
	const char *at;

	*u = (struct url){
		.a = a, .user = "", .pass = "", .userinfo = "", .host = "", .port = "", .path = "", .query = "", .name = ""
	};
	if (rest[main] == '#')
		u->name = decoded(a, rest + main + 1, strlen(rest + main + 1));
	while (before < main && rest[before] != '?')
		before++;
	if (before < main)
		u->query = arena_strndup(a, rest + before + 1, main - before - 1);
	for (authority = 0; authority < before && rest[authority] != '/'; authority++)
		;
	u->path = decoded(a, rest + authority, before - authority);
	at = memrchr(rest, '@', authority);
	if (u->name == NULL || u->path == NULL || (at != NULL && !split_user(u, rest, (size_t)(at - rest))))
		return false;
	return at != NULL ? split_host(u, at + 1, authority - (size_t)(at + 1 - rest)) : split_host(u, rest, authority);
}

/* Of application/x-www-form-urlencoded: '+' is a blank. */
const char *
url_get(const struct url *u, const char *key)
{
	size_t klen = strlen(key), n;

	for (const char *p = u->query; *p != '\0'; p += n + (p[n] != '\0')) {
		size_t eq;
		const char *v;

		n = strcspn(p, "&");
		for (eq = 0; eq < n && p[eq] != '='; eq++)
			;
		if (eq != klen || strncmp(p, key, klen) != 0)
			continue;
		if (eq == n)
			return "";
		char *text = arena_strndup(u->a, p + eq + 1, n - eq - 1);

		for (char *c = text; *c != '\0'; c++)
			if (*c == '+')
				*c = ' ';
		v = decoded(u->a, text, strlen(text));
		return v != NULL ? v : "";
	}
	return "";
}

bool
url_has_server(const struct url *u)
{
	int64_t port;

	return u->host[0] != '\0' && strpbrk(u->host, " \t/?#@") == NULL && str_to_i64(u->port, 1, 65535, &port) == 0;
}

/* ---- nodes */

static void
add(struct link *l, const char *path, const char *text, enum link_kind kind)
{
	if (l == NULL)
		return;
	if (l->n == LINK_FIELDS_MAX) {
		l->overflow = true;
		return;
	}
	l->field[l->n].path = path;
	l->field[l->n].text = text;
	l->field[l->n++].kind = kind;
}

struct link *
links_new(struct links *out, const char *type, const struct url *u)
{
	struct link *l;

	if (out->n == LINK_NODES_MAX)
		return NULL;
	l = arena_alloc(out->a, sizeof *l);
	l->a = out->a;
	l->name = "";
	out->link[out->n++] = l;
	link_text(l, "type", type);
	if (u == NULL)
		return l;
	l->name = u->name[0] != '\0' ? u->name :
				       arena_printf(out->a, strchr(u->host, ':') != NULL ? "[%s]:%s" : "%s:%s", u->host, u->port);
	link_text(l, "server", u->host);
	link_plain(l, "port", u->port);
	return l;
}

void
link_text(struct link *l, const char *path, const char *text)
{
	add(l, path, text, LINK_TEXT);
}

void
link_some(struct link *l, const char *path, const char *text)
{
	if (text[0] != '\0')
		add(l, path, text, LINK_TEXT);
}

void
link_plain(struct link *l, const char *path, const char *text)
{
	add(l, path, text, LINK_PLAIN);
}

void
link_bool(struct link *l, const char *path, bool on)
{
	add(l, path, on ? "true" : "false", LINK_PLAIN);
}

void
link_list(struct link *l, const char *path, const char *text)
{
	size_t n;

	if (l == NULL)
		return;
	for (int i = 0; *text != '\0' && i < LINK_ITEMS_MAX; i++, text += n + (text[n] != '\0')) {
		n = strcspn(text, ",");
		if (n > 0)
			add(l, path, str_trim(arena_strndup(l->a, text, n)), LINK_ITEM);
	}
}

/* ---- the map */

struct maps { /* the maps and lists of a node that are there already */
	struct tree_builder *to;
	int n;
	struct {
		const char *path;
		size_t len;
		int64_t at;
	} m[PATHS_MAX];
};

/* The map (or list) of path's first len bytes, made with all above it; under node. */
static int64_t
container(struct maps *ms, int64_t node, const char *path, size_t len, enum cfg_type type)
{
	const char *slash = memrchr(path, '/', len), *key = slash != NULL ? slash + 1 : path;
	char name[64];
	int64_t up = node, at;

	for (int i = 0; i < ms->n; i++)
		if (ms->m[i].len == len && strncmp(ms->m[i].path, path, len) == 0)
			return ms->m[i].at;
	if (ms->n == PATHS_MAX || len - (size_t)(key - path) >= sizeof name)
		return -E_LIMIT;
	if (slash != NULL)
		up = container(ms, node, path, (size_t)(slash - path), CFG_MAP);
	if (up < 0)
		return up;
	memcpy(name, key, len - (size_t)(key - path));
	name[len - (size_t)(key - path)] = '\0';
	at = tree_add(ms->to, up, type, 0, name, NULL, 0, 1, 1);
	if (at >= 0 && ms->n < PATHS_MAX) {
		ms->m[ms->n].path = path;
		ms->m[ms->n].len = len;
		ms->m[ms->n++].at = at;
	}
	return at;
}

static int64_t
emit_field(struct maps *ms, int64_t node, const char *path, const char *text, enum link_kind kind)
{
	const char *slash = strrchr(path, '/'), *key = slash != NULL ? slash + 1 : path;
	int64_t up = node;

	if (kind == LINK_ITEM)
		up = container(ms, node, path, strlen(path), CFG_LIST);
	else if (slash != NULL)
		up = container(ms, node, path, (size_t)(slash - path), CFG_MAP);
	if (up < 0)
		return up;
	return tree_add(ms->to, up, CFG_SCALAR, kind == LINK_PLAIN ? 0 : CFG_QUOTED, kind == LINK_ITEM ? NULL : key, text,
	    strlen(text), 1, 1);
}

int
link_emit(const struct link *l, struct tree_builder *to, int64_t parent)
{
	struct maps ms = { .to = to };
	int64_t node, rc;

	if (l->overflow || l->name[0] == '\0' || !utf8_valid(l->name, strlen(l->name)))
		return -E_INVAL;
	for (int i = 0; i < l->n; i++)
		if (!utf8_valid(l->field[i].text, strlen(l->field[i].text)))
			return -E_INVAL;
	node = tree_add(to, parent, CFG_MAP, 0, NULL, NULL, 0, 1, 1);
	if (node < 0)
		return (int)node;
	rc = tree_add(to, node, CFG_SCALAR, CFG_QUOTED, "name", l->name, strlen(l->name), 1, 1);
	for (int i = 0; i < l->n && rc >= 0; i++)
		rc = emit_field(&ms, node, l->field[i].path, l->field[i].text, l->field[i].kind);
	return rc < 0 ? (int)rc : 0;
}
