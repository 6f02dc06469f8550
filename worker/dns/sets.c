/* SPDX-License-Identifier: MIT */
/* See sets.h. */
#include "worker/dns/sets.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"

const char *
dns_text_after(const char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncasecmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* "!Name@attr" as the databases call it; *negate is set. */
static const char *
plain_name(struct gen *g, const char *text, bool *negate)
{
	char *name = str_trim(arena_strdup(&g->arena, text));

	*negate = name[0] == '!';
	if (*negate)
		name++;
	str_lower(name);
	return name;
}

/* Cuts text, the arena's, at commas. */
static char *
next_of(char **text)
{
	char *name = *text, *comma = name != NULL ? strchr(name, ',') : NULL;

	*text = comma != NULL ? comma + 1 : NULL;
	if (comma != NULL)
		*comma = '\0';
	return name;
}

void
dns_sets_ask(struct gen *g, const char *text)
{
	const char *names = text != NULL ? dns_text_after(text, "geosite:") : NULL;
	char *rest = names != NULL ? arena_strdup(&g->arena, names) : NULL;
	bool negate;

	for (const char *name; (name = next_of(&rest)) != NULL;) {
		name = plain_name(g, name, &negate);
		if (name[strspn(name, "@ ")] != '\0' && g->dns_hooks.list != NULL)
			(void)g->dns_hooks.list(g, DNS_LIST_GEOSITE, name, NULL, NULL);
	}
}

static int
read_geo(const struct sets_reader *r, enum dns_list kind, const char *word, const char *text, struct dns_set *out)
{
	const struct dns_hooks *h = &r->g->dns_hooks;
	struct cfg_err why = { 0 };
	const char *name = plain_name(r->g, text, &out->negate);

	if (name[strspn(name, "@ ")] == '\0')
		return cfg_fail(r->err, r->node, r->key, "country code could not be empty");
	if (h->list == NULL)
		return 0;
	out->hooks = h;
	out->list = h->list(r->g, kind, name, arena_printf(&r->g->arena, "%s: %s:%s", r->key, word, name), &why);
	return out->list != NULL ? 0 : cfg_fail(r->err, r->node, r->key, "%s", why.text);
}

int
dns_set_geosite(const struct sets_reader *r, const char *name, struct dns_set *out)
{
	return read_geo(r, DNS_LIST_GEOSITE, "geosite", name, out);
}

int
dns_set_geoip(const struct sets_reader *r, const char *code, struct dns_set *out)
{
	return read_geo(r, DNS_LIST_GEOIP, "geoip", code, out);
}

const struct cfg_node *
dns_rule_provider(const struct sets_reader *r, const char *name)
{
	cfg_each(c, cfg_get(r->root, "rule-providers"))
		if (str_equal(cfg_key(c), name))
			return c;
	return NULL;
}

bool
dns_provider_behaves(const struct cfg_node *provider, const char *behavior)
{
	const char *s = cfg_text(cfg_get(provider, "behavior"));

	return s != NULL && str_case_equal(s, behavior);
}

void
dns_set_rules(const struct sets_reader *r, const char *name, struct dns_set *out)
{
	const struct dns_hooks *h = &r->g->dns_hooks;

	if (h->list != NULL)
		*out = (struct dns_set){ .hooks = h, .list = h->list(r->g, DNS_LIST_RULE_SET, name, NULL, NULL) };
}

static int
read_rule_set(const struct sets_reader *r, const char *name, struct dns_set *out)
{
	const struct cfg_node *provider = dns_rule_provider(r, name);

	if (provider == NULL)
		return cfg_fail(r->err, r->node, r->key, "not found rule-set: %s", name);
	if (dns_provider_behaves(provider, "ipcidr"))
		return cfg_fail(r->err, r->node, r->key, "rule provider type error, except domain,actual IPCIDR");
	if (dns_provider_behaves(provider, "classical"))
		log_warn("line %u: %s: of the classical rule set %s only the domain rules count", r->node->line, r->key, name);
	dns_set_rules(r, name, out);
	return 0;
}

int
dns_sets_read(const struct sets_reader *r, const char *text, struct dns_sets *out)
{
	const char *sites = dns_text_after(text, "geosite:"), *names = sites != NULL ? sites : dns_text_after(text, "rule-set:");
	size_t n = 1;
	char *rest;
	int rc = 0;

	if (names == NULL)
		return 0;
	for (const char *p = names; *p != '\0'; p++)
		n += *p == ',';
	rest = arena_strdup(&r->g->arena, names);
	*out = (struct dns_sets){ .s = arena_array(&r->g->arena, n, sizeof(*out->s)) };
	for (const char *name; rc == 0 && (name = next_of(&rest)) != NULL;) {
		struct dns_set *one = &out->s[out->n++];

		rc = sites != NULL ? dns_set_geosite(r, name, one) : read_rule_set(r, name, one);
	}
	return rc == 0 ? 1 : rc;
}

/* ---- */

static bool
has(const struct dns_set *s, const char *name, const struct ip *ip)
{
	int there = s->list != NULL ? s->hooks->list_has(s->list, name, ip) : -1;

	return there != -1 && (there == 1) != s->negate;
}

bool
dns_set_has_name(const struct dns_set *s, const char *name)
{
	return has(s, name, NULL);
}

bool
dns_set_has_ip(const struct dns_set *s, const struct ip *ip)
{
	return has(s, NULL, ip);
}

bool
dns_sets_have(const struct dns_sets *s, const char *name)
{
	for (int i = 0; i < s->n; i++)
		if (dns_set_has_name(&s->s[i], name))
			return true;
	return false;
}
