/* SPDX-License-Identifier: MIT */
/* IP addresses, prefixes, host:port text and socket addresses. Used by every program; owns nothing. Text comes from
 * configurations and from peers, so only what inet_pton takes is an address. IPv4-mapped IPv6 becomes IPv4 here, so that no
 * rule can be missed by spelling. */
#include "common/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"

/* RFC 4291, section 2.5.5.2: ::ffff:0:0/96 */
static const uint8_t mapped_head[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static void
set4(struct ip *ip, const void *b)
{
	memset(ip, 0, sizeof(*ip));
	ip->family = 4;
	memcpy(ip->b, b, 4);
}

/* From 16 bytes, unmapped. */
static void
set6(struct ip *ip, const uint8_t b[static 16])
{
	if (memcmp(b, mapped_head, sizeof(mapped_head)) == 0) {
		set4(ip, b + 12);
		return;
	}
	ip->family = 6;
	memcpy(ip->b, b, 16);
}

int
ip_parse(struct ip *out, const char *s)
{
	char buf[INET6_ADDRSTRLEN];
	uint8_t b[16];
	size_t n, len;
	bool bracket;

	if (s == NULL)
		return -E_INVAL;
	if (inet_pton(AF_INET, s, b) == 1) {
		set4(out, b);
		return 0;
	}
	len = strlen(s);
	bracket = len > 2 && s[0] == '[' && s[len - 1] == ']';
	if (bracket) {
		s++;
		len -= 2;
	}
	n = strcspn(s, "%");
	if (n >= len)
		n = len;
	else if (n + 1 == len)
		return -E_INVAL;	/* a zone without a name */
	if (n >= sizeof(buf))
		return -E_INVAL;
	memcpy(buf, s, n);
	buf[n] = '\0';
	if (inet_pton(AF_INET6, buf, b) != 1)
		return -E_INVAL;
	set6(out, b);
	return 0;
}

/* inet_ntop() goes through printf: 20 times slower, and every shown connection has three. */
static void
ip4_text(const uint8_t b[4], char *o)
{
	for (int i = 0; i < 4; i++) {
		unsigned v = b[i];

		if (v >= 100)
			*o++ = (char)('0' + v / 100);
		if (v >= 10)
			*o++ = (char)('0' + v / 10 % 10);
		*o++ = (char)('0' + v % 10);
		*o++ = i < 3 ? '.' : '\0';
	}
}

const char *
ip_text(const struct ip *ip, char out[static ADDR_TEXT_MAX])
{
	out[0] = '\0';
	if (ip->family == 4)
		ip4_text(ip->b, out);
	else if (ip->family == 6)
		(void)inet_ntop(AF_INET6, ip->b, out, ADDR_TEXT_MAX);
	return out;
}

bool
ip_equal(const struct ip *a, const struct ip *b)
{
	if (a->family != b->family)
		return false;
	return a->family == 0 || memcmp(a->b, b->b, a->family == 4 ? 4 : 16) == 0;
}

bool
ip_is_unspecified(const struct ip *ip)
{
	static const uint8_t zero[16];

	return ip->family != 0 && memcmp(ip->b, zero, ip->family == 4 ? 4 : 16) == 0;
}

bool
ip_is_loopback(const struct ip *ip)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (ip->family == 4)
		return ip->b[0] == 127;
	return ip->family == 6 && memcmp(ip->b, one, 16) == 0;
}

bool
ip_is_private(const struct ip *ip)
{
	const uint8_t *b = ip->b;

	if (ip_is_unspecified(ip) || ip_is_loopback(ip))
		return true;
	if (ip->family == 4) {
		return b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 192 && b[1] == 168) ||	/* RFC 1918 */
		    (b[0] == 169 && b[1] == 254) ||							/* RFC 3927 */
		    (b[0] & 0xf0) == 224;								/* RFC 5771 */
	}
	return ip->family == 6 && ((b[0] & 0xfe) == 0xfc ||		/* RFC 4193, unique local */
	    (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) ||			/* RFC 4291, link local */
	    b[0] == 0xff);						/* RFC 4291, multicast */
}

int
prefix_parse(struct prefix *out, const char *s)
{
	const char *slash = s == NULL ? NULL : strchr(s, '/');
	char buf[INET6_ADDRSTRLEN];
	struct prefix p;
	int64_t bits;
	size_t n;

	if (slash == NULL)
		return -E_INVAL;
	n = (size_t)(slash - s);
	if (n >= sizeof(buf))
		return -E_INVAL;
	memcpy(buf, s, n);
	buf[n] = '\0';
	/* neither brackets nor zones belong into a prefix, nor "/08" */
	if (strpbrk(buf, "[]%") != NULL || ip_parse(&p.ip, buf) != 0)
		return -E_INVAL;
	if (str_to_i64(slash + 1, 0, 128, &bits) != 0 || (slash[1] == '0' && slash[2] != '\0'))
		return -E_INVAL;
	if (p.ip.family == 4 && strchr(buf, ':') != NULL)
		bits -= 96;		/* mapped: a shorter one is neither IPv4 nor IPv6 */
	if (bits < 0 || (p.ip.family == 4 && bits > 32))
		return -E_INVAL;
	p.bits = (uint8_t)bits;
	*out = p;
	return 0;
}

const char *
prefix_text(const struct prefix *p, char out[static ADDR_TEXT_MAX])
{
	size_t n = strlen(ip_text(&p->ip, out));

	if (n > 0)
		(void)snprintf(out + n, ADDR_TEXT_MAX - n, "/%u", p->bits);
	return out;
}

bool
ip_in_prefix(const struct ip *ip, const struct prefix *p)
{
	size_t whole = p->bits / 8;
	unsigned rest = p->bits % 8;

	if (ip->family == 0 || ip->family != p->ip.family || p->bits > (ip->family == 4 ? 32 : 128))
		return false;
	if (memcmp(ip->b, p->ip.b, whole) != 0)
		return false;
	return rest == 0 || ((ip->b[whole] ^ p->ip.b[whole]) & (0xff00U >> rest) & 0xffU) == 0;
}

void
ip_from_sockaddr(struct ip *ip, uint16_t *port, const struct sockaddr *sa)
{
	union sockaddr_any any;
	uint16_t host_port = 0;

	memset(ip, 0, sizeof(*ip));
	if (sa->sa_family == AF_INET) {
		memcpy(&any.in, sa, sizeof(any.in));
		set4(ip, &any.in.sin_addr);
		host_port = ntohs(any.in.sin_port);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&any.in6, sa, sizeof(any.in6));
		set6(ip, any.in6.sin6_addr.s6_addr);
		host_port = ntohs(any.in6.sin6_port);
	}
	if (port != NULL)
		*port = host_port;
}

struct ip
ip_from_pktinfo(struct msghdr *m)
{
	union sockaddr_any sa = { 0 };
	struct ip ip = { 0 };

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo i;

			memcpy(&i, CMSG_DATA(c), sizeof(i));
			sa.in.sin_family = AF_INET;
			sa.in.sin_addr = i.ipi_addr;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo i;

			memcpy(&i, CMSG_DATA(c), sizeof(i));
			sa.in6.sin6_family = AF_INET6;
			sa.in6.sin6_addr = i.ipi6_addr;
		} else {
			continue;
		}
		ip_from_sockaddr(&ip, NULL, &sa.sa);
		break;
	}
	return ip;
}

socklen_t
ip_to_sockaddr(union sockaddr_any *out, const struct ip *ip, uint16_t port)
{
	if (ip->family == 6)
		return ip_to_sockaddr6(out, ip, port);
	memset(out, 0, sizeof(*out));
	if (ip->family != 4)
		return 0;
	out->in.sin_family = AF_INET;
	out->in.sin_port = htons(port);
	memcpy(&out->in.sin_addr, ip->b, 4);
	return sizeof(out->in);
}

socklen_t
ip_to_sockaddr6(union sockaddr_any *out, const struct ip *ip, uint16_t port)
{
	memset(out, 0, sizeof(*out));
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_port = htons(port);
	if (ip->family == 4) {
		memcpy(out->in6.sin6_addr.s6_addr, mapped_head, sizeof(mapped_head));
		memcpy(out->in6.sin6_addr.s6_addr + 12, ip->b, 4);
	} else if (ip->family == 6) {
		memcpy(out->in6.sin6_addr.s6_addr, ip->b, 16);
	}
	return sizeof(out->in6);
}

/* Blanks, control bytes and brackets are in no name. */
static bool
host_is_plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= ' ' || c == 0x7f || c == '[' || c == ']' || c == ':')
			return false;
	}
	return true;
}

int
hostport_parse(const char *s, char *host, size_t cap, uint16_t *port)
{
	const char *colon = s == NULL ? NULL : strrchr(s, ':');
	char buf[HOST_MAX + 3];
	int64_t number;
	struct ip ip;
	size_t n;

	if (colon == NULL || str_to_i64(colon + 1, 0, 65535, &number) != 0)
		return -E_INVAL;
	n = (size_t)(colon - s);
	if (n >= sizeof(buf))
		return -E_INVAL;
	memcpy(buf, s, n);
	buf[n] = '\0';
	if (buf[0] == '[') {
		if (ip_parse(&ip, buf) != 0)
			return -E_INVAL;
		n -= 2;
		memmove(buf, buf + 1, n);
		buf[n] = '\0';
	} else if (n > HOST_MAX || !host_is_plain(buf, n)) {
		return -E_INVAL;
	}
	if (n >= cap)
		return -E_INVAL;
	memcpy(host, buf, n + 1);
	if (port != NULL)
		*port = (uint16_t)number;
	return 0;
}

const char *
hostport_text(char *out, size_t cap, const char *host, uint16_t port)
{
	bool v6 = host[0] != '[' && strchr(host, ':') != NULL;

	(void)snprintf(out, cap, v6 ? "[%s]:%u" : "%s:%u", host, port);
	return out;
}
