/* SPDX-License-Identifier: MIT */
/* A DNS answer as the value map of GET /dns/query (spec/api.md 3.9). Called by the worker's query handler with a message
 * that an upstream sent; a record whose data is broken refuses the whole answer. Owns nothing. */
#include <stdio.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/codec/dns.h"

enum { DATA_TEXT = 16384 };	/* longer data is left out of the list */

static int
show_question(const struct dns_msg *m, struct wire *out)
{
	char name[DNS_NAME_TEXT];

	value_key(out, "Question");
	value_list(out);
	if (m->questions > 0) {
		if (dns_name_text(m, DNS_HEADER, name, sizeof(name)) < 0)
			return -E_PROTO;
		value_map(out);
		value_key_str(out, "Name", name);
		value_key_int(out, "Qtype", m->qtype);
		value_key_int(out, "Qclass", m->qclass);
		value_map_end(out);
	}
	value_list_end(out);
	return 0;
}

static int
show_record(const struct dns_msg *m, const struct dns_rr *rr, struct wire *out)
{
	char name[DNS_NAME_TEXT], data[DATA_TEXT];
	int n = dns_name_text(m, rr->name, name, sizeof(name)), rc = n >= 0 ? dns_rdata_text(m, rr, data, sizeof(data)) : n;

	if (rc == -E_LIMIT)
		return 0;
	if (rc < 0)
		return rc;
	value_map(out);
	value_key_int(out, "TTL", rr->ttl);
	value_key_str(out, "data", data);
	value_key_str(out, "name", name);
	value_key_int(out, "type", rr->type);
	value_map_end(out);
	return 0;
}

/* m is a copy: each section is looked for anew. An OPT record is no data (RFC 6891 6.1.1) and is left out. */
static int
show_section(struct dns_msg m, int section, const char *key, struct wire *out)
{
	struct dns_rr rr;
	bool open = false;
	int rc;

	while ((rc = dns_next(&m, &rr)) > 0) {
		if (rr.section != section || rr.type == DNS_T_OPT)
			continue;
		if (!open) {
			value_key(out, key);
			value_list(out);
			open = true;
		}
		rc = show_record(&m, &rr, out);
		if (rc != 0)
			return rc;
	}
	if (open)
		value_list_end(out);
	return rc;
}

static void
show_flag(const struct dns_msg *m, const char *key, unsigned flag, struct wire *out)
{
	value_key_bool(out, key, (m->flags & flag) != 0);
}

int
dns_show(const void *msg, size_t n, struct wire *out)
{
	struct dns_msg m;

	if (dns_open(&m, msg, n) != 0)
		return -E_PROTO;
	value_map(out);		/* keys in byte order */
	show_flag(&m, "AD", DNS_F_AD, out);
	if (show_section(m, DNS_ADDITIONAL, "Additional", out) != 0 || show_section(m, DNS_ANSWER, "Answer", out) != 0 ||
	    show_section(m, DNS_AUTHORITY, "Authority", out) != 0)
		return -E_PROTO;
	show_flag(&m, "CD", DNS_F_CD, out);
	if (show_question(&m, out) != 0)
		return -E_PROTO;
	show_flag(&m, "RA", DNS_F_RA, out);
	show_flag(&m, "RD", DNS_F_RD, out);
	value_key_int(out, "Status", m.flags & DNS_F_RCODE);
	show_flag(&m, "TC", DNS_F_TC, out);
	value_map_end(out);
	return 0;
}
