/* SPDX-License-Identifier: MIT */
/* The lists of name servers that the configuration names, made ready to be asked. Called by resolver_start(); everything is in the
 * resolver or the generation's arena. A list that was written but of which no server can be asked stays empty, and questions for it
 * fail: they never go to other servers than those the configuration means. */
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/internal.h"

struct system_list {			/* of resolv.conf, read at most once */
	bool read;
	int n;
	struct ip ips[SYSTEM_SERVERS_MAX];
};

static void
set_add(struct upstreams *set, const struct ip *ip, uint16_t port, bool tcp, const struct dns_server *conf)
{
	if (set->n == UPSTREAMS_MAX) {
		log_warn("more than %d name servers in one list: %s is not asked", UPSTREAMS_MAX,
		    conf != NULL ? conf->text : "one of the system's");
		return;
	}
	set->u[set->n++] = (struct upstream){ .ip = *ip, .port = port, .tcp = tcp, .conf = conf };
}

static void
set_add_system(struct resolver *r, struct upstreams *set, struct system_list *sys)
{
	if (!sys->read)
		sys->n = system_servers(r->gen->w, sys->ips);
	sys->read = true;
	for (int i = 0; i < sys->n; i++)
		set_add(set, &sys->ips[i], 53, false, NULL);
}

static void
set_make(struct resolver *r, struct upstreams *set, const struct dns_servers *list, struct system_list *sys)
{
	set->rcode = -1;
	for (int i = 0; i < list->n; i++) {
		const struct dns_server *s = &list->s[i];

		if (!dns_server_plain(s))
			continue;
		if (s->net == DNS_NET_SYSTEM)
			set_add_system(r, set, sys);
		else if (s->net == DNS_NET_RCODE)
			set->rcode = set->rcode < 0 ? s->rcode : set->rcode;
		else
			set_add(set, &s->ip, s->port, s->net == DNS_NET_TCP, s);
	}
}

static void
policy_make(struct resolver *r, struct dns_policy *p, struct system_list *sys)
{
	for (int i = 0; i < p->n_rules; i++) {
		p->rules[i]->set = arena_alloc(&r->gen->arena, sizeof(*p->rules[i]->set));
		set_make(r, p->rules[i]->set, &p->rules[i]->servers, sys);
	}
}

void
upstreams_make(struct resolver *r)
{
	static const struct ip builtin[] = { { .family = 4, .b = { 114, 114, 114, 114 } }, { .family = 4, .b = { 8, 8, 8, 8 } } };
	struct upstreams *set = &r->sets[USE_RULES];
	const struct dns_servers *lists[] = { [USE_RULES] = &r->conf.main, [USE_SERVER] = &r->conf.server,
		[USE_DIRECT] = &r->conf.direct };
	struct system_list sys = { .read = false };
	bool none;

	for (size_t i = 0; i < countof(lists); i++)
		r->sets[i].rcode = -1;
	for (size_t i = 0; r->conf.enable && i < countof(lists); i++)
		set_make(r, &r->sets[i], lists[i], &sys);
	if (r->conf.enable) {
		set_make(r, &r->fallback, &r->conf.fallback, &sys);
		policy_make(r, &r->conf.policy, &sys);
		policy_make(r, &r->conf.server_policy, &sys);
	}
	if (set->n == 0 && set->rcode < 0)
		set_add_system(r, set, &sys);
	none = set->n == 0 && set->rcode < 0;
	for (size_t i = 0; none && i < countof(builtin); i++)
		set_add(set, &builtin[i], 53, false, NULL);
}

const struct upstreams *
dns_policy_find(const struct resolver *r, enum resolve_use use, const char *name)
{
	const struct dns_config *c = &r->conf;

	if (!c->enable || (use == USE_DIRECT && !c->direct_follow_policy))
		return NULL;
	return dns_policy_search(use == USE_SERVER ? &c->server_policy : &c->policy, name);
}
