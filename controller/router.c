/* SPDX-License-Identifier: MIT */
/* Matching of paths and methods, and the order of decisions: preflight, DoH, Host, route, authentication, Origin. Pure:
 * everything comes in by the arguments. The secret is compared in constant time; the query (which may hold a token) is never
 * logged. */
#include "controller/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/strutil.h"
#include "controller/ctl.h"

enum { SCORE_REST = 1, SCORE_PARAM = 2, SCORE_TEXT = 3, SEGMENTS_MAX = 16 };

/* The parameters' places in the path that is being matched. */
struct trial {
	const char *at[API_PARAMS_MAX];
	size_t len[API_PARAMS_MAX];
	unsigned n, score;
};

static size_t
segment(const char *s)
{
	return strcspn(s, "/");
}

/* Does path (len bytes) fit the pattern? Fills t; the score is higher the more text matched, leftmost segments first. */
static bool
fits(const char *pattern, const char *path, size_t len, struct trial *t)
{
	const char *end = path + len;

	memset(t, 0, sizeof(*t));
	for (unsigned depth = 0; depth < SEGMENTS_MAX; depth++) {
		size_t np, ns;
		bool param;
		if (*pattern != '/' || path == end || *path != '/')
			return false;
		np = segment(++pattern);
		path++;
		ns = segment(path);
		if (path + ns > end)
			ns = (size_t)(end - path);
		param = np > 0 && (pattern[0] == '{' || pattern[0] == '*');
		if (np == 1 && pattern[0] == '*')
			ns = (size_t)(end - path);
		else if (param ? ns == 0 : np != ns || memcmp(pattern, path, np) != 0)
			return false;
		t->score = t->score * 4 + (!param ? SCORE_TEXT : pattern[0] == '{' ? SCORE_PARAM : SCORE_REST);
		if (param && t->n < API_PARAMS_MAX) {
			t->at[t->n] = path;
			t->len[t->n++] = ns;
		}
		pattern += np;
		path += ns;
		if (*pattern == '\0' || path == end) {
			/* shorter patterns weigh as if the missing segments were the least */
			for (; depth + 1 < SEGMENTS_MAX; depth++)
				t->score = t->score * 4;
			return *pattern == '\0' && path == end;
		}
	}
	return false;
}

/* Copies and decodes the parameters (spec/api.md 1.5: once; what cannot be decoded stays raw, and so does what would hold a
 * NUL). */
static int
take_params(struct router_hit *hit, const struct trial *t)
{
	size_t need = 1;
	char *p;

	for (unsigned i = 0; i < t->n; i++)
		need += t->len[i] + 1;
	p = hit->text = malloc(need);
	if (p == NULL)
		return 500;
	for (unsigned i = 0; i < t->n; i++) {
		size_t n = str_percent_decode(p, t->at[i], t->len[i]);
		if (memchr(p, '\0', n) != NULL) {
			n = t->len[i];
			memcpy(p, t->at[i], n);
		}
		p[n] = '\0';
		hit->param[i] = p;
		p += n + 1;
	}
	return 0;
}

static void
add_allow(struct router_hit *hit, const char *method)
{
	char line[32];
	size_t at = strlen(hit->allow);

	snprintf(line, sizeof(line), "Allow: %s\r\n", method);
	if (strstr(hit->allow, line) == NULL && at + strlen(line) < sizeof(hit->allow))
		memcpy(hit->allow + at, line, strlen(line) + 1);
}

static bool
mounted(const struct api_route *r, bool debug)
{
	return debug || (r->flags & API_DEBUG) == 0;
}

/* True when the first segment of path is one below which everything needs the secret. */
static bool
is_guarded(const struct api_route *table, const char *path, bool debug)
{
	size_t n = *path == '/' ? segment(path + 1) : 0;

	for (const struct api_route *r = table; r->method != NULL; r++)
		if (mounted(r, debug) && (r->flags & (API_OPEN | API_EXACT)) == 0 && n > 0 && segment(r->path + 1) == n &&
		    memcmp(r->path + 1, path + 1, n) == 0)
			return true;
	return false;
}

/* HEAD stands for GET below /ui only (spec/api.md 1.4). */
static bool
method_fits(const struct api_route *r, const char *method)
{
	if (strcmp(r->method, method) == 0)
		return true;
	return strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0 && str_starts(r->path, "/ui") &&
	    (r->path[3] == '\0' || r->path[3] == '/');
}

int
router_match(const struct api_route *table, const char *method, const char *path, bool debug, struct router_hit *hit)
{
	size_t len = strlen(path);
	size_t cut = len > 1 && path[len - 1] == '/' ? len - 1 : len;
	struct trial best = { .score = 0 }, t;
	bool path_known = false, best_whole = false;

	memset(hit, 0, sizeof(*hit));
	for (const struct api_route *r = table; r->method != NULL; r++) {
		bool whole;
		if (!mounted(r, debug))
			continue;
		whole = fits(r->path, path, len, &t);
		if (!whole && ((r->flags & API_EXACT) != 0 || cut == len || !fits(r->path, path, cut, &t)))
			continue;
		path_known = true;
		hit->exact |= (r->flags & API_EXACT) != 0;
		if (!method_fits(r, method)) {
			add_allow(hit, r->method);
			continue;
		}
		if (hit->route != NULL && (best_whole != whole ? best_whole : t.score <= best.score))
			continue;
		hit->route = r;
		best = t;
		best_whole = whole;
	}
	if (hit->route != NULL) {
		hit->guarded = (hit->route->flags & API_OPEN) == 0;
		return take_params(hit, &best);
	}
	hit->guarded = is_guarded(table, path, debug);
	return path_known ? 405 : 404;
}

void
router_hit_free(struct router_hit *hit)
{
	free(hit->text);
	hit->text = NULL;
}

bool
router_is_websocket(const struct http_req *r)
{
	const char *up = http_get(r, "Upgrade");

	/* RFC 6455 4.2.1 item 3: without case */
	return up != NULL && str_case_equal(up, "websocket");
}

/* spec/api.md 1.2. The token of the query counts with an upgrade only, and below /debug, where profilers can send nothing
 * else. */
bool
router_auth(const struct ctl_conf *conf, const struct http_req *r, bool debug)
{
	size_t n = strlen(conf->secret);
	const char *auth = http_get(r, "Authorization");

	if (n == 0)
		return true;
	if (router_is_websocket(r) || (debug && auth == NULL)) {
		struct api_req q = { .query = r->query };
		char token[sizeof(conf->secret)];
		if (api_query(&q, "token", token, sizeof(token)) && token[0] != '\0')
			return secret_equal(token, strlen(token), conf->secret, n);
	}
	if (auth == NULL || !str_starts(auth, "Bearer "))
		return false;
	auth += strlen("Bearer ");
	return secret_equal(auth, strlen(auth), conf->secret, n);
}

/* ---- origins */

/* One "*" inside an entry stands for any text; without case. */
static bool
origin_fits(const char *entry, const char *origin)
{
	const char *star = strchr(entry, '*');
	size_t n = strlen(origin), head, tail;

	if (star == NULL)
		return str_case_equal(entry, origin);
	head = (size_t)(star - entry);
	tail = strlen(star + 1);
	return n >= head + tail && strncasecmp(origin, entry, head) == 0 && strcasecmp(origin + n - tail, star + 1) == 0;
}

/* Where the well-known dashboards are served from; trusted by default when there is no secret (spec/api.md 6.2 #1). */
static const char *const dashboards[] = {
	"https://metacubex.github.io", "https://d.metacubex.one", "http://d.metacubex.one", "https://yacd.metacubex.one",
	"http://yacd.metacubex.one", "https://board.zash.run.place", "http://board.zash.run.place", "https://yacd.haishan.me",
	"http://yacd.haishan.me", "http://clash.razord.top",
};

static bool
same_origin(const char *origin, const char *host)
{
	const char *authority = strstr(origin, "://");

	return authority != NULL && str_case_equal(authority + 3, host);
}

static bool
origin_any(const struct ctl_conf *conf)
{
	return conf->any_origin && (conf->secret[0] != '\0' || conf->origins_written);
}

static bool
origin_allowed(const struct ctl_conf *conf, const struct http_req *r, const char *origin)
{
	if (origin_any(conf))
		return true;
	for (int i = 0; i < conf->norigins; i++)
		if (!conf->any_origin && origin_fits(conf->origins[i], origin))
			return true;
	if (conf->secret[0] != '\0')
		return false;
	if (same_origin(origin, r->host))
		return true;
	for (size_t i = 0; !conf->origins_written && i < countof(dashboards); i++)
		if (str_case_equal(dashboards[i], origin))
			return true;
	return false;
}

/* ---- CORS, spec/api.md 1.3 */

static bool
cors_method(const char *m)
{
	static const char *const names[] = { "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };

	for (size_t i = 0; i < countof(names); i++)
		if (str_case_equal(names[i], m))
			return true;
	return false;
}

/* Writes the requested header names in canonical case, ", " between; false when one is not allowed. */
static bool
cors_headers(const char *list, char *out, size_t cap)
{
	static const char *const names[] = { "Content-Type", "Authorization", "Origin" };
	size_t at = 0;

	out[0] = '\0';
	while (list != NULL && *(list += strspn(list, " \t,")) != '\0') {
		size_t n = strcspn(list, " \t,"), i = 0;
		while (i < countof(names) && !(strlen(names[i]) == n && strncasecmp(names[i], list, n) == 0))
			i++;
		if (i == countof(names) || at + n + 3 > cap)
			return false;
		at += (size_t)snprintf(out + at, cap - at, "%s%s", at > 0 ? ", " : "", names[i]);
		list += n;
	}
	return true;
}

static void
cors_origin(const struct ctl_conf *conf, const char *origin, char *out)
{
	size_t at = strlen(out);

	snprintf(out + at, ROUTER_CORS_MAX - at, "Access-Control-Allow-Origin: %.512s\r\n", origin_any(conf) ? "*" : origin);
}

static void
cors_preflight(const struct ctl_conf *conf, const struct http_req *r, const char *origin, char *out)
{
	const char *asked = http_get(r, "Access-Control-Request-Method");
	const char *private_network = http_get(r, "Access-Control-Request-Private-Network");
	char method[16], headers[256];
	size_t at;

	snprintf(out, ROUTER_CORS_MAX,
	    "Vary: Origin\r\nVary: Access-Control-Request-Method\r\nVary: Access-Control-Request-Headers\r\n");
	if (origin == NULL || asked == NULL || !cors_method(asked) || !origin_allowed(conf, r, origin) ||
	    !cors_headers(http_get(r, "Access-Control-Request-Headers"), headers, sizeof(headers)))
		return;
	str_copy(method, sizeof(method), asked);
	for (char *p = method; *p != '\0'; p++)
		*p = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
	cors_origin(conf, origin, out);
	at = strlen(out);
	at += (size_t)snprintf(out + at, ROUTER_CORS_MAX - at, "Access-Control-Allow-Methods: %s\r\n", method);
	if (headers[0] != '\0')
		at += (size_t)snprintf(out + at, ROUTER_CORS_MAX - at, "Access-Control-Allow-Headers: %s\r\n", headers);
	at += (size_t)snprintf(out + at, ROUTER_CORS_MAX - at, "Access-Control-Max-Age: 300\r\n");
	if (conf->private_network && private_network != NULL && strcmp(private_network, "true") == 0)
		snprintf(out + at, ROUTER_CORS_MAX - at, "Access-Control-Allow-Private-Network: true\r\n");
}

void
router_cors(const struct ctl_conf *conf, const struct http_req *r, const struct router_peer *peer, bool preflight, char *out)
{
	const char *origin = http_get(r, "Origin");

	(void)peer;
	out[0] = '\0';
	if (origin != NULL && (*origin == '\0' || strlen(origin) > 512))
		origin = NULL;
	if (preflight) {
		cors_preflight(conf, r, origin, out);
		return;
	}
	snprintf(out, ROUTER_CORS_MAX, "Vary: Origin\r\n");
	if (origin != NULL && origin_allowed(conf, r, origin))
		cors_origin(conf, origin, out);
}

/* ---- the decision */

/* Against DNS rebinding (spec/api.md 6.2 #2): an IP literal, localhost, or the name that the configuration listens at. */
static bool
host_allowed(const struct ctl_conf *conf, const char *host)
{
	const char *const own[] = { conf->tcp, conf->tls };
	char name[HOST_MAX + 1], mine[HOST_MAX + 1];
	uint16_t port;
	struct ip ip;

	if (hostport_parse(host, name, sizeof(name), &port) != 0 && str_copy(name, sizeof(name), host) >= sizeof(name))
		return false;
	if (name[0] == '\0')
		return host[0] == '\0';		/* HTTP/1.0 without Host: no browser */
	if (ip_parse(&ip, name) == 0 || str_case_equal(name, "localhost"))
		return true;
	for (size_t i = 0; i < countof(own); i++)
		if (hostport_parse(own[i], mine, sizeof(mine), &port) == 0 && mine[0] != '\0' && str_case_equal(mine, name))
			return true;
	return false;
}

/* A web page may not change anything, nor open a WebSocket (which CORS does not cover), unless its origin is trusted. */
static bool
page_allowed(const struct ctl_conf *conf, const struct http_req *r)
{
	const char *origin = http_get(r, "Origin");
	bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0 || strcmp(r->method, "OPTIONS") == 0;

	if (origin == NULL || (reads && !router_is_websocket(r)))
		return true;
	return origin_allowed(conf, r, origin);
}

static bool
is_doh(const struct ctl_conf *conf, const char *path)
{
	size_t n = strlen(conf->doh);

	return n > 0 && str_starts(path, conf->doh) && (path[n] == '\0' || (path[n] == '/' && path[n + 1] == '\0'));
}

int
router_decide(const struct api_route *table, const struct ctl_conf *conf, const struct http_req *r, const struct router_peer *peer,
    struct router_hit *hit)
{
	bool open = conf->secret[0] == '\0', debug;
	int status;

	memset(hit, 0, sizeof(*hit));
	if (strcmp(r->method, "OPTIONS") == 0 && http_get(r, "Access-Control-Request-Method") != NULL)
		return 200;
	if (is_doh(conf, r->path)) {	/* open to everybody, at any name */
		hit->route = &api_doh;
		return 0;
	}
	if (open && !peer->local && !host_allowed(conf, r->host))
		return 403;
	status = router_match(table, r->method, r->path, conf->debug, hit);
	if (status == 500 || (status == 405 && hit->exact) || (status != 0 && !hit->guarded))
		return status;
	debug = hit->route != NULL && (hit->route->flags & API_DEBUG) != 0;
	if (hit->guarded && !peer->local && !router_auth(conf, r, debug))
		return 401;
	if (status != 0)
		return status;
	if (open && !peer->local && (!page_allowed(conf, r) || (debug && !peer->loopback)))
		return 403;
	return 0;
}
