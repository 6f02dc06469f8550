/* SPDX-License-Identifier: MIT */
/* What becomes of a question that a client asked the DNS server: the stages of spec/config.md 14.2 in order, hosts, fake-ip,
 * mapping and the resolver. Called by serve.c and serve_tcp.c for every message; each stage tells whether it has answered.
 * Owns nothing. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/internal.h"
#include "worker/dns/reply.h"
#include "worker/dns/serve_impl.h"

enum { HOSTS_IPS_MAX = 2 * RESOLVE_IPS_MAX };

static void
finish_empty(struct query *q, int rcode)
{
	if (q->alias != NULL && rcode == DNS_R_OK)
		serve_finish(q, dns_reply_alias(&q->q, serve_room(q->s), serve_limit(q), q->alias, NULL, 0));
	else
		serve_finish(q, dns_reply_empty(&q->q, serve_room(q->s), serve_limit(q), rcode));
}

/* ---- hosts */

/* Addresses that hosts has, and names that it renames: then the other stages ask for the alias. */
static bool
stage_hosts(struct query *q, const char **host)
{
	struct ip ips[HOSTS_IPS_MAX];
	const struct gen *g = q->s->g;
	const char *alias;
	bool address = q->q.type == DNS_T_A || q->q.type == DNS_T_AAAA;
	int n;

	if (!g->resolver->conf.use_hosts || (!address && q->q.type != DNS_T_CNAME))
		return false;
	n = hosts_find(g, *host, ips, HOSTS_IPS_MAX, &alias);
	if (address && n > 0) {
		serve_finish(q, dns_reply_ips(&q->q, serve_room(q->s), serve_limit(q), NULL, ips, n, DNS_REPLY_TTL));
		return true;
	}
	if (alias == NULL)
		return false;
	if (!address) {
		finish_empty(q, DNS_R_OK);	/* not the alias: spec/config.md 14.2 */
		return true;
	}
	q->alias = *host = alias;
	return false;
}

/* ---- fake-ip */

/* The address that a name below in-addr.arpa (RFC 1035 3.5) or ip6.arpa (RFC 3596 2.5) stands for. */
static bool
read_reverse(const char *name, struct ip *ip)
{
	char text[ADDR_TEXT_MAX];
	size_t n = strlen(name);
	unsigned b[4];
	int end = 0;

	if (str_ends(name, ".in-addr.arpa") && n < sizeof(text)) {
		if (sscanf(name, "%3u.%3u.%3u.%3u%n", &b[3], &b[2], &b[1], &b[0], &end) != 4 ||
		    !str_equal(name + end, ".in-addr.arpa"))
			return false;
		snprintf(text, sizeof(text), "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
		return ip_parse(ip, text) == 0;
	}
	if (!str_ends(name, ".ip6.arpa") || n != 64 + strlen("ip6.arpa"))
		return false;
	*ip = (struct ip){ .family = 6 };
	for (int i = 0; i < 32; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *d = strchr(digits, name[62 - 2 * i]);

		if (d == NULL || *d == '\0' || name[63 - 2 * i] != '.')
			return false;
		ip->b[i / 2] = (uint8_t)(ip->b[i / 2] << 4 | (d - digits));
	}
	return true;
}

/* Who owns a fake address is known here alone: the question never goes on. */
static bool
answer_reverse(struct query *q, const char *name)
{
	const struct dns_config *conf = &q->s->g->resolver->conf;
	char host[HOST_MAX + 1];
	struct ip ip;

	if (!read_reverse(name, &ip))
		return false;
	switch (fakeip_name(q->s->g, &ip, host)) {
	case FAKE_FOREIGN:
		return false;
	case FAKE_MISSING:
		serve_finish(q, dns_reply_empty(&q->q, serve_room(q->s), serve_limit(q), DNS_R_NXDOMAIN));
		return true;
	case FAKE_FOUND:
		serve_finish(q, dns_reply_name(&q->q, serve_room(q->s), serve_limit(q), host, (uint32_t)conf->fake_ttl));
	}
	return true;
}

/* host: lower case. */
static bool
stage_fake(struct query *q, const char *host)
{
	struct gen *g = q->s->g;
	const struct dns_config *conf = &g->resolver->conf;
	bool v6 = q->q.type == DNS_T_AAAA, address = q->q.type == DNS_T_A || v6;
	struct ip ip;
	int rc;

	if (conf->mode != ENHANCED_FAKE_IP || host[0] == '\0')
		return false;
	if (q->q.type == DNS_T_PTR)
		return answer_reverse(q, host);
	if ((!address && q->q.type != DNS_T_HTTPS && q->q.type != DNS_T_SVCB) || fake_filter_is_real(&conf->fake_filter, host))
		return false;
	rc = !address || (v6 && !(g->general.ipv6 && conf->ipv6)) ? -E_UNSUP : fakeip_address(g, v6 ? 6 : 4, host, &ip);
	if (rc == -E_UNSUP)
		finish_empty(q, DNS_R_OK);
	else
		serve_finish(q, rc != 0 ? rc : dns_reply_ips(&q->q, serve_room(q->s), serve_limit(q), q->alias, &ip, 1,
		    (uint32_t)conf->fake_ttl));
	return true;
}

/* ---- mapping and resolver */

/* Connections to the addresses of an answer are for the name that was asked for. */
static void
remember(const struct query *q, const uint8_t *msg, size_t n)
{
	struct gen *g = q->s->g;
	char host[HOST_MAX + 1];
	struct dns_msg m;
	struct dns_rr rr;
	struct ip ip;

	if (g->resolver->mapping == NULL || (q->q.type != DNS_T_A && q->q.type != DNS_T_AAAA) ||
	    !dns_question_host(&q->q, host) || dns_open(&m, msg, n) != 0)
		return;
	str_lower(host);
	while (dns_next(&m, &rr) > 0 && rr.section == DNS_ANSWER)
		if (dns_rr_ip(&m, &rr, &ip) == 0)
			mapping_put(g, &ip, host, rr.ttl);
}

static void
on_answer(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct query *q = arg;

	if (q->tcp && q->client == NULL && q->cb == NULL)
		serve_query_free(q);
	else if (err != 0 || msg == NULL)
		serve_finish(q, -E_DNS);
	else if (remember(q, msg, n), q->alias != NULL)
		serve_finish(q, dns_reply_alias(&q->q, serve_room(q->s), serve_limit(q), q->alias, msg, n));
	else
		serve_finish(q, dns_reply_pass(&q->q, serve_room(q->s), serve_limit(q), msg, n));
}

static void
stage_resolver(struct query *q, const char *host)
{
	struct gen *g = q->s->g;
	const uint8_t *msg;
	size_t n;
	int rc;

	if (q->q.type == DNS_T_AAAA && !(g->general.ipv6 && g->resolver->conf.ipv6)) {
		finish_empty(q, DNS_R_OK);
		return;
	}
	if (resolver_known(g, host, q->q.type, &msg, &n)) {
		on_answer(q, 0, msg, n);
		return;
	}
	rc = resolver_query(g, &q->wait, host, q->q.type, on_answer, q);
	if (rc != 0)
		serve_finish(q, rc);
}

void
serve_query_run(struct query *q, const uint8_t *p, size_t n)
{
	int rc = dns_question_read(&q->q, p, n);
	char text[HOST_MAX + 1], lower[HOST_MAX + 1];
	const char *host = text;

	if (rc < 0) {
		serve_finish(q, 0);		/* no question */
		return;
	}
	if (rc > 0) {
		finish_empty(q, rc);
		return;
	}
	if (!dns_question_host(&q->q, text)) {
		serve_finish(q, -E_INVAL);	/* the resolver could not ask for it either */
		return;
	}
	if (stage_hosts(q, &host))
		return;
	(void)str_copy(lower, sizeof(lower), host);
	str_lower(lower);
	if (!stage_fake(q, lower))
		stage_resolver(q, lower);
}
