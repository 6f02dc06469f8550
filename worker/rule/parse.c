/* SPDX-License-Identifier: MIT */
/* rules: and sub-rules: of the configuration (spec/config.md 11). Called once by apply.c, when proxies, groups and
 * rule-providers are known; everything it makes lies in the generation's arena. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/rule/rule.h"
#include "worker/rule/ruleset.h"
#include "worker/worker.h"

enum { TYPE_NAME_MAX = 64, LATER_MAX = 32 /* kinds of warning; there are fewer types */ };
enum mark { MARK_NEW, MARK_OPEN, MARK_DONE };

static const struct rule_type *
find_type(const char *name)
{
	for (int i = 0; rule_types[i] != NULL; i++)
		if (strcmp(rule_types[i]->name, name) == 0)
			return rule_types[i];
	return NULL;
}

int
rule_compile(struct gen *g, struct rule *r, const char *type, const char *payload, const char *const *params, int n_params,
    struct cfg_err *err)
{
	const struct rule_type *t = find_type(type);

	if (t == NULL)
		return cfg_fail(err, NULL, "rules", "unsupported rule type %.64s", type);
	if (payload[0] == '\0' && (t->flags & RT_NO_PAYLOAD) == 0)
		return cfg_fail(err, NULL, "rules", "missing subsequent parameters: %s", t->name);
	r->needs = t->needs;
	for (int i = 0; i < n_params && (t->flags & RT_PARAMS) != 0; i++) {
		if (strcmp(params[i], "src") == 0)
			r->src = true;
		if (r->src || strcmp(params[i], "no-resolve") == 0)
			r->needs &= ~(unsigned)NEED_IP;
	}
	r->may_need = r->needs;
	r->type = r->src && t->src != NULL ? t->src : t;
	r->payload = payload;
	return r->type->compile(g, r, payload, err);
}

/* Cuts line, the arena's, at its commas. */
static int
split(struct gen *g, char *line, char ***out)
{
	char **fields, *comma;
	int n = 1;

	for (const char *s = line; *s != '\0'; s++)
		n += *s == ',';
	fields = arena_array(&g->arena, (size_t)n, sizeof *fields);
	for (n = 0; line != NULL; line = comma) {
		comma = strchr(line, ',');
		if (comma != NULL)
			*comma++ = '\0';
		fields[n++] = str_trim(line);
	}
	*out = fields;
	return n;
}

static char *
join(struct gen *g, char *const *fields, int n)
{
	size_t len = 1;
	char *out, *p;

	for (int i = 0; i < n; i++)
		len += strlen(fields[i]) + 1;
	p = out = arena_alloc(&g->arena, len);
	for (int i = 0; i < n; i++) {
		if (i > 0)
			*p++ = ',';
		p += str_copy(p, len - (size_t)(p - out), fields[i]);
	}
	return out;
}

static int
find_target(struct gen *g, struct rule *r, bool sub, struct cfg_err *err)
{
	if (sub) {
		if (map_get(&g->sub_rules, r->target) == NULL)
			return cfg_fail(err, NULL, "rules", "sub-rule [%.128s] not found", r->target);
		return 0;
	}
	r->outbound = g->rule_hooks.find(g, r->target);
	return r->outbound != NULL ? 0 : cfg_fail(err, NULL, "rules", "proxy [%.128s] not found", r->target);
}

int
rule_parse_line(struct gen *g, struct rule *r, const char *line, struct cfg_err *err)
{
	const struct rule_type *t;
	const char *payload = "";
	char **field, type[TYPE_NAME_MAX];
	int n = split(g, arena_strdup(&g->arena, line), &field), target;
	int rc;

	if (n < 2)
		return cfg_fail(err, NULL, "rules", "format invalid");
	(void)str_copy(type, sizeof type, field[0]);
	for (char *s = type; *s != '\0'; s++)
		*s = (char)(*s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);
	t = find_type(type);
	if (t != NULL && (t->flags & RT_PAYLOAD_COMMAS) != 0) {
		target = n - 1;
		payload = join(g, field + 1, n - 2);
	} else if (n == 2 || (t != NULL && (t->flags & RT_NO_PAYLOAD) != 0)) {
		target = 1;
	} else {
		target = 2;
		payload = field[1];
	}
	r->target = field[target];
	rc = find_target(g, r, t != NULL && (t->flags & RT_SUB) != 0, err);
	if (rc != 0)
		return rc;
	return rule_compile(g, r, type, payload, (const char *const *)(field + target + 1), n - target - 1, err);
}

int
rule_parse_condition(struct gen *g, struct rule *r, const char *line, struct cfg_err *err)
{
	const struct rule_type *t;
	char **field, *type;
	int n = split(g, arena_strdup(&g->arena, line), &field);

	type = field[0];
	for (char *s = type; *s != '\0'; s++)
		*s = (char)(*s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);
	t = find_type(type);
	if (n < 2)
		return cfg_fail(err, NULL, "rules", "unsupported rule type %.64s", type);
	if (t != NULL && (t->flags & RT_PAYLOAD_COMMAS) != 0)
		return rule_compile(g, r, type, join(g, field + 1, n - 1), NULL, 0, err);
	return rule_compile(g, r, type, field[1], (const char *const *)(field + 2), n - 2, err);
}

/* where is "rules" or "sub-rules[NAME]". */
static int
parse_list(struct gen *g, struct rules *list, const struct cfg_node *n, const char *where, struct cfg_err *err)
{
	list->hooks = &g->rule_hooks;
	list->rule = arena_array(&g->arena, cfg_count(n) + 1, sizeof *list->rule);
	cfg_each(c, n) {
		struct cfg_err why = { 0 };

		if (rule_parse_line(g, &list->rule[list->n], cfg_text(c), &why) != 0)
			return cfg_fail(err, c, where, "%s[%d] [%.200s] error: %s", where, list->n, cfg_text(c), why.text);
		list->n++;
	}
	return 0;
}

static int
parse_sub_rules(struct gen *g, const struct cfg_node *map, struct cfg_err *err)
{
	cfg_each(c, map) {		/* all names first: they may refer to each other */
		struct rules *list = arena_alloc(&g->arena, sizeof *list);

		list->name = cfg_key(c);
		if (list->name[0] == '\0')
			return cfg_fail(err, c, "sub-rules", "sub-rule name is empty");
		(void)map_put(&g->sub_rules, list->name, list);
	}
	cfg_each(c, map) {
		const char *where = arena_printf(&g->arena, "sub-rules[%.64s]", cfg_key(c));
		const struct cfg_node *n;
		int rc = cfg_list(c, where, &n, err);

		if (rc == 0)
			rc = parse_list(g, map_get(&g->sub_rules, cfg_key(c)), n, where, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
fail_circle(const char *const *path, int depth, const char *again, struct cfg_err *err)
{
	char text[400] = "";
	size_t n = 0;

	for (int i = 0; i < depth && n < sizeof text; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "%.64s->", path[i]);
	if (n < sizeof text)
		(void)snprintf(text + n, sizeof text - n, "%.64s", again);
	return cfg_fail(err, NULL, "sub-rules", "sub-rule error: circular references [%s]", text);
}

/* Follows every SUB-RULE of a list: refuses circles and depth, and sums up what rules need. path has room for RULE_DEPTH_MAX
 * names. */
static int
settle(struct rules *list, const char **path, int depth, struct gen *g, struct cfg_err *err)
{
	int rc;

	if (list->mark == MARK_DONE)
		return 0;
	if (depth == RULE_DEPTH_MAX)
		return cfg_fail(err, NULL, "sub-rules", "sub-rule error: nested deeper than %d", RULE_DEPTH_MAX);
	list->mark = MARK_OPEN;
	path[depth] = list->name;
	for (int i = 0; i < list->n; i++) {
		struct rule *r = &list->rule[i];
		struct rules *to;

		if ((r->type->flags & RT_SUB) != 0) {
			to = map_get(&g->sub_rules, r->target);
			if (to->mark == MARK_OPEN)
				return fail_circle(path, depth + 1, r->target, err);
			rc = settle(to, path, depth + 1, g, err);
			if (rc != 0)
				return rc;
			r->needs |= to->needs;
		}
		list->needs |= r->needs;
	}
	list->mark = MARK_DONE;
	return 0;
}

/* ---- needs that change */

static bool
renew_list(struct rules *list)
{
	bool changed = false;

	for (int i = 0; i < list->n; i++) {
		struct rule *r = &list->rule[i];
		unsigned before = r->needs;

		if (r->type->renew == NULL)
			continue;
		r->type->renew(r);
		if ((r->type->flags & RT_SUB) != 0)
			r->needs |= rule_sub_target(r)->needs;
		r->needs |= before;
		changed |= r->needs != before;
		list->needs |= r->needs;
	}
	return changed;
}

/* Needs only grow: to ask for an address once too often does no harm. Lists refer to each other at most RULE_DEPTH_MAX deep. */
void
rules_renew(struct gen *g)
{
	bool changed = g->rules != NULL;

	for (int round = 0; changed && round < RULE_DEPTH_MAX; round++) {
		changed = renew_list(g->rules);
		for (size_t i = 0; i < g->sub_rules.cap; i++)
			if (g->sub_rules.slots[i].key != NULL)
				changed |= renew_list(g->sub_rules.slots[i].value);
	}
}

struct later {
	const struct rule_type *type;
	const char *list;		/* where the first one stands */
	int index, count;
};

static void
count_later(struct later *later, const struct rules *list)
{
	for (int i = 0; i < list->n; i++) {
		const struct rule_type *t = list->rule[i].later;
		struct later *l = later;

		if (t == NULL)
			continue;
		while (l->type != NULL && l->type != t && l < later + LATER_MAX - 1)
			l++;
		if (l->type == NULL)
			*l = (struct later){ .type = t, .list = list->name, .index = i };
		l->count++;
	}
}

static void
warn_later(const struct gen *g, const struct cfg_node *sub_rules)
{
	struct later later[LATER_MAX] = { 0 };

	count_later(later, g->rules);
	cfg_each(c, sub_rules)
		count_later(later, map_get(&g->sub_rules, cfg_key(c)));
	for (const struct later *l = later; l < later + LATER_MAX && l->type != NULL; l++) {
		bool sub = l->list[0] != '\0';

		log_warn("%s rules have no data and match nothing: %d, the first is %s%.64s%s[%d]", l->type->name, l->count,
		    sub ? "sub-rules[" : "rules", l->list, sub ? "]" : "", l->index);
	}
}

int
rules_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const char *path[RULE_DEPTH_MAX];
	const struct cfg_node *subs, *n;
	int rc;

	g->rules = arena_alloc(&g->arena, sizeof *g->rules);
	g->rules->name = "";
	g->rules->hooks = &g->rule_hooks;
	rc = cfg_map(cfg_get(root, "sub-rules"), "sub-rules", &subs, err);
	if (rc == 0)
		geo_prepare(g, cfg_get(root, "rules"), subs);
	if (rc == 0)
		rc = parse_sub_rules(g, subs, err);
	cfg_each(c, subs)
		if (rc == 0)
			rc = settle(map_get(&g->sub_rules, cfg_key(c)), path, 0, g, err);
	if (rc == 0)
		rc = cfg_list(cfg_get(root, "rules"), "rules", &n, err);
	if (rc == 0)
		rc = parse_list(g, g->rules, n, "rules", err);
	if (rc == 0)
		rc = settle(g->rules, path, 0, g, err);
	if (rc == 0 && (g->w == NULL || g->w->lead))
		warn_later(g, subs);
	return rc;
}
