/* SPDX-License-Identifier: MIT */
/* Any bytes as a DNS message, beside ldns: what ldns reads of it and writes again, with its own compression, is read here,
 * too, with the same records: section, owner, type, class, TTL, and the address of A and AAAA. (Of the bytes themselves ldns
 * takes more than is right: it does not hold a record to its RDLENGTH.) */
#include <ldns/ldns.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/codec/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* ldns loses records that it read before one that it refuses; ours allocates nothing. */
const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* Names as ldns holds them: wire form, uncompressed; ours is text, and is compared where it has no escapes. */
static void
check_owner(const struct dns_msg *m, const struct dns_rr *rr, const ldns_rdf *owner)
{
	char text[DNS_NAME_TEXT];
	uint8_t wire[DNS_NAME_MAX];
	int n = dns_name_text(m, rr->name, text, sizeof(text));

	if (n < 0)
		abort();
	if (strchr(text, '\\') != NULL)
		return;
	n = dns_name_wire(wire, text);
	if (n < 0 || (size_t)n != ldns_rdf_size(owner) || memcmp(wire, ldns_rdf_data(owner), (size_t)n) != 0)
		abort();
}

static void
check_address(const struct dns_msg *m, const struct dns_rr *rr, const ldns_rr *theirs)
{
	size_t n = rr->type == DNS_T_A ? 4 : 16;
	const ldns_rdf *f = ldns_rr_rd_count(theirs) == 1 ? ldns_rr_rdf(theirs, 0) : NULL;
	struct ip ip;

	if ((rr->type != DNS_T_A && rr->type != DNS_T_AAAA) || rr->class != DNS_CLASS_IN || f == NULL)
		return;
	if (dns_rr_ip(m, rr, &ip) != 0) {
		if (n == 4 || memcmp(ldns_rdf_data(f), "\0\0\0\0\0\0\0\0\0\0\377\377", 12) != 0)
			abort();	/* only an IPv4-mapped AAAA is none for us */
		return;
	}
	if (memcmp(m->p + rr->rdata, ldns_rdf_data(f), n) != 0)
		abort();
}

/* ldns keeps the OPT record (RFC 6891) beside its lists. */
static bool
kept_apart(const struct dns_rr *rr)
{
	return rr->section == DNS_ADDITIONAL && rr->type == DNS_T_OPT;
}

static void
check_records(struct dns_msg *m, const ldns_pkt *pkt)
{
	const ldns_rr_list *lists[DNS_SECTIONS_] = { ldns_pkt_answer(pkt), ldns_pkt_authority(pkt), ldns_pkt_additional(pkt) };
	struct dns_rr rr;
	int rc;

	for (int s = 0; s < DNS_SECTIONS_; s++)
		for (size_t i = 0; i < ldns_rr_list_rr_count(lists[s]); i++) {
			const ldns_rr *theirs = ldns_rr_list_rr(lists[s], i);

			do
				rc = dns_next(m, &rr);
			while (rc > 0 && kept_apart(&rr) && rr.type != (uint16_t)ldns_rr_get_type(theirs));
			if (rc <= 0 || rr.section != s || rr.type != (uint16_t)ldns_rr_get_type(theirs) ||
			    rr.class != (uint16_t)ldns_rr_get_class(theirs) || rr.ttl != ldns_rr_ttl(theirs))
				abort();
			check_owner(m, &rr, ldns_rr_owner(theirs));
			check_address(m, &rr, theirs);
		}
	while ((rc = dns_next(m, &rr)) > 0)
		if (!kept_apart(&rr))
			abort();
	if (rc != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ldns_pkt *read = NULL, *pkt = NULL;
	struct dns_msg m;
	uint8_t *wire = NULL;
	size_t n = 0;

	if (size > DNS_MSG_MAX || ldns_wire2pkt(&read, data, size) != LDNS_STATUS_OK)
		return 0;
	/* a TSIG record is written as it was read, whatever its RDLENGTH said */
	if (ldns_pkt_tsig(read) == NULL && ldns_pkt2wire(&wire, read, &n) == LDNS_STATUS_OK && n <= DNS_MSG_MAX &&
	    ldns_wire2pkt(&pkt, wire, n) == LDNS_STATUS_OK) {
		if (dns_open(&m, wire, n) != 0 || m.id != ldns_pkt_id(pkt) || m.questions != ldns_pkt_qdcount(pkt))
			abort();
		check_records(&m, pkt);
	}
	free(wire);
	ldns_pkt_free(read);
	ldns_pkt_free(pkt);
	return 0;
}
