/* SPDX-License-Identifier: MIT */
/* GET /dns/query: one question through the lead's configured upstream resolver (spec/api.md 2.13). The lead makes the name fully
 * qualified and the whole answer; only the type's mnemonic is looked up here (IANA, "Resource Record (RR) TYPEs"). */
#include <string.h>

#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { DNS_MS = 6000 };		/* the resolver's own limit is 5 s */

static const struct {
	const char *name;
	uint16_t number;
} types[] = {
	{ "A", 1 }, { "NS", 2 }, { "MD", 3 }, { "MF", 4 }, { "CNAME", 5 }, { "SOA", 6 }, { "MB", 7 }, { "MG", 8 }, { "MR", 9 },
	{ "NULL", 10 }, { "PTR", 12 }, { "HINFO", 13 }, { "MINFO", 14 }, { "MX", 15 }, { "TXT", 16 }, { "RP", 17 },
	{ "AFSDB", 18 }, { "X25", 19 }, { "ISDN", 20 }, { "RT", 21 }, { "NSAPPTR", 23 }, { "SIG", 24 }, { "KEY", 25 },
	{ "PX", 26 }, { "GPOS", 27 }, { "AAAA", 28 }, { "LOC", 29 }, { "NXT", 30 }, { "EID", 31 }, { "NIMLOC", 32 },
	{ "SRV", 33 }, { "ATMA", 34 }, { "NAPTR", 35 }, { "KX", 36 }, { "CERT", 37 }, { "DNAME", 39 }, { "OPT", 41 },
	{ "APL", 42 }, { "DS", 43 }, { "SSHFP", 44 }, { "IPSECKEY", 45 }, { "RRSIG", 46 }, { "NSEC", 47 }, { "DNSKEY", 48 },
	{ "DHCID", 49 }, { "NSEC3", 50 }, { "NSEC3PARAM", 51 }, { "TLSA", 52 }, { "SMIMEA", 53 }, { "HIP", 55 }, { "NINFO", 56 },
	{ "RKEY", 57 }, { "TALINK", 58 }, { "CDS", 59 }, { "CDNSKEY", 60 }, { "OPENPGPKEY", 61 }, { "CSYNC", 62 },
	{ "ZONEMD", 63 }, { "SVCB", 64 }, { "HTTPS", 65 }, { "SPF", 99 }, { "UINFO", 100 }, { "UID", 101 }, { "GID", 102 },
	{ "UNSPEC", 103 }, { "NID", 104 }, { "L32", 105 }, { "L64", 106 }, { "LP", 107 }, { "EUI48", 108 }, { "EUI64", 109 },
	{ "NXNAME", 128 }, { "TKEY", 249 }, { "TSIG", 250 }, { "IXFR", 251 }, { "AXFR", 252 }, { "MAILB", 253 }, { "MAILA", 254 },
	{ "ANY", 255 }, { "URI", 256 }, { "CAA", 257 }, { "AVC", 258 }, { "DOA", 259 }, { "AMTRELAY", 260 }, { "RESINFO", 261 },
	{ "TA", 32768 }, { "DLV", 32769 },
};

int
dns_query(struct api_req *req)
{
	char name[1024], type[256];
	struct ask *a;

	if (!api_query(req, "name", name, sizeof(name)))
		name[0] = '\0';
	if (!api_query(req, "type", type, sizeof(type)) || type[0] == '\0')
		str_copy(type, sizeof(type), "A");
	for (size_t i = 0; i < countof(types); i++) {
		if (strcmp(types[i].name, type) != 0)
			continue;
		a = ask_new(req);
		if (a != NULL) {
			wire_put_str(&a->args, name);
			wire_put_u16(&a->args, types[i].number);
		}
		return ask_query(req, a, QUERY_DNS, DNS_MS, ask_end_value);
	}
	return reply_error(req, 400, "invalid query type");
}
