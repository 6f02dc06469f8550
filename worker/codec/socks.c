/* SPDX-License-Identifier: MIT */
/* SOCKS messages, see socks.h. RFC 1928 (SOCKS5), RFC 1929 (user name and password); SOCKS4: "SOCKS: A protocol for TCP proxy
 * across firewalls", and "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol". No state, no I/O, no allocation. */
#include "worker/codec/socks.h"

#include <string.h>

#include "common/err.h"

enum { ATYP_IPV4 = 1, ATYP_NAME = 3, ATYP_IPV6 = 4 };	/* RFC 1928 5 */

static uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void
put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Takes a name, or the address when the name is a literal. */
static int
set_name(struct socks_addr *out, const uint8_t *p, size_t n)
{
	char text[HOST_MAX + 1];

	if (n == 0 || n > HOST_MAX || memchr(p, 0, n) != NULL)
		return -E_PROTO;
	memcpy(text, p, n);
	text[n] = '\0';
	if (ip_parse(&out->ip, text) == 0)
		return 0;
	memset(&out->ip, 0, sizeof(out->ip));
	out->host = (const char *)p;
	out->host_len = n;
	return 0;
}

/* A v4-mapped address is IPv4 everywhere inside (common/addr.h). */
static void
set_ip6(struct ip *ip, const uint8_t *p)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

	memset(ip, 0, sizeof(*ip));
	if (memcmp(p, mapped, sizeof(mapped)) == 0) {
		ip->family = 4;
		memcpy(ip->b, p + 12, 4);
		return;
	}
	ip->family = 6;
	memcpy(ip->b, p, 16);
}

int
socks_addr_parse(const uint8_t *p, size_t n, struct socks_addr *out)
{
	struct socks_addr a = { 0 };
	size_t body = 1, len;
	int rc;

	if (n < 1)
		return -E_AGAIN;
	switch (p[0]) {
	case ATYP_IPV4:
		len = 4;
		break;
	case ATYP_IPV6:
		len = 16;
		break;
	case ATYP_NAME:
		if (n < 2)
			return -E_AGAIN;
		len = p[1];
		body = 2;
		if (len == 0)
			return -E_PROTO;
		break;
	default:
		return -E_UNSUP;
	}
	if (n < body + len + 2)
		return -E_AGAIN;
	if (p[0] == ATYP_IPV4) {
		a.ip.family = 4;
		memcpy(a.ip.b, p + body, 4);
	} else if (p[0] == ATYP_IPV6) {
		set_ip6(&a.ip, p + body);
	} else if ((rc = set_name(&a, p + body, len)) != 0) {
		return rc;
	}
	a.port = get_u16(p + body + len);
	*out = a;
	return (int)(body + len + 2);
}

int
socks_addr_write(uint8_t *out, const struct socks_addr *a)
{
	size_t n;

	if (a->ip.family == 4) {
		out[0] = ATYP_IPV4;
		memcpy(out + 1, a->ip.b, 4);
		n = 5;
	} else if (a->ip.family == 6) {
		out[0] = ATYP_IPV6;
		memcpy(out + 1, a->ip.b, 16);
		n = 17;
	} else {
		if (a->host == NULL || a->host_len == 0 || a->host_len > HOST_MAX)
			return -E_INVAL;
		out[0] = ATYP_NAME;
		out[1] = (uint8_t)a->host_len;
		memcpy(out + 2, a->host, a->host_len);
		n = 2 + a->host_len;
	}
	put_u16(out + n, a->port);
	return (int)(n + 2);
}

/* VER NMETHODS METHODS, RFC 1928 3. */
int
socks5_greeting_parse(const uint8_t *p, size_t n, struct socks5_greeting *out)
{
	struct socks5_greeting g = { 0 };
	size_t i;

	if (n < 1)
		return -E_AGAIN;
	if (p[0] != 5)
		return -E_PROTO;
	if (n < 2 || n < 2u + p[1])
		return -E_AGAIN;
	for (i = 0; i < p[1]; i++) {
		g.no_auth |= p[2 + i] == SOCKS5_NO_AUTH;
		g.userpass |= p[2 + i] == SOCKS5_USERPASS;
	}
	*out = g;
	return 2 + p[1];
}

/* VER ULEN UNAME PLEN PASSWD, RFC 1929 2. */
int
socks5_auth_parse(const uint8_t *p, size_t n, struct socks_auth *out)
{
	size_t nu, np;

	if (n < 1)
		return -E_AGAIN;
	if (p[0] != 1)
		return -E_PROTO;
	if (n < 2)
		return -E_AGAIN;
	nu = p[1];
	if (n < 3 + nu)
		return -E_AGAIN;
	np = p[2 + nu];
	if (n < 3 + nu + np)
		return -E_AGAIN;
	out->user = (const char *)p + 2;
	out->nu = nu;
	out->password = (const char *)p + 3 + nu;
	out->np = np;
	return (int)(3 + nu + np);
}

/* VER CMD RSV ATYP DST.ADDR DST.PORT, RFC 1928 4. */
int
socks5_request_parse(const uint8_t *p, size_t n, struct socks_request *out)
{
	struct socks_request r = { 0 };
	int len;

	if (n >= 1 && p[0] != 5)
		return -E_PROTO;
	if (n < 4)
		return -E_AGAIN;
	r.command = p[1];
	len = socks_addr_parse(p + 3, n - 3, &r.to);
	if (len < 0)
		return len;
	*out = r;
	return 3 + len;
}

/* The NUL-terminated text at p: its length without the NUL; -E_LIMIT when it is longer than max. */
static int
text_length(const uint8_t *p, size_t n, size_t max)
{
	const uint8_t *end = memchr(p, 0, n < max + 1 ? n : max + 1);

	if (end != NULL)
		return (int)(end - p);
	return n > max ? -E_LIMIT : -E_AGAIN;
}

/* VN CD DSTPORT DSTIP USERID NUL [host NUL]; the name is there when DSTIP is 0.0.0.x, x not 0 (SOCKS 4A). */
int
socks4_request_parse(const uint8_t *p, size_t n, struct socks_request *out)
{
	struct socks_request r = { 0 };
	int nu, nh, rc;

	if (n >= 1 && p[0] != 4)
		return -E_PROTO;
	if (n < 9)
		return -E_AGAIN;
	nu = text_length(p + 8, n - 8, SOCKS4_USER_MAX);
	if (nu < 0)
		return nu;
	r.command = p[1];
	r.to.port = get_u16(p + 2);
	r.user = (const char *)p + 8;
	r.nu = (size_t)nu;
	if (p[4] != 0 || p[5] != 0 || p[6] != 0 || p[7] == 0) {
		r.to.ip.family = 4;
		memcpy(r.to.ip.b, p + 4, 4);
		*out = r;
		return 9 + nu;
	}
	nh = text_length(p + 9 + nu, n - 9 - (size_t)nu, HOST_MAX);
	if (nh < 0)
		return nh;
	rc = set_name(&r.to, p + 9 + nu, (size_t)nh);
	if (rc != 0)
		return rc;
	*out = r;
	return 9 + nu + nh + 1;
}

void
socks5_choice_write(uint8_t out[static 2], uint8_t method)
{
	out[0] = 5;
	out[1] = method;
}

void
socks5_auth_reply_write(uint8_t out[static 2], bool good)
{
	out[0] = 1;
	out[1] = good ? 0 : 1;
}

int
socks5_reply_write(uint8_t out[static 22], uint8_t rep, const struct ip *bound, uint16_t port)
{
	static const struct ip any = { .family = 4 };
	struct socks_addr a = { .ip = bound != NULL && bound->family != 0 ? *bound : any, .port = port };

	out[0] = 5;
	out[1] = rep;
	out[2] = 0;
	return 3 + socks_addr_write(out + 3, &a);
}

/* VN 0, CD, DSTPORT, DSTIP. An IPv6 address has no form here and is shown as 0.0.0.0. */
int
socks4_reply_write(uint8_t out[static SOCKS4_REPLY_SIZE], uint8_t rep, const struct ip *bound, uint16_t port)
{
	memset(out, 0, SOCKS4_REPLY_SIZE);
	out[1] = rep;
	put_u16(out + 2, port);
	if (bound != NULL && bound->family == 4)
		memcpy(out + 4, bound->b, 4);
	return SOCKS4_REPLY_SIZE;
}

uint8_t
socks5_rep_from_err(int err)
{
	switch (err < 0 ? -err : err) {
	case E_OK:
		return SOCKS5_OK;
	case E_REJECTED:
	case E_PERM:
		return SOCKS5_NOT_ALLOWED;
	case E_UNREACH:
	case E_DNS:
	case E_NOTFOUND:
		return SOCKS5_HOST_UNREACH;
	case E_REFUSED:
		return SOCKS5_REFUSED;
	case E_TIMEOUT:
		return SOCKS5_TTL_EXPIRED;
	default:
		return SOCKS5_FAILURE;
	}
}

int
socks5_greeting_write(uint8_t out[static SOCKS5_GREETING_MAX], bool no_auth, bool userpass)
{
	int n = 2;

	out[0] = 5;
	if (no_auth)
		out[n++] = SOCKS5_NO_AUTH;
	if (userpass)
		out[n++] = SOCKS5_USERPASS;
	out[1] = (uint8_t)(n - 2);
	return n;
}

int
socks5_choice_parse(const uint8_t *p, size_t n, uint8_t *method)
{
	if (n >= 1 && p[0] != 5)
		return -E_PROTO;
	if (n < 2)
		return -E_AGAIN;
	*method = p[1];
	return 2;
}

int
socks5_auth_write(uint8_t out[static SOCKS5_AUTH_MAX], const char *user, const char *password)
{
	size_t nu = strlen(user), np = strlen(password);

	if (nu > 255 || np > 255)
		return -E_INVAL;
	out[0] = 1;
	out[1] = (uint8_t)nu;
	memcpy(out + 2, user, nu);
	out[2 + nu] = (uint8_t)np;
	memcpy(out + 3 + nu, password, np);
	return (int)(3 + nu + np);
}

/* VER STATUS, RFC 1929 2. Some servers answer version 5 here; only the status decides. */
int
socks5_auth_reply_parse(const uint8_t *p, size_t n)
{
	if (n < 2)
		return -E_AGAIN;
	return p[1] == 0 ? 2 : -E_AUTH;
}

int
socks5_request_write(uint8_t out[static SOCKS5_REQUEST_MAX], uint8_t command, const struct socks_addr *to)
{
	int n;

	out[0] = 5;
	out[1] = command;
	out[2] = 0;
	n = socks_addr_write(out + 3, to);
	return n < 0 ? n : 3 + n;
}

/* VER REP RSV ATYP BND.ADDR BND.PORT, RFC 1928 6. */
int
socks5_reply_parse(const uint8_t *p, size_t n, uint8_t *rep, struct socks_addr *bound)
{
	int len;

	if (n >= 1 && p[0] != 5)
		return -E_PROTO;
	if (n < 4)
		return -E_AGAIN;
	len = socks_addr_parse(p + 3, n - 3, bound);
	if (len < 0) {
		/* A refusal is one whatever stands behind it. */
		if (len == -E_AGAIN || p[1] == SOCKS5_OK)
			return len;
		memset(bound, 0, sizeof(*bound));
		len = (int)(n - 3);
	}
	*rep = p[1];
	return 3 + len;
}

int
socks5_err_from_rep(uint8_t rep)
{
	switch (rep) {
	case SOCKS5_OK:
		return 0;
	case SOCKS5_NOT_ALLOWED:
		return E_REJECTED;
	case SOCKS5_NET_UNREACH:
	case SOCKS5_HOST_UNREACH:
		return E_UNREACH;
	case SOCKS5_REFUSED:
		return E_REFUSED;
	case SOCKS5_TTL_EXPIRED:
		return E_TIMEOUT;
	case SOCKS5_BAD_COMMAND:
	case SOCKS5_BAD_ADDRESS:
		return E_UNSUP;
	default:
		return E_PROTO;
	}
}

const char *
socks5_rep_text(uint8_t rep)
{
	static const char *const texts[] = { "succeeded", "general failure", "not allowed by ruleset", "network unreachable",
		"host unreachable", "connection refused", "TTL expired", "command not supported", "address type not supported" };

	return rep < sizeof(texts) / sizeof(texts[0]) ? texts[rep] : "unknown reply";
}

/* RSV RSV FRAG ATYP DST.ADDR DST.PORT DATA, RFC 1928 7. RSV is not looked at. */
int
socks5_udp_parse(const uint8_t *p, size_t n, struct socks_addr *to)
{
	int len;

	if (n < 4)
		return -E_PROTO;
	if (p[2] != 0)
		return -E_UNSUP;
	len = socks_addr_parse(p + 3, n - 3, to);
	if (len < 0)
		return len == -E_AGAIN ? -E_PROTO : len;
	return 3 + len;
}

int
socks5_udp_write(uint8_t out[static SOCKS5_UDP_HEADER_MAX], const struct socks_addr *from)
{
	int n;

	out[0] = out[1] = out[2] = 0;
	n = socks_addr_write(out + 3, from);
	return n < 0 ? n : 3 + n;
}
