/* SPDX-License-Identifier: MIT */
/* The messages of the DNS server: a client's question and a name server's answer, both hostile. Every reply keeps its limit,
 * repeats the question and can be walked to its end. Input: length of the question (2 bytes), question, answer. */
#include <stdlib.h>
#include <string.h>

#include "worker/dns/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static uint8_t out[DNS_MSG_MAX];

static void
check(const struct dns_question *q, int len, size_t cap)
{
	struct dns_msg m;
	struct dns_rr rr;
	int rc, opt = 0;

	if (len < 0)
		return;
	if ((size_t)len > cap || dns_open(&m, out, (size_t)len) != 0 || m.id != q->id || (m.flags & DNS_F_QR) == 0)
		abort();
	if (m.questions != (q->n > 0) || (q->n > 0 && memcmp(out + DNS_HEADER, q->name, q->n) != 0))
		abort();
	while ((rc = dns_next(&m, &rr)) > 0)
		opt += rr.type == DNS_T_OPT;
	if (rc != 0 || m.off != (size_t)len || opt != q->edns)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct ip ips[2] = { { .family = 4, .b = { 192, 0, 2, 1 } }, { .family = 6, .b = { 0x20, 1 } } };
	char host[HOST_MAX + 1];
	struct dns_question q;
	uint8_t *ask, *answer;
	size_t k, n_answer;
	int rc;

	if (n < 2)
		return 0;
	k = (size_t)(p[0] << 8 | p[1]);
	k = k < n - 2 ? k : n - 2;
	n_answer = n - 2 - k;
	ask = malloc(k + (k == 0));		/* of their own, so that reading past them is seen */
	answer = malloc(n_answer + (n_answer == 0));
	if (ask == NULL || answer == NULL)
		abort();
	memcpy(ask, p + 2, k);
	memcpy(answer, p + 2 + k, n_answer);
	rc = dns_question_read(&q, ask, k);
	if (rc >= 0)
		check(&q, dns_reply_empty(&q, out, q.udp_size, rc), q.udp_size);
	if (rc == 0 && dns_question_host(&q, host)) {
		if (q.type == DNS_T_A || q.type == DNS_T_AAAA)
			check(&q, dns_reply_ips(&q, out, q.udp_size, NULL, ips, 2, DNS_REPLY_TTL), q.udp_size);
		check(&q, dns_reply_name(&q, out, q.udp_size, host, 1), q.udp_size);
		check(&q, dns_reply_ips(&q, out, q.udp_size, host, ips, 2, 1), q.udp_size);
		for (int i = 0; i < 2; i++) {
			size_t cap = i == 0 ? q.udp_size : sizeof(out);

			check(&q, dns_reply_pass(&q, out, cap, answer, n_answer), cap);
			check(&q, dns_reply_alias(&q, out, cap, "target.example", answer, n_answer), cap);
		}
		check(&q, dns_reply_alias(&q, out, q.udp_size, host, NULL, 0), q.udp_size);
	}
	free(ask);
	free(answer);
	return 0;
}
