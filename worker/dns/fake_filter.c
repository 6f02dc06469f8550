/* SPDX-License-Identifier: MIT */
/* dns.fake-ip-filter (spec/config.md 4): which names get a fake address. Read with the reference's error texts by config.c,
 * asked by the fake-ip stage for every new question. Lists of geosite and of rule sets select nothing yet, which is warned
 * about. Everything is in the generation's arena. */
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
};

static const char *const kinds[] = { "DOMAIN", "DOMAIN-SUFFIX", "DOMAIN-KEYWORD", "DOMAIN-REGEX", "DOMAIN-WILDCARD", "GEOSITE",
	"RULE-SET", "MATCH" };

static int
check_rule_set(const struct filter_check *c, int index, const char *line, const char *name)
{
	const struct cfg_node *set = filter_find_set(c->root, name);

	if (set == NULL)
		return cfg_fail(c->err, c->node, c->key, "dns.fake-ip-filter[%d] [%s] error: rule-set '%s' not found", index,
		    line, name);
	if (filter_set_behaves(set, "ipcidr"))
		return cfg_fail(c->err, c->node, c->key,
		    "dns.fake-ip-filter[%d] [%s] error: rule-set behavior is IPCIDR, must be domain or classical", index, line);
	return 0;
}

static int
compile_rule(struct gen *g, const struct filter_check *c, int index, const char *line, const char *payload, struct fake_rule *r)
{
	char name[HOST_MAX + 1], why[REGEX_WHY_MAX];

	if (r->kind == BY_SET || r->kind == BY_GEOSITE)
		log_warn("line %u: dns.fake-ip-filter: %s does not work yet and selects nothing", c->node->line, line);
	if (r->kind == BY_SET)
		return check_rule_set(c, index, line, payload);
	if (r->kind == BY_REGEX) {
		r->regex = regex_compile(&g->arena, &g->regex, payload, true, why);
		if (r->regex == NULL)
			return cfg_fail(c->err, c->node, c->key, "dns.fake-ip-filter[%d] [%s] error: %s", index, line, why);
		return 0;
	}
	r->text = arena_strdup(&g->arena, punycode_name(name, sizeof(name), payload));
	return 0;
}

/* One line of mode `rule`: TYPE,payload,action or MATCH,action. */
static int
read_rule(struct gen *g, const struct filter_check *c, int index, const char *line, struct fake_rule *r)
{
	char *copy = arena_strdup(c->arena, line), *type = copy, *payload = strchr(copy, ','), *action;
	size_t i = 0;

	action = payload != NULL ? strrchr(payload, ',') + 1 : copy + strlen(copy);
	if (payload != NULL) {
		action[-1] = '\0';
		*payload = '\0';
		payload = payload + 1 < action ? str_trim(payload + 1) : payload;
	}
	type = str_trim(type);
	action = str_trim(action);
	if (!str_case_equal(action, "fake-ip") && !str_case_equal(action, "real-ip"))
		return cfg_fail(c->err, c->node, c->key,
		    "dns.fake-ip-filter[%d] [%s] error: invalid action '%s', must be 'fake-ip' or 'real-ip'", index, line,
		    action);
	while (i < countof(kinds) && !str_equal(type, kinds[i]))
		i++;
	if (i == countof(kinds))
		return cfg_fail(c->err, c->node, c->key,
		    "dns.fake-ip-filter[%d] [%s] error: rule type '%s' not supported, only domain-based rules allowed",
		    index, line, type);
	*r = (struct fake_rule){ .kind = (enum rule_kind)i, .real = str_case_equal(action, "real-ip") };
	return r->kind == BY_ALL ? 0 : compile_rule(g, c, index, line, payload, r);
}

static int
read_item(const struct filter_check *c, const char *text, struct fake_filter *out)
{
	char *copy = arena_strdup(c->arena, text), *sets = filter_after(copy, "rule-set:");

	if (sets != NULL || filter_after(copy, "geosite:") != NULL) {
		log_warn("line %u: dns.fake-ip-filter: %s does not work yet and selects nothing", c->node->line, text);
		return sets != NULL ? filter_check_sets(c, sets) : 0;
	}
	if (domain_trie_insert(&out->names, copy, out) == 0)
		return 0;
	return cfg_fail(c->err, c->node, c->key, "invalid domain: %s", copy);
}

int
fake_filter_parse(struct gen *g, const struct cfg_node *root, const struct cfg_node *dns, int mode, struct fake_filter *out,
    struct cfg_err *err)
{
	static const char *const defaults[] = { "dns.msftnsci.com", "www.msftnsci.com", "www.msftconnecttest.com" };
	const struct cfg_node *key = cfg_get(dns, "fake-ip-filter"), *list;
	int rc = cfg_list(key, "dns.fake-ip-filter", &list, err), i = 0;

	if (rc != 0)
		return rc;
	*out = (struct fake_filter){ .mode = mode };
	domain_trie_init(&out->names, &g->arena);
	out->rules = arena_array(&g->arena, cfg_count(list) + 1, sizeof(*out->rules));
	for (size_t k = 0; key == NULL && mode == FAKE_BLACKLIST && k < countof(defaults); k++)
		(void)domain_trie_insert(&out->names, defaults[k], out);
	cfg_each(n, list) {
		const struct filter_check c = { .arena = &g->arena, .root = root, .node = n, .key = "dns.fake-ip-filter",
			.err = err };

		rc = mode == FAKE_RULE ? read_rule(g, &c, i++, cfg_text(n), &out->rules[out->n_rules++])
				       : read_item(&c, cfg_text(n), out);
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
		break;
	}
	return false;
}

bool
fake_filter_is_real(const struct fake_filter *f, const char *name)
{
	if (f->mode != FAKE_RULE)
		return (domain_trie_search(&f->names, name) != NULL) == (f->mode == FAKE_BLACKLIST);
	for (int i = 0; i < f->n_rules; i++)
		if (rule_matches(&f->rules[i], name))
			return f->rules[i].real;
	return false;
}
