/* SPDX-License-Identifier: MIT */
/* The lists of name servers that the configuration names, made ready to be asked. Called by resolver_start(), and again when
 * resolv.conf has changed: connections stay. Everything is in the resolver or the generation's arena. A list that was written
 * but of which no server can be asked stays empty, and questions for it fail: they never go to other servers than those the
 * configuration means. */
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/carrier.h"
#include "worker/dns/internal.h"

static bool
set_add(struct upstreams *set, const struct upstream *u)
{
	if (set->n == UPSTREAMS_MAX) {
		log_warn("more than %d name servers in one list: %s is not asked", UPSTREAMS_MAX,
		    u->conf != NULL ? u->conf->text : "one of the system's");
		return false;
	}
	set->u[set->n++] = *u;
	return true;
}

static void
set_add_system(struct resolver *r, struct upstreams *set)
{
	struct system_list *sys = &r->system;

	if (!sys->read)
		sys->n = system_servers(r->gen->w, sys->ips);
	sys->read = true;
	for (int i = 0; i < sys->n; i++)
		(void)set_add(set, &(struct upstream){ .ip = sys->ips[i], .port = 53, .ignored = &sys->ignored[i] });
}

static struct carrier *
carrier_get(struct resolver *r, const struct dns_server *s, bool rules)
{
	for (struct carrier *c = r->carriers; c != NULL; c = c->next)
		if (c->conf == s)
			return c;
	return carrier_new(r, s, rules);
}

/* "#name" that is no proxy nor group: an interface. */
static bool
is_iface(const struct resolver *r, const char *via)
{
	struct gen *g = r->gen;

	return via != NULL && g->dns_hooks.via != NULL && g->dns_hooks.via(g, via) == DNS_VIA_UNKNOWN;
}

/* UDP goes to an address and directly, maybe by an interface; everything else is a connection. UDP servers with a name or behind
 * a proxy are asked over TCP. */
static void
set_add_server(struct resolver *r, struct upstreams *set, const struct dns_server *s, bool by_rules)
{
	struct upstream u = { .ip = s->ip, .port = s->port, .conf = s, .ignored = s->ignored };
	bool rules = s->rules || (by_rules && s->via == NULL);

	if (s->net == DNS_NET_UDP && !rules && is_iface(r, s->via))
		u.iface = s->via;
	if (s->net != DNS_NET_UDP || s->ip.family == 0 || rules ||
	    (s->via != NULL && u.iface == NULL && !str_equal(s->via, "DIRECT")))
		u.carrier = carrier_get(r, s, rules);
	(void)set_add(set, &u);
}

static void
set_make(struct resolver *r, struct upstreams *set, const struct dns_servers *list, bool by_rules)
{
	set->n = 0;
	set->rcode = -1;
	for (int i = 0; i < list->n; i++) {
		const struct dns_server *s = &list->s[i];

		if (!dns_server_usable(s))
			continue;
		if (s->net == DNS_NET_SYSTEM)
			set_add_system(r, set);
		else if (s->net == DNS_NET_RCODE)
			set->rcode = set->rcode < 0 ? s->rcode : set->rcode;
		else
			set_add_server(r, set, s, by_rules);
	}
}

static void
policy_make(struct resolver *r, struct dns_policy *p, bool by_rules)
{
	for (int i = 0; i < p->n_rules; i++) {
		if (p->rules[i]->set == NULL)
			p->rules[i]->set = arena_alloc(&r->gen->arena, sizeof(*p->rules[i]->set));
		set_make(r, p->rules[i]->set, &p->rules[i]->servers, by_rules);
	}
}

void
upstreams_make(struct resolver *r)
{
	static const struct ip builtin[] = { { .family = 4, .b = { 114, 114, 114, 114 } }, { .family = 4, .b = { 8, 8, 8, 8 } } };
	struct upstreams *set = &r->sets[USE_RULES];
	_Static_assert(countof(builtin) <= SYSTEM_SERVERS_MAX, "each counts in one of the system's places");
	const struct dns_servers *lists[] = { [USE_RULES] = &r->conf.main, [USE_SERVER] = &r->conf.server,
		[USE_DIRECT] = &r->conf.direct, [USE_BOOT] = &r->conf.bootstrap };
	bool by_rules = r->conf.respect_rules;

	for (int i = 0; i < USES_; i++)
		r->sets[i] = (struct upstreams){ .rcode = -1 };
	for (int i = 0; r->conf.enable && i < USES_; i++)
		set_make(r, &r->sets[i], lists[i], by_rules && i == USE_RULES);
	if (r->conf.enable) {
		set_make(r, &r->fallback, &r->conf.fallback, by_rules);
		policy_make(r, &r->conf.policy, by_rules);
		policy_make(r, &r->conf.server_policy, false);
		return;
	}
	set_add_system(r, set);
	for (size_t i = 0; r->system.n == 0 && i < countof(builtin); i++)
		(void)set_add(set, &(struct upstream){ .ip = builtin[i], .port = 53, .ignored = &r->system.ignored[i] });
}

const struct upstreams *
dns_policy_find(const struct resolver *r, enum resolve_use use, const char *name)
{
	const struct dns_config *c = &r->conf;

	if (!c->enable || use == USE_BOOT || (use == USE_DIRECT && !c->direct_follow_policy))
		return NULL;
	return dns_policy_search(use == USE_SERVER ? &c->server_policy : &c->policy, name);
}
