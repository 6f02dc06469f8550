/* SPDX-License-Identifier: MIT */
/* IP addresses, prefixes and host:port text. IPv4-mapped IPv6 addresses are unmapped on the way in, everywhere. */
#ifndef SLUICE_COMMON_ADDR_H
#define SLUICE_COMMON_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct ip {
	uint8_t family;		/* 4, 6, or 0 = none */
	uint8_t b[16];		/* network order; IPv4 in b[0..3], the rest zero */
};

struct prefix {
	struct ip ip;		/* host bits are kept as written; ip_in_prefix() masks */
	uint8_t bits;
};

enum { ADDR_TEXT_MAX = 64, HOST_MAX = 255 };

union sockaddr_any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage ss;
};

int ip_parse(struct ip *out, const char *s);				/* plain text, "[v6]" too, a %zone is dropped; 0 or -E_INVAL */
const char *ip_text(const struct ip *ip, char out[static ADDR_TEXT_MAX]);	/* "" for none; returns out */
bool ip_equal(const struct ip *a, const struct ip *b);
bool ip_is_private(const struct ip *ip);		/* RFC 1918, loopback, link local, unspecified, multicast, ULA: "lan" of spec/config.md 11 */
bool ip_is_loopback(const struct ip *ip);
bool ip_is_unspecified(const struct ip *ip);

int prefix_parse(struct prefix *out, const char *s);	/* "ip/bits"; a bare ip is -E_INVAL (spec/config.md 1) */
const char *prefix_text(const struct prefix *p, char out[static ADDR_TEXT_MAX]);
bool ip_in_prefix(const struct ip *ip, const struct prefix *p);

/* The address that a datagram was sent to: IP_PKTINFO or IPV6_PKTINFO of a received message; none when the kernel did not say. */
struct ip ip_from_pktinfo(struct msghdr *m);
/* sockaddr <-> ip, port (host order). */
void ip_from_sockaddr(struct ip *ip, uint16_t *port, const struct sockaddr *sa);	/* other families: none, 0 */
socklen_t ip_to_sockaddr(union sockaddr_any *out, const struct ip *ip, uint16_t port);
/* As v4-mapped IPv6, for a dual-stack socket. */
socklen_t ip_to_sockaddr6(union sockaddr_any *out, const struct ip *ip, uint16_t port);

/* Splits "host:port", "[v6]:port", ":port" (host ""). 0 or -E_INVAL; port 0..65535, decimal digits only. */
int hostport_parse(const char *s, char *host, size_t cap, uint16_t *port);
/* "1.2.3.4:80", "[::1]:80", "name:80". Returns out, cut at cap. */
const char *hostport_text(char *out, size_t cap, const char *host, uint16_t port);

#endif
