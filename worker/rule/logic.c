/* SPDX-License-Identifier: MIT */
/* AND, OR, NOT with nesting, and SUB-RULE (spec/config.md 11): the parser of "((T1,p1),(T2,p2))", the text the API shows,
 * and the tests. Called by the engine; conditions are rules without a target, in the arena.
 *
 * A condition that cannot work (its data is missing) is unknown rather than false: NOT of one does not match either. */
#include <string.h>

#include "common/strutil.h"
#include "worker/rule/types.h"

struct conditions {
	int n;
	struct rule *rule;
	const struct rules *sub;	/* SUB-RULE */
};

/* ---- parsing */

static int
check_balance(const char *s, struct cfg_err *err)
{
	int open = 0;

	for (; *s != '\0'; s++) {
		open += *s == '(';
		if (*s == ')' && --open < 0)
			return cfg_fail(err, NULL, "rules", "missing '('");
	}
	return open == 0 ? 0 : cfg_fail(err, NULL, "rules", "format error is missing )");
}

/* The parenthesis that closes the one at s; the text is balanced. */
static const char *
closing(const char *s)
{
	int open = 0;

	for (;; s++) {
		open += *s == '(';
		if (*s == ')' && --open == 0)
			return s;
	}
}

/* "DOMAIN,a" or "AND,((..),(..))": one condition. text is the arena's and is cut up. */
static int
compile_one(struct gen *g, struct rule *c, char *text, struct cfg_err *err)
{
	const char *type;
	char *comma = strchr(text, ','), *payload, *next, **params;
	bool whole;
	int n = 0;

	if (comma == NULL)
		return cfg_fail(err, NULL, "rules", "[%.128s] format is error", text);
	*comma = '\0';
	type = str_trim(text);
	payload = comma + 1;
	if (strcmp(type, "MATCH") == 0 || strcmp(type, "SUB-RULE") == 0)
		return cfg_fail(err, NULL, "rules", "unsupported rule type [%s] on logic rule", type);
	whole = str_equal(type, "AND") || str_equal(type, "OR") || str_equal(type, "NOT") || str_ends(type, "-REGEX");
	params = arena_array(&g->arena, strlen(payload) + 1, sizeof *params);
	for (next = whole ? NULL : strchr(payload, ','); next != NULL; next = strchr(next, ',')) {
		*next++ = '\0';
		params[n++] = next;
	}
	for (int i = 0; i < n; i++)
		params[i] = str_trim(params[i]);
	return rule_compile(g, c, type, str_trim(payload), (const char *const *)params, n, err);
}

static int
count_groups(const char *s)
{
	int n = 0;

	for (; *s != '\0'; s++) {
		if (*s != '(')
			continue;
		n++;
		s = closing(s);
	}
	return n;
}

/* Everything in "(..),(..)"; between the groups only commas and blanks. */
static int
compile_groups(struct gen *g, struct rule *r, const char *s, struct cfg_err *err)
{
	struct conditions *c = arena_alloc(&g->arena, sizeof *c);
	int rc;

	c->rule = arena_array(&g->arena, (size_t)count_groups(s) + 1, sizeof *c->rule);
	for (; *s != '\0'; s++) {
		const char *end;
		struct rule *one;

		if (*s == ',' || *s == ' ' || *s == '\t')
			continue;
		if (*s != '(')
			return cfg_fail(err, NULL, "rules", "payload format error");
		end = closing(s);
		one = &c->rule[c->n++];
		one->depth = r->depth + 1;
		rc = compile_one(g, one, arena_strndup(&g->arena, s + 1, (size_t)(end - s) - 1), err);
		if (rc != 0)
			return rc;
		r->needs |= one->needs;
		if (one->later != NULL)
			r->later = one->later;
		s = end;
	}
	r->data = c;
	return 0;
}

/* "((T,p),(T,p))", and also without the outer pair. The reference takes "(T,p)" for no condition at all, and thus for
 * always; that is refused. */
static int
compile_list(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	const struct conditions *c;
	size_t n = strlen(payload);
	int rc = check_balance(payload, err);

	if (rc != 0)
		return rc;
	if (strchr(payload, '(') == NULL)
		return cfg_fail(err, NULL, "rules", "payload format error");
	if (r->depth >= RULE_DEPTH_MAX)
		return cfg_fail(err, NULL, "rules", "conditions are nested deeper than %d", RULE_DEPTH_MAX);
	if (payload[0] == '(' && closing(payload) == payload + n - 1)
		payload = arena_strndup(&g->arena, payload + 1, n - 2);
	rc = compile_groups(g, r, payload, err);
	c = r->data;
	if (rc == 0 && c->n == 0)
		return cfg_fail(err, NULL, "rules", "payload format error");
	return rc;
}

/* "(type,payload)" of each condition with op between them. */
static const char *
show(struct gen *g, const struct rule *r, const char *op)
{
	const struct conditions *c = r->data;
	size_t len = 3;
	char *out, *p;

	for (int i = 0; i < c->n; i++)
		len += strlen(rule_api_name(&c->rule[i])) + strlen(c->rule[i].payload) + 3 + strlen(op);
	p = out = arena_alloc(&g->arena, len);
	*p++ = '(';
	for (int i = 0; i < c->n; i++) {
		const char *const parts[] = { i > 0 ? op : "", "(", rule_api_name(&c->rule[i]), ",", c->rule[i].payload, ")" };

		for (size_t k = 0; k < countof(parts); k++)
			p += str_copy(p, len - (size_t)(p - out), parts[k]);
	}
	*p = ')';
	return out;
}

static int
compile_and(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	int rc = compile_list(g, r, payload, err);

	if (rc == 0)
		r->payload = show(g, r, " && ");
	return rc;
}

static int
compile_or(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	int rc = compile_list(g, r, payload, err);

	if (rc == 0)
		r->payload = show(g, r, " || ");
	return rc;
}

static int
compile_not(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	const struct conditions *c;
	int rc = compile_list(g, r, payload, err);

	if (rc != 0)
		return rc;
	c = r->data;
	if (c->n != 1)
		return cfg_fail(err, NULL, "rules", "not rule must contain one rule");
	r->payload = arena_printf(&g->arena, "(!(%s,%s))", rule_api_name(c->rule), c->rule->payload);
	return 0;
}

static int
compile_sub(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	struct conditions *c;
	int rc = check_balance(payload, err);

	if (rc == 0 && count_groups(payload) != 1)
		rc = cfg_fail(err, NULL, "rules", "Sub-Rule rule must contain one rule");
	if (rc == 0)
		rc = compile_groups(g, r, payload, err);
	if (rc != 0)
		return rc;
	c = r->data;
	c->sub = r->target != NULL ? map_get(&g->sub_rules, r->target) : NULL;
	if (c->sub != NULL)
		return 0;
	return cfg_fail(err, NULL, "rules", "sub-rule [%.128s] not found", r->target != NULL ? r->target : "");
}

const struct rules *
rule_sub_target(const struct rule *r)
{
	const struct conditions *c = r->data;

	return c->sub;
}

const struct rule *
rule_conditions(const struct rule *r, int *n)
{
	const struct conditions *c = r->data;

	*n = c->n;
	return c->rule;
}

/* ---- testing */

static int
match_and(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const struct conditions *c = r->data;

	for (int i = 0; i < c->n; i++)
		if (c->rule[i].type->match(&c->rule[i], m, v) == 0)
			return 0;
	return 1;
}

static int
match_or(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const struct conditions *c = r->data;

	for (int i = 0; i < c->n; i++)
		if (c->rule[i].type->match(&c->rule[i], m, v) != 0)
			return 1;
	return 0;
}

static int
match_not(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const struct conditions *c = r->data;

	return r->later == NULL && c->rule->type->match(c->rule, m, v) == 0;
}

/* The first hit in the list counts, whatever its target: the engine then judges the target, and goes on behind the SUB-RULE
 * if it does not fit. */
static int
match_sub(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const struct conditions *c = r->data;

	if (c->rule->type->match(c->rule, m, v) == 0)
		return 0;
	for (int i = 0; i < c->sub->n; i++) {
		const struct rule *one = &c->sub->rule[i];

		v->outbound = one->outbound;
		if (one->type->match(one, m, v) != 0)
			return 1;
	}
	return 0;
}

static void
renew(struct rule *r)
{
	struct conditions *c = r->data;

	r->needs = 0;
	r->later = NULL;
	for (int i = 0; i < c->n; i++) {
		if (c->rule[i].type->renew != NULL)
			c->rule[i].type->renew(&c->rule[i]);
		r->needs |= c->rule[i].needs;
		if (c->rule[i].later != NULL)
			r->later = c->rule[i].later;
	}
}

const struct rule_type rule_and = { .name = "AND", .api_name = "AND", .about = ABOUT_AND, .flags = RT_PAYLOAD_COMMAS,
    .compile = compile_and, .match = match_and, .renew = renew };
const struct rule_type rule_or = { .name = "OR", .api_name = "OR", .about = ABOUT_OR, .flags = RT_PAYLOAD_COMMAS,
    .compile = compile_or, .match = match_or, .renew = renew };
const struct rule_type rule_not = { .name = "NOT", .api_name = "NOT", .about = ABOUT_NOT, .flags = RT_PAYLOAD_COMMAS,
    .compile = compile_not, .match = match_not, .renew = renew };
const struct rule_type rule_sub_rule = {
	.name = "SUB-RULE", .api_name = "SubRules", .about = ABOUT_SUB, .flags = RT_PAYLOAD_COMMAS | RT_SUB, .compile = compile_sub,
	.match = match_sub, .renew = renew
};
