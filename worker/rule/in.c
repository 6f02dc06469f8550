/* SPDX-License-Identifier: MIT */
/* IN-TYPE, IN-USER, IN-NAME: how the connection came in (spec/config.md 11). Called by the engine; owns nothing beside arena
 * memory. */
#include <string.h>

#include "common/strutil.h"
#include "worker/rule/types.h"

struct names {
	int n;
	const char *name[];
};
struct kinds {
	uint32_t bits;		/* one per enum in_kind */
};
_Static_assert(IN_KINDS_ <= 32, "a bit for every kind");

/* Splits at '/', trims. NULL when a part is empty. */
static struct names *
split(struct gen *g, const char *payload)
{
	char *text = arena_strdup(&g->arena, payload), *slash;
	struct names *names;
	int n = 1;

	for (const char *s = payload; *s != '\0'; s++)
		n += *s == '/';
	names = arena_alloc(&g->arena, sizeof *names + (size_t)n * sizeof names->name[0]);
	for (; text != NULL; text = slash) {
		slash = strchr(text, '/');
		if (slash != NULL)
			*slash++ = '\0';
		text = str_trim(text);
		if (*text == '\0')
			return NULL;
		names->name[names->n++] = text;
	}
	return names;
}

static uint32_t
kind_bits(const char *name)
{
	uint32_t bits = 0;

	if (str_case_equal(name, "SOCKS"))
		return 1U << IN_SOCKS4 | 1U << IN_SOCKS5;
	for (unsigned k = 0; k < IN_KINDS_; k++)
		if (str_case_equal(name, meta_type_name((enum in_kind)k)))
			bits |= 1U << k;
	return bits;
}

static int
compile_type(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	struct names *names = split(g, payload);
	struct kinds *kinds = arena_alloc(&g->arena, sizeof *kinds);

	if (names == NULL)
		return cfg_fail(err, NULL, "rules", "in type couldn't be empty");
	for (int i = 0; i < names->n; i++) {
		uint32_t bits = kind_bits(names->name[i]);

		if (bits == 0)
			return cfg_fail(err, NULL, "rules", "unknown type: %.64s", names->name[i]);
		kinds->bits |= bits;
	}
	r->data = kinds;
	return 0;
}

static int
match_type(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const struct kinds *kinds = r->data;

	(void)v;
	return m->kind < IN_KINDS_ && (kinds->bits >> m->kind & 1) != 0;
}

static int
compile_user(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	r->data = split(g, payload);
	return r->data != NULL ? 0 : cfg_fail(err, NULL, "rules", "in user couldn't be empty");
}

static int
compile_name(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	r->data = split(g, payload);
	return r->data != NULL ? 0 : cfg_fail(err, NULL, "rules", "in name couldn't be empty");
}

static int
among(const struct names *names, const char *s)
{
	for (int i = 0; i < names->n; i++)
		if (strcmp(names->name[i], s) == 0)
			return 1;
	return 0;
}

static int
match_user(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return among(r->data, m->in_user);
}

static int
match_name(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return among(r->data, m->in_name);
}

const struct rule_type rule_in_type = { .name = "IN-TYPE", .api_name = "InType", .about = ABOUT_IN_TYPE,
    .compile = compile_type, .match = match_type };
const struct rule_type rule_in_user = { .name = "IN-USER", .api_name = "InUser", .about = ABOUT_IN_USER,
    .compile = compile_user, .match = match_user };
const struct rule_type rule_in_name = { .name = "IN-NAME", .api_name = "InName", .about = ABOUT_IN_NAME,
    .compile = compile_name, .match = match_name };
