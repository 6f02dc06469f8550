/* SPDX-License-Identifier: MIT */
/* Rule sets and the RULE-SET rule (spec/config.md 10, 11). Called by the engine, and by provider/ when an image has
 * come; a set owns the mapping of its image and the rules compiled from its lines. */
#include "worker/rule/ruleset.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/match/regex.h"
#include "worker/rule/types.h"

enum { WARNINGS_MAX = 8 };	/* rules of one set that are named when they are left out */

static uint32_t
kind_of(const char *behavior)
{
	if (str_equal(behavior, "domain"))
		return IMAGE_DOMAIN;
	return str_equal(behavior, "ipcidr") ? IMAGE_IPCIDR : IMAGE_CLASSICAL;
}

struct ruleset *
ruleset_get(struct gen *g, const char *name)
{
	const struct cfg_node *node = NULL;
	struct ruleset *s = map_get(&g->rule_sets, name);

	if (s != NULL)
		return s;
	cfg_each(c, cfg_get(g->root, "rule-providers"))
		if (str_equal(cfg_key(c), name))
			node = c;
	if (node == NULL)
		return NULL;
	s = arena_alloc(&g->arena, sizeof *s);
	s->name = cfg_key(node);
	s->kind = kind_of(cfg_text(cfg_get(node, "behavior")));
	/* known before it is loaded, and then only a classical one may want more */
	s->needs = s->kind == IMAGE_IPCIDR ? NEED_IP : 0;
	(void)map_put(&g->rule_sets, s->name, s);
	return s;
}

/* ---- loading */

/* Rules of a set are told apart by their place, so it must not refer to itself or others. */
static bool
allowed(const char *line)
{
	static const char *const not[] = { "MATCH,", "RULE-SET,", "SUB-RULE," };

	for (size_t i = 0; i < countof(not); i++)
		if (strncasecmp(line, not[i], strlen(not[i])) == 0)
			return false;
	return true;
}

/* Compiles the lines of im into out's arena. */
static void
compile_lines(struct gen *g, struct ruleset *out, const struct image *im)
{
	const char *line = NULL;
	unsigned bad = 0;
	int n = 0;

	while ((line = image_next_line(im, line)) != NULL && n < RULESET_RULES_MAX)
		n++;
	if (line != NULL)
		log_warn("rule-provider %s: only %d rules that no table can hold are taken", out->name, n);
	out->rule = arena_array(&g->arena, (size_t)n + 1, sizeof *out->rule);
	for (line = NULL; n > 0 && (line = image_next_line(im, line)) != NULL; n--) {
		struct rule *r = &out->rule[out->n];
		struct cfg_err err = { 0 };

		memset(r, 0, sizeof *r);
		if (!allowed(line) || rule_parse_condition(g, r, line, &err) != 0) {
			if (bad++ < WARNINGS_MAX)
				log_warn("rule-provider %s: parse rule error: [%.200s] %s", out->name, line,
				    err.text[0] != '\0' ? err.text : "unsupported rule type on rule-set");
			continue;
		}
		out->needs |= r->needs;
		out->n++;
	}
	if (bad > WARNINGS_MAX)
		log_warn("rule-provider %s: %u rules are not valid and left out", out->name, bad);
}

int
ruleset_load(struct gen *g, struct ruleset *s, const struct msg_image *m, int fd)
{
	struct ruleset new = { .name = s->name, .kind = s->kind };
	struct arena kept = g->arena;
	char why[REGEX_WHY_MAX];
	unsigned grown;

	if (image_open(&new.image, fd) != 0 || new.image.h->kind != s->kind) {
		image_close(&new.image);
		return -E_PROTO;
	}
	if (s->kind == IMAGE_IPCIDR || s->kind >= IMAGE_GEOIP || (new.image.h->flags & IMAGE_WANTS_IP) != 0)
		new.needs |= NEED_IP;
	/* the scratch memory of patterns is the generation's, not the set's */
	if (g->regex == NULL && new.image.part[IMAGE_LINES] != NULL) {
		(void)regex_compile(&g->arena, &g->regex, "x", false, why);
		kept = g->arena;
	}
	/* rules put everything into the generation's arena: while these are compiled that is the set's */
	arena_init(&g->arena);
	compile_lines(g, &new, &new.image);
	new.arena = g->arena;
	g->arena = kept;
	new.count = new.image.h->count + (uint32_t)new.n;
	new.updated_ns = m->mtime_ns;
	grown = new.needs & ~s->needs;
	if (s->image.h != NULL)
		ruleset_free(s);
	*s = new;
	if (grown != 0)
		rules_renew(g);
	return 0;
}

void
ruleset_free(struct ruleset *s)
{
	image_close(&s->image);
	arena_free(&s->arena);
	s->rule = NULL;
	s->n = 0;
}

/* ---- matching */

bool
ruleset_match(const struct ruleset *s, const struct meta *m)
{
	const char *host = rule_host(m);
	struct verdict ignored = { 0 };

	if (s->image.h == NULL)
		return false;
	if (host[0] != '\0' && s->kind != IMAGE_IPCIDR) {
		size_t n = strlen(host);

		if (image_has_name(&s->image, host, n) || image_has_word(&s->image, host, n))
			return true;
	}
	if (s->kind == IMAGE_DOMAIN)
		return false;
	if (image_has_ip(&s->image, &m->dst_ip) || image_has_src(&s->image, &m->src_ip))
		return true;
	for (int i = 0; i < s->n; i++)
		if (s->rule[i].type->match(&s->rule[i], m, &ignored) != 0)
			return true;
	return false;
}

static bool
has_name(const struct ruleset *s, const char *host)
{
	static const struct rule_type *const types[] = { &rule_domain, &rule_domain_suffix, &rule_domain_keyword,
		&rule_domain_wildcard, &rule_domain_regex, &rule_geosite };
	struct verdict ignored = { 0 };
	size_t n = strlen(host);
	struct meta m;

	if (image_has_name(&s->image, host, n) || image_has_word(&s->image, host, n))
		return true;
	if (s->n == 0)
		return false;
	meta_init(&m);
	m.host = host;
	for (int i = 0; i < s->n; i++)
		for (size_t k = 0; k < countof(types); k++)
			if (s->rule[i].type == types[k] && types[k]->match(&s->rule[i], &m, &ignored) != 0)
				return true;
	return false;
}

int
ruleset_has(const struct ruleset *s, const char *host, const struct ip *ip)
{
	if (s->image.h == NULL)
		return -1;
	if (host == NULL)
		return image_has_ip(&s->image, ip);
	return host[0] != '\0' && has_name(s, host);
}

static void
renew(struct rule *r)
{
	const struct ruleset *s = r->data;

	r->needs = s->needs & r->may_need;
}

static int
compile(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	struct ruleset *s = ruleset_get(g, payload);

	if (s == NULL)
		return cfg_fail(err, NULL, "rules", "rule set [%.128s] not found", payload);
	r->data = s;
	r->payload = payload;
	renew(r);
	return 0;
}

static int
match(const struct rule *r, const struct meta *m, struct verdict *v)
{
	struct meta swapped;

	(void)v;
	if (!r->src)
		return ruleset_match(r->data, m);
	swapped = *m;
	swapped.src_ip = m->dst_ip;
	swapped.dst_ip = m->src_ip;
	swapped.src_port = m->dst_port;
	swapped.dst_port = m->src_port;
	return ruleset_match(r->data, &swapped);
}

const struct rule_type rule_rule_set = { .name = "RULE-SET", .api_name = "RuleSet", .about = ABOUT_SET,
    .needs = NEED_IP | NEED_PROCESS, .flags = RT_PARAMS, .compile = compile, .match = match, .renew = renew };
