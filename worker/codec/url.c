/* SPDX-License-Identifier: MIT */
/* URLs of downloads and delay tests. Called by provider/fetch.c and outbound/delay.c; see url.h. */
#include "worker/codec/url.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/strutil.h"

static bool
clean(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

/* The length of "http://" or "https://" at s, 0 = another scheme. */
static size_t
scheme_length(const char *s, bool *https)
{
	*https = strncasecmp(s, "https://", 8) == 0;
	return *https ? 8 : strncasecmp(s, "http://", 7) == 0 ? 7 : 0;
}

static int
parse_host(struct url *u, const char *s, size_t n)
{
	char text[HOST_MAX + 16];

	if (n == 0 || n >= sizeof text)
		return -E_INVAL;
	memcpy(text, s, n);
	text[n] = '\0';
	if (text[n - 1] == ':')		/* an empty port is the scheme's */
		text[--n] = '\0';
	if (n == 0)
		return -E_INVAL;
	if (strchr(text, ':') != NULL && text[n - 1] != ']')
		return hostport_parse(text, u->host, sizeof u->host, &u->port) != 0 || u->host[0] == '\0' ? -E_INVAL : 0;
	if (text[0] == '[' && n > 2 && text[n - 1] == ']') {
		text[n - 1] = '\0';
		return str_copy(u->host, sizeof u->host, text + 1) > HOST_MAX ? -E_INVAL : 0;
	}
	return str_copy(u->host, sizeof u->host, text) > HOST_MAX ? -E_INVAL : 0;
}

int
url_parse(struct url *out, const char *s)
{
	struct url u = { .port = 80 };
	size_t skip = scheme_length(s, &u.https), n;
	const char *at;

	if (skip == 0 || !clean(s))
		return -E_INVAL;
	if (u.https)
		u.port = 443;
	s += skip;
	n = strcspn(s, "/?#");
	u.path = s + n;
	u.path_len = strcspn(u.path, "#");
	at = memrchr(s, '@', n);
	if (at != NULL) {
		size_t k = (size_t)(at - s);

		if (k >= sizeof u.user)
			return -E_INVAL;
		memcpy(u.user, s, k);
		u.user[k] = '\0';
		n -= k + 1;
		s = at + 1;
	}
	if (parse_host(&u, s, n) != 0)
		return -E_INVAL;
	*out = u;
	return 0;
}

int
url_resolve(char *out, size_t cap, const char *base, const char *reference)
{
	bool https;
	size_t skip = scheme_length(base, &https), keep;
	const char *end;
	int n;

	if (scheme_length(reference, &https) != 0) {
		n = snprintf(out, cap, "%s", reference);
		return n < 0 || (size_t)n >= cap ? -E_LIMIT : 0;
	}
	if (skip == 0)
		return -E_INVAL;
	keep = skip + strcspn(base + skip, "/?#");
	if (reference[0] == '/' && reference[1] == '/') {
		keep = skip - 2;
	} else if (reference[0] != '/') {	/* beside the last segment of the path */
		size_t path = keep + strcspn(base + keep, "?#");

		if (reference[0] != '?') {
			end = memrchr(base + keep, '/', path - keep);
			path = end != NULL ? (size_t)(end + 1 - base) : keep;
		}
		n = snprintf(out, cap, "%.*s%s%s", (int)path, base, path == keep && reference[0] != '?' ? "/" : "", reference);
		return n < 0 || (size_t)n >= cap ? -E_LIMIT : 0;
	}
	n = snprintf(out, cap, "%.*s%s", (int)keep, base, reference);
	return n < 0 || (size_t)n >= cap ? -E_LIMIT : 0;
}

void
url_host_field(const struct url *u, char *out, size_t cap)
{
	struct ip ip;

	if (u->port != (u->https ? 443 : 80))
		(void)hostport_text(out, cap, u->host, u->port);
	else
		(void)snprintf(out, cap, ip_parse(&ip, u->host) == 0 && ip.family == 6 ? "[%s]" : "%s", u->host);
}
