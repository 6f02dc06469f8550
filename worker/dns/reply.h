/* SPDX-License-Identifier: MIT */
/* The messages of the DNS server (RFC 1035 4, EDNS RFC 6891): a client's question read, and the answers to it written. No I/O,
 * no state, nothing allocated; nothing that a client or a name server sent is believed. Used by serve.c and serve_tcp.c. */
#ifndef SLUICE_WORKER_DNS_REPLY_H
#define SLUICE_WORKER_DNS_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "worker/codec/dns.h"

enum {
	DNS_REPLY_MIN = 512,		/* the least room of a reply: RFC 1035 4.2.1 */
	DNS_REPLY_UDP_MAX = 4096,	/* whatever the client says it takes */
	DNS_REPLY_TTL = 10		/* of what hosts: answers (spec/config.md 14.2) */
};
enum { DNS_R_BADVERS = 16 };		/* RFC 6891 9: the low 4 bits are in the header, the others in the OPT record */

struct dns_question {
	uint16_t id, flags;		/* as received */
	uint16_t type, class;
	uint16_t udp_size;		/* what the client takes over UDP, 512..4096 */
	bool edns, dnssec_ok;
	uint8_t n;			/* of name, 0: the message had no readable question */
	uint8_t name[DNS_NAME_MAX];	/* wire form, in the case that it came in */
};

/* 0; a positive RCODE to answer with; or -E_PROTO: no question at all, not to be answered, q is untouched. Else q is filled as
 * far as it could be read, for dns_reply_empty(). */
int dns_question_read(struct dns_question *q, const uint8_t *p, size_t n);
/* The name without final dot; false when a text cannot tell it: a label with a dot or NUL. */
bool dns_question_host(const struct dns_question *q, char out[static HOST_MAX + 1]);

/* All of these write a reply of at most cap bytes, cap >= DNS_REPLY_MIN; what does not fit is left out and TC set. The length or
 * -E_*. */
int dns_reply_empty(const struct dns_question *q, uint8_t *out, size_t cap, int rcode);
/* The addresses of the family that is asked for; behind a CNAME to alias unless that is NULL. */
int dns_reply_ips(const struct dns_question *q, uint8_t *out, size_t cap, const char *alias, const struct ip *ips, int n,
    uint32_t ttl);
/* The name of an address (PTR). */
int dns_reply_name(const struct dns_question *q, uint8_t *out, size_t cap, const char *name, uint32_t ttl);
/* A name server's answer to the same question, but for its OPT record and what follows that. -E_PROTO: it is no such thing. */
int dns_reply_pass(const struct dns_question *q, uint8_t *out, size_t cap, const uint8_t *msg, size_t n);
/* A CNAME to alias, then the addresses, aliases and SOA of a name server's answer to a question for alias; msg NULL: the CNAME
 * only. */
int dns_reply_alias(const struct dns_question *q, uint8_t *out, size_t cap, const char *alias, const uint8_t *msg, size_t n);

#endif
