/* SPDX-License-Identifier: MIT */
/* Any bytes as a DNS message: the reader must end, stay inside, and what it prints must be text that fits. A name that can
 * be printed without escapes must come back the same from the writer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/wire.h"
#include "worker/codec/dns.h"

enum { OUT = 2048, ODD = 0x5a };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(int n, const char *out, size_t cap)
{
	if (n == -E_PROTO || n == -E_LIMIT)
		return;
	if (n < 0 || (size_t)n >= cap || strlen(out) != (size_t)n)
		abort();
	for (int i = 0; i < n; i++)
		if (out[i] < 0x20 || out[i] > 0x7e)
			abort();
}

static void
check_name(const struct dns_msg *m, size_t off)
{
	char text[DNS_NAME_TEXT], again[DNS_NAME_TEXT], small[8];
	uint8_t wire[DNS_NAME_MAX];
	int n = dns_name_text(m, off, text, sizeof(text)), len;

	check_text(n, text, sizeof(text));
	if (n == -E_LIMIT)
		abort();	/* every name fits */
	check_text(dns_name_text(m, off, small, sizeof(small)), small, sizeof(small));
	if (n < 0 || strchr(text, '\\') != NULL)
		return;
	len = dns_name_wire(wire, text);
	if (len < 0)
		abort();
	struct dns_msg w = { .p = wire, .n = (size_t)len };

	if (dns_name_text(&w, 0, again, sizeof(again)) != n || strcmp(text, again) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t query[DNS_QUERY_MAX], *copy;
	char out[OUT];
	struct wire w;
	struct dns_msg m;
	struct dns_rr rr;
	struct ip ip;
	size_t records = 0;
	int n = dns_query_write(query, 1, "a.test", DNS_T_A, 0);

	if (size > DNS_MSG_MAX || dns_open(&m, data, size) != 0)
		return 0;
	(void)dns_echoes(&m, query, (size_t)n);
	if (m.questions > 0)
		check_name(&m, DNS_HEADER);
	while (dns_next(&m, &rr) > 0) {
		if (rr.rdata + rr.rdlen > size || ++records > size)
			abort();
		check_name(&m, rr.name);
		(void)dns_rr_ip(&m, &rr, &ip);
		(void)dns_soa_ttl(&m, &rr);
		memset(out, ODD, sizeof(out));
		n = dns_rdata_text(&m, &rr, out, sizeof(out) / 2);
		check_text(n, out, sizeof(out) / 2);
		if (out[sizeof(out) / 2] != ODD)
			abort();
	}
	wire_init(&w);
	(void)dns_show(data, size, &w);
	wire_free(&w);
	copy = malloc(size);
	if (copy != NULL)
		(void)dns_answer_empty(copy, size, data, size, DNS_R_SERVFAIL);
	free(copy);
	return 0;
}
