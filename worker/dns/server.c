/* SPDX-License-Identifier: MIT */
/* The syntax of a name server in the configuration: "1.1.1.1", "tcp://host:53", "https://host/path#proxy&h3=true"
 * (spec/config.md 4, "Server syntax"). Called by config.c for every list; allocates in the generation's arena. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/config.h"

enum { SERVER_TEXT_MAX = 1024 };

struct scheme {
	const char *name;
	enum dns_net net;
	uint16_t port;
};
static const struct scheme schemes[] = {
	{ "udp", DNS_NET_UDP, 53 },
	{ "tcp", DNS_NET_TCP, 53 },
	{ "tls", DNS_NET_TLS, 853 },
	{ "http", DNS_NET_HTTP, 80 },
	{ "https", DNS_NET_HTTPS, 443 },
	{ "quic", DNS_NET_QUIC, 853 },
	{ "system", DNS_NET_SYSTEM, 0 },
	{ "dhcp", DNS_NET_DHCP, 0 },
	{ "rcode", DNS_NET_RCODE, 0 },
};

struct parse {			/* one server */
	struct arena *arena;
	const struct cfg_node *node;
	const char *key;
	int index;
	struct cfg_err *err;
};

static int
bad_format(const struct parse *p, const char *what)
{
	return cfg_fail(p->err, p->node, p->key, "DNS NameServer[%d] format error: %s", p->index, what);
}

/* "host", "host:port", "[v6]:port", "[v6]"; the text is changed. */
static int
read_host(const struct parse *p, struct dns_server *s, char *text, uint16_t port)
{
	char *colon, *host = text;
	int64_t v;

	if (strpbrk(text, " \t\r\n\"<>\\^`{|}") != NULL)
		return bad_format(p, arena_printf(p->arena, "invalid character in host name: %s", text));
	if (text[0] == '[') {
		char *close = strchr(text, ']');

		if (close == NULL)
			return bad_format(p, "missing ']' in host");
		colon = close[1] == ':' ? close + 1 : NULL;
		if (close[1] != '\0' && colon == NULL)
			return bad_format(p, arena_printf(p->arena, "invalid port \"%s\" after host", close + 1));
		*close = '\0';
		host++;
		if (ip_parse(&s->ip, host) != 0)
			return bad_format(p, arena_printf(p->arena, "invalid address in host: %s", host));
	} else {
		colon = strchr(text, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			return bad_format(p, arena_printf(p->arena, "address %s: too many colons in address", text));
	}
	if (colon != NULL) {
		*colon++ = '\0';
		if (*colon != '\0') {
			if (str_to_i64(colon, 1, 65535, &v) != 0)
				return bad_format(p, arena_printf(p->arena, "invalid port \":%s\" after host", colon));
			port = (uint16_t)v;
		}
	}
	if (host[0] == '\0')
		return bad_format(p, "missing host");
	if (strlen(host) > HOST_MAX)
		return bad_format(p, "host name too long");
	s->host = arena_strdup(p->arena, host);
	s->port = port;
	if (ip_parse(&s->ip, host) != 0)
		s->ip = (struct ip){ .family = 0 };
	return 0;
}

static int
read_rcode(const struct parse *p, struct dns_server *s, const char *name)
{
	/* RFC 1035 4.1.1, in order of value */
	static const char *const names[] = { "success", "format_error", "server_failure", "name_error", "not_implemented",
		"refused" };

	for (size_t i = 0; i < countof(names); i++) {
		if (str_equal(name, names[i])) {
			s->rcode = (int)i;
			s->host = names[i];
			return 0;
		}
	}
	return bad_format(p, arena_printf(p->arena, "unsupported RCode type: %s", name));
}

static void
read_ecs(const struct parse *p, struct dns_server *s, const char *value)
{
	if (prefix_parse(&s->ecs, value) == 0)
		return;
	if (ip_parse(&s->ecs.ip, value) == 0) {
		s->ecs.bits = s->ecs.ip.family == 4 ? 32 : 128;
		return;
	}
	s->ecs = (struct prefix){ .bits = 0 };
	log_warn("%s[%d]: ecs=%s is no address or prefix and is ignored", p->key, p->index, value);
}

static void
read_param(const struct parse *p, struct dns_server *s, const char *name, const char *value)
{
	static const char qtype[] = "disable-qtype-";
	bool on = str_equal(value, "true");
	int64_t v;

	if (str_equal(name, "h3"))
		s->h3 = on;
	else if (str_equal(name, "skip-cert-verify"))
		s->skip_verify = on;
	else if (str_equal(name, "name-cert-verify"))
		s->verify_name = arena_strdup(p->arena, value);
	else if (str_equal(name, "ecs"))
		read_ecs(p, s, value);
	else if (str_equal(name, "ecs-override"))
		s->ecs_override = on;
	else if (str_equal(name, "disable-ipv4"))
		s->no_ipv4 = on;
	else if (str_equal(name, "disable-ipv6"))
		s->no_ipv6 = on;
	else if (str_starts(name, qtype) && on && s->n_no_qtypes < DNS_NO_QTYPES_MAX &&
	    str_to_i64(name + sizeof(qtype) - 1, 0, 65535, &v) == 0)
		s->no_qtypes[s->n_no_qtypes++] = (uint16_t)v;
	else if (!str_starts(name, qtype) || on)
		log_warn("%s[%d]: parameter %s=%s is not known and is ignored", p->key, p->index, name, value);
}

/* What follows '#': parts joined by '&'; one without '=' names a proxy, a group or an interface. */
static void
read_fragment(const struct parse *p, struct dns_server *s, char *text)
{
	char *save = NULL;

	text[str_percent_decode(text, text, strlen(text))] = '\0';
	for (char *part = strtok_r(text, "&", &save); part != NULL; part = strtok_r(NULL, "&", &save)) {
		char *eq = strchr(part, '=');

		if (eq != NULL) {
			*eq = '\0';
			read_param(p, s, part, eq + 1);
		} else {
			s->rules = str_equal(part, "RULES");
			s->via = s->rules ? NULL : arena_strdup(p->arena, part);
		}
	}
}

static const struct scheme *
find_scheme(const char *name, size_t n)
{
	for (size_t i = 0; i < countof(schemes); i++)
		if (strlen(schemes[i].name) == n && strncasecmp(schemes[i].name, name, n) == 0)
			return &schemes[i];
	return NULL;
}

/* What follows "scheme://", without the fragment; changed. */
static int
read_rest(const struct parse *p, struct dns_server *s, char *rest, uint16_t port)
{
	char *path = rest + strcspn(rest, "/?"), *at;

	s->path = s->user = "";
	if (s->net == DNS_NET_DHCP) {
		s->host = arena_strdup(p->arena, rest);
		if (str_equal(rest, "system"))
			s->net = DNS_NET_SYSTEM;
		return 0;
	}
	if (*path != '\0' && (s->net == DNS_NET_HTTP || s->net == DNS_NET_HTTPS))
		s->path = arena_strdup(p->arena, path);
	*path = '\0';
	at = strrchr(rest, '@');
	if (at != NULL) {
		*at = '\0';
		s->user = arena_strdup(p->arena, rest);
		rest = at + 1;
	}
	if (s->net == DNS_NET_SYSTEM)
		return 0;
	if (s->net == DNS_NET_RCODE)
		return read_rcode(p, s, rest);
	return read_host(p, s, rest, port);
}

/* The text with its scheme made explicit: false when it does not fit. */
static bool
complete(const char *text, char *out, size_t cap)
{
	struct ip ip;
	int n;

	if (str_equal(text, "system"))
		n = snprintf(out, cap, "system://");
	else if (strstr(text, "://") != NULL)
		n = snprintf(out, cap, "%s", text);
	else if (strchr(text, ':') != NULL && text[0] != '[' && ip_parse(&ip, text) == 0)
		n = snprintf(out, cap, "udp://[%s]", text);
	else
		n = snprintf(out, cap, "udp://%s", text);
	return n >= 0 && (size_t)n < cap;
}

int
dns_server_parse(struct arena *a, const char *text, int index, struct dns_server *out, const struct cfg_node *n, const char *key,
    struct cfg_err *err)
{
	const struct parse p = { .arena = a, .node = n, .key = key, .index = index, .err = err };
	char full[SERVER_TEXT_MAX], *rest, *fragment;
	const struct scheme *scheme;

	*out = (struct dns_server){ .text = arena_strdup(a, text), .path = "", .user = "" };
	out->ignored = arena_alloc(a, sizeof(*out->ignored));
	if (!complete(text, full, sizeof(full)))
		return bad_format(&p, "text too long");
	for (const char *c = full; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return bad_format(&p, "net/url: invalid control character in URL");
	fragment = strchr(full, '#');
	if (fragment != NULL)
		*fragment++ = '\0';
	rest = strstr(full, "://");
	if (rest == NULL)
		return bad_format(&p, arena_printf(a, "missing scheme: %s", text));
	scheme = find_scheme(full, (size_t)(rest - full));
	if (scheme == NULL)
		return cfg_fail(err, n, key, "DNS NameServer[%d] unsupport scheme: %.*s", index, (int)(rest - full), full);
	out->net = scheme->net;
	if (fragment != NULL)
		read_fragment(&p, out, fragment);
	return read_rest(&p, out, rest + 3, scheme->port);
}

int
dns_servers_parse(struct arena *a, const struct cfg_node *list, const char *key, struct dns_servers *out, struct cfg_err *err)
{
	int index = 0;

	*out = (struct dns_servers){ .s = arena_array(a, cfg_count(list) + 1, sizeof(*out->s)) };
	cfg_each(c, list) {
		bool twice = false;
		int rc;

		for (int i = 0; i < out->n && !twice; i++)
			twice = str_equal(out->s[i].text, cfg_text(c));
		rc = twice ? 0 : dns_server_parse(a, cfg_text(c), index, &out->s[out->n], c, key, err);
		if (rc != 0)
			return rc;
		out->n += twice ? 0 : 1;
		index++;
	}
	return 0;
}

bool
dns_server_usable(const struct dns_server *s)
{
	switch (s->net) {
	case DNS_NET_UDP:
	case DNS_NET_TCP:
	case DNS_NET_TLS:
	case DNS_NET_SYSTEM:
	case DNS_NET_RCODE:
		return true;
	case DNS_NET_HTTPS:
		return !s->h3;
	case DNS_NET_HTTP:
	case DNS_NET_QUIC:
	case DNS_NET_DHCP:
		break;
	}
	return false;
}
