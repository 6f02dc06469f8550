/* SPDX-License-Identifier: MIT */
/* dns.fake-ip-filter (spec/config.md 4): which names get a fake address. Read with the reference's error texts by config.c,
 * asked by the fake-ip stage for every new question. Everything but the lists of sets.h is in the generation's arena. */
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/config.h"
#include "worker/match/glob.h"
#include "worker/match/punycode.h"
#include "worker/match/regex.h"

enum rule_kind { BY_NAME, BY_SUFFIX, BY_KEYWORD, BY_REGEX, BY_WILDCARD, BY_GEOSITE, BY_SET, BY_ALL };
struct fake_rule {
	enum rule_kind kind;
	bool real;
	const char *text;		/* lower case */
	const struct regex *regex;
	struct dns_set set;		/* of GEOSITE and RULE-SET */
};

static const char *const kinds[] = { "DOMAIN", "DOMAIN-SUFFIX", "DOMAIN-KEYWORD", "DOMAIN-REGEX", "DOMAIN-WILDCARD", "GEOSITE",
	"RULE-SET", "MATCH" };

/* A bare reason becomes the line's. */
static int
explain(const struct sets_reader *r, int index, const char *line, const struct cfg_err *why)
{
	return cfg_fail(r->err, r->node, r->key, "dns.fake-ip-filter[%d] [%s] error: %s", index, line, why->text);
}

static int
read_rule_set(const struct sets_reader *r, const char *name, struct dns_set *out, struct cfg_err *why)
{
	const struct cfg_node *provider = dns_rule_provider(r, name);

	if (provider == NULL)
		return cfg_fail(why, NULL, NULL, "rule-set '%s' not found", name);
	if (dns_provider_behaves(provider, "ipcidr"))
		return cfg_fail(why, NULL, NULL, "rule-set behavior is IPCIDR, must be domain or classical");
	dns_set_rules(r, name, out);
	return 0;
}

static int
compile_rule(const struct sets_reader *r, const char *payload, struct fake_rule *out, struct cfg_err *err)
{
	const struct sets_reader site = { .g = r->g, .node = r->node, .key = r->key, .err = err };
	char name[HOST_MAX + 1], why[REGEX_WHY_MAX];

	switch (out->kind) {
	case BY_GEOSITE:
		return dns_set_geosite(&site, payload, &out->set);
	case BY_SET:
		return read_rule_set(r, payload, &out->set, err);
	case BY_REGEX:
		out->regex = regex_compile(&r->g->arena, &r->g->regex, payload, true, why);
		return out->regex != NULL ? 0 : cfg_fail(err, NULL, NULL, "%s", why);
	default:
		out->text = arena_strdup(&r->g->arena, punycode_name(name, sizeof(name), payload));
		return 0;
	}
}

/* One line of mode `rule`: TYPE,payload,action or MATCH,action. */
static int
read_rule(const struct sets_reader *r, int index, const char *line, struct fake_rule *out)
{
	char *copy = arena_strdup(&r->g->arena, line), *type = copy, *payload = strchr(copy, ','), *action;
	struct cfg_err why = { 0 };
	size_t i = 0;

	action = payload != NULL ? strrchr(payload, ',') + 1 : copy + strlen(copy);
	if (payload != NULL) {
		action[-1] = '\0';
		*payload = '\0';
		payload = payload + 1 < action ? str_trim(payload + 1) : payload;
	}
	type = str_trim(type);
	action = str_trim(action);
	if (!str_case_equal(action, "fake-ip") && !str_case_equal(action, "real-ip")) {
		(void)cfg_fail(&why, NULL, NULL, "invalid action '%s', must be 'fake-ip' or 'real-ip'", action);
		return explain(r, index, line, &why);
	}
	while (i < countof(kinds) && !str_equal(type, kinds[i]))
		i++;
	if (i == countof(kinds)) {
		(void)cfg_fail(&why, NULL, NULL, "rule type '%s' not supported, only domain-based rules allowed", type);
		return explain(r, index, line, &why);
	}
	*out = (struct fake_rule){ .kind = (enum rule_kind)i, .real = str_case_equal(action, "real-ip") };
	if (out->kind == BY_ALL || compile_rule(r, payload, out, &why) == 0)
		return 0;
	return explain(r, index, line, &why);
}

static int
read_item(const struct sets_reader *r, const char *text, struct fake_filter *out)
{
	int rc = dns_sets_read(r, text, &out->sets[out->n_sets]);

	if (rc > 0)
		out->n_sets++;
	if (rc != 0)
		return rc > 0 ? 0 : rc;
	if (domain_trie_insert(&out->names, text, out) == 0)
		return 0;
	return cfg_fail(r->err, r->node, r->key, "invalid domain: %s", text);
}

/* "GEOSITE,x,action" */
static void
ask_of_rule(struct gen *g, const char *line)
{
	const char *name = line != NULL ? dns_text_after(line, "GEOSITE,") : NULL;

	if (name != NULL)
		dns_sets_ask(g, arena_printf(&g->arena, "geosite:%.*s", (int)strcspn(name, ","), name));
}

int
fake_filter_parse(struct gen *g, const struct cfg_node *root, const struct cfg_node *dns, int mode, struct fake_filter *out,
    struct cfg_err *err)
{
	static const char *const defaults[] = { "dns.msftnsci.com", "www.msftnsci.com", "www.msftconnecttest.com" };
	const struct cfg_node *key = cfg_get(dns, "fake-ip-filter"), *list;
	struct sets_reader r = { .g = g, .root = root, .key = "dns.fake-ip-filter", .err = err };
	int rc = cfg_list(key, "dns.fake-ip-filter", &list, err), i = 0;

	if (rc != 0)
		return rc;
	*out = (struct fake_filter){ .mode = mode };
	domain_trie_init(&out->names, &g->arena);
	out->rules = arena_array(&g->arena, cfg_count(list) + 1, sizeof(*out->rules));
	out->sets = arena_array(&g->arena, cfg_count(list) + 1, sizeof(*out->sets));
	for (size_t k = 0; key == NULL && mode == FAKE_BLACKLIST && k < countof(defaults); k++)
		(void)domain_trie_insert(&out->names, defaults[k], out);
	cfg_each(n, list) {
		if (mode == FAKE_RULE)
			ask_of_rule(g, cfg_text(n));
		else
			dns_sets_ask(g, cfg_text(n));
	}
	cfg_each(n, list) {
		r.node = n;
		rc = mode == FAKE_RULE ? read_rule(&r, i++, cfg_text(n), &out->rules[out->n_rules++])
				       : read_item(&r, cfg_text(n), out);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool
is_below(const char *name, const char *suffix)
{
	size_t n = strlen(name), k = strlen(suffix);

	return str_ends(name, suffix) && (n == k || (n > k && name[n - k - 1] == '.'));
}

static bool
rule_matches(const struct fake_rule *r, const char *name)
{
	switch (r->kind) {
	case BY_NAME:
		return str_equal(name, r->text);
	case BY_SUFFIX:
		return is_below(name, r->text);
	case BY_KEYWORD:
		return strstr(name, r->text) != NULL;
	case BY_REGEX:
		return regex_match(r->regex, name, strlen(name));
	case BY_WILDCARD:
		return glob_match(r->text, name);
	case BY_ALL:
		return true;
	case BY_GEOSITE:
	case BY_SET:
		return dns_set_has_name(&r->set, name);
	}
	return false;
}

bool
fake_filter_is_real(const struct fake_filter *f, const char *name)
{
	bool listed;

	for (int i = 0; f->mode == FAKE_RULE && i < f->n_rules; i++)
		if (rule_matches(&f->rules[i], name))
			return f->rules[i].real;
	if (f->mode == FAKE_RULE)
		return false;
	listed = domain_trie_search(&f->names, name) != NULL;
	for (int i = 0; !listed && i < f->n_sets; i++)
		listed = dns_sets_have(&f->sets[i], name);
	return listed == (f->mode == FAKE_BLACKLIST);
}
