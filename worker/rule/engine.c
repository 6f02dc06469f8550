/* SPDX-License-Identifier: MIT */
/* The walk over a rule list (spec/config.md 14.1 5 to 9). Called by dispatch for every connection; allocates nothing. It
 * owns only the counters of the rules, which are plain: one process, one thread. */
#include "worker/rule/rule.h"

static unsigned
missing(const struct match *m, const struct meta *meta, const struct rule *r)
{
	if ((r->needs & NEED_IP) != 0 && !m->resolved && meta->host[0] != '\0' && meta->dst_ip.family == 0)
		return NEED_IP;
	if ((r->needs & NEED_PROCESS) != 0 && !m->process_known && meta->process[0] == '\0')
		return NEED_PROCESS;
	return 0;
}

static void
count(const struct match *m, uint64_t *n, int64_t *at, int64_t now_ns)
{
	if (m->quiet)
		return;
	++*n;
	*at = now_ns;
}

enum match_result
rules_walk(struct match *m, struct meta *meta, int64_t now_ns)
{
	const struct rules *list = m->list;

	for (; list != NULL && m->pos < list->n; m->pos++) {
		struct rule *r = &list->rule[m->pos];
		struct verdict v = { .outbound = r->outbound };
		unsigned need;

		if (r->disabled)
			continue;
		need = missing(m, meta, r);
		if (need != 0)
			return need == NEED_IP ? MATCH_NEED_IP : MATCH_NEED_PROCESS;
		if (r->type->match(r, meta, &v) == 0) {
			count(m, &r->misses, &r->miss_at, now_ns);
			continue;
		}
		count(m, &r->hits, &r->hit_at, now_ns);
		if (v.outbound == NULL || !list->hooks->usable(v.outbound, meta))
			continue;
		v.rule = r;
		m->verdict = v;
		return MATCH_HIT;
	}
	return MATCH_NONE;
}

const char *
rule_host(const struct meta *m)
{
	return m->sniff_host[0] != '\0' ? m->sniff_host : m->host;
}

const char *
rule_api_name(const struct rule *r)
{
	return r->type->api_name;
}
