/* SPDX-License-Identifier: MIT */
/* DNS messages (RFC 1035 4, EDNS 6891, SVCB 9460, unknown types 3597): a query writer, and a reader that walks the records
 * of a message in place. No allocation, and nothing of a message is believed: names are bounded in length and in compression
 * jumps, RDLENGTH is checked against the message and again against what the record's type holds.
 *
 *   struct dns_msg m; struct dns_rr rr;
 *   if (dns_open(&m, p, n) == 0)
 *           while ((rc = dns_next(&m, &rr)) > 0) ...	// rc 0: end, < 0: the message is broken */
#ifndef SLUICE_WORKER_CODEC_DNS_H
#define SLUICE_WORKER_CODEC_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/wire.h"

enum {
	DNS_HEADER = 12,
	DNS_LABEL_MAX = 63, DNS_NAME_MAX = 255,	/* RFC 1035 2.3.4, on the wire */
	DNS_JUMPS_MAX = 16,		/* compression pointers followed in one name */
	DNS_NAME_TEXT = 1024,		/* room for any name as text: each of its bytes may become \DDD */
	DNS_QUERY_MAX = DNS_HEADER + DNS_NAME_MAX + 4 + 11,
	DNS_MSG_MAX = 65535
};
enum dns_type { /* IANA "Resource Record (RR) TYPEs" */
	DNS_T_A = 1,
	DNS_T_NS = 2,
	DNS_T_CNAME = 5,
	DNS_T_SOA = 6,
	DNS_T_PTR = 12,
	DNS_T_MX = 15,
	DNS_T_TXT = 16,
	DNS_T_AAAA = 28,
	DNS_T_SRV = 33,
	DNS_T_DNAME = 39,
	DNS_T_OPT = 41,
	DNS_T_SVCB = 64,
	DNS_T_HTTPS = 65,
	DNS_T_ANY = 255,
	DNS_T_CAA = 257
};
enum { DNS_CLASS_IN = 1 };
enum dns_rcode { DNS_R_OK, DNS_R_FORMAT, DNS_R_SERVFAIL, DNS_R_NXDOMAIN, DNS_R_NOTIMP, DNS_R_REFUSED };	/* RFC 1035 4.1.1 */
enum dns_flags {
	DNS_F_QR = 0x8000,
	DNS_F_AA = 0x0400,
	DNS_F_TC = 0x0200,
	DNS_F_RD = 0x0100,
	DNS_F_RA = 0x0080,
	DNS_F_AD = 0x0020,
	DNS_F_CD = 0x0010,
	DNS_F_RCODE = 0x000f
};
enum dns_section { DNS_ANSWER, DNS_AUTHORITY, DNS_ADDITIONAL, DNS_SECTIONS_ };

struct dns_msg {		/* borrows the message */
	const uint8_t *p;
	size_t n, off;		/* off: of the next record */
	uint16_t id, flags;
	uint16_t questions, left[DNS_SECTIONS_];	/* left: records not yet walked */
	int section;
	uint16_t qtype, qclass;	/* of the first question; 0 when there is none */
};
struct dns_rr {			/* offsets into the message */
	size_t name, rdata;
	uint32_t ttl;
	uint16_t type, class, rdlen;
	uint8_t section;
};

/* Text to wire form, uncompressed: labels between dots, one trailing dot is ignored, "" is the root. The length, or -E_INVAL
 * (an empty or long label, a long name). No escapes: bytes are taken as they are. */
int dns_name_wire(uint8_t out[static DNS_NAME_MAX], const char *name);
/* A recursive query of class IN; udp_size != 0 adds an OPT record that offers it (RFC 6891 6.1.2). The length, or -E_INVAL
 * for the name. */
int dns_query_write(uint8_t out[static DNS_QUERY_MAX], uint16_t id, const char *name, uint16_t type, uint16_t udp_size);
/* The empty answer with this rcode to a query of ours, in place of an upstream's; out as large as the query. The length, or
 * -E_PROTO. */
int dns_answer_empty(uint8_t *out, size_t cap, const uint8_t *query, size_t n, int rcode);

/* Reads the header and steps over the questions. -E_PROTO when the message is too short or a question is broken. */
int dns_open(struct dns_msg *m, const void *p, size_t n);
/* The next record: 1 filled, 0 the end, -E_PROTO broken. */
int dns_next(struct dns_msg *m, struct dns_rr *rr);
/* The message is an answer and repeats the one question of this query; names are compared without case (RFC 1035 2.3.3, RFC
 * 5452 3). The identifier is the caller's matter. */
bool dns_echoes(const struct dns_msg *m, const uint8_t *query, size_t n);
/* The address of an A or AAAA record of class IN; -E_PROTO for every other record, a wrong length, and an IPv4-mapped AAAA. */
int dns_rr_ip(const struct dns_msg *m, const struct dns_rr *rr, struct ip *ip);
/* Writes the record's TTL into the message that it was read from. */
void dns_rr_set_ttl(uint8_t *msg, const struct dns_rr *rr, uint32_t ttl);
/* Seconds that a negative answer may be kept: the lesser of the SOA record's TTL and its MINIMUM (RFC 2308 5); 0 when rr is
 * no good SOA. */
uint32_t dns_soa_ttl(const struct dns_msg *m, const struct dns_rr *rr);

/* A name of the message as text with its final dot, special bytes escaped (RFC 1035 5.1); its length, or -E_PROTO, or
 * -E_LIMIT when cap is too small. */
int dns_name_text(const struct dns_msg *m, size_t off, char *out, size_t cap);
/* The record's data in presentation form (master file, RFC 1035 5; SVCB RFC 9460 2.1); types not known here as "\# length
 * hex" (RFC 3597 5). Returned as by dns_name_text(). */
int dns_rdata_text(const struct dns_msg *m, const struct dns_rr *rr, char *out, size_t cap);

/* dns_show.c: the value map of GET /dns/query (common/snapshot.h). 0 or -E_PROTO. */
int dns_show(const void *msg, size_t n, struct wire *out);

#endif
