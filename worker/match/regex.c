/* SPDX-License-Identifier: MIT */
/* PCRE2 behind one small door. Called by the -REGEX rules and by name filters. Compiled patterns lie in the generation's
 * arena; matching takes its memory from one slab there, reserved at the first pattern, so that it never allocates. Not
 * re-entrant: one loop, one thread. */
#include "worker/match/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* PCRE2 doubles its state and copies it, so old and new exist at once and never return: twice the limit and a little. */
enum { SLAB = REGEX_HEAP_KIB * 1024 * 5 / 2 };

struct regex_env {
	pcre2_general_context *general;	/* memory from the arena, for what is compiled */
	pcre2_compile_context *compile;
	pcre2_match_context *match;
	pcre2_match_data *data;		/* one pair: whether it matched is all that is asked */
	unsigned char *slab;
	size_t used;
};

struct regex {
	const struct regex_env *env;
	pcre2_code *code;
};

static void *
arena_get(size_t n, void *arena)
{
	return arena_alloc(arena, n);
}

static void *
slab_get(size_t n, void *arg)
{
	struct regex_env *env = arg;
	void *p;

	n = (n + 15) & ~(size_t)15;
	if (n > SLAB - env->used)
		return NULL;
	p = env->slab + env->used;
	env->used += n;
	return p;
}

/* Arena and slab are given back as a whole. */
static void
put_back(void *p, void *arg)
{
	(void)p;
	(void)arg;
}

static struct regex_env *
env_make(struct arena *a)
{
	struct regex_env *env = arena_alloc(a, sizeof *env);
	pcre2_general_context *slab;

	env->slab = arena_alloc(a, SLAB);
	env->general = pcre2_general_context_create(arena_get, put_back, a);
	env->compile = pcre2_compile_context_create(env->general);
	env->match = pcre2_match_context_create(env->general);
	slab = pcre2_general_context_create(slab_get, put_back, env);
	env->data = pcre2_match_data_create(1, slab);
	/* \uXXXX as in .NET */
	(void)pcre2_set_compile_extra_options(env->compile, PCRE2_EXTRA_ALT_BSUX);
	(void)pcre2_set_match_limit(env->match, REGEX_MATCH_LIMIT);
	(void)pcre2_set_depth_limit(env->match, REGEX_DEPTH_LIMIT);
	(void)pcre2_set_heap_limit(env->match, REGEX_HEAP_KIB);
	return env;
}

/* Whether a class holds another after a minus, as in "[a-z-[aeiou]]": .NET subtracts, PCRE2 reads something else. */
static bool
subtracts(const char *p)
{
	bool in = false;

	for (; *p != '\0'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (!in && *p == '[') {
			in = true;
			p += p[1] == '^';
			p += p[1] == ']';	/* a bracket that comes first is a member */
		} else if (in && *p == ']')
			in = false;
		else if (in && *p == '-' && p[1] == '[' && p[2] != ':')
			return true;
	}
	return false;
}

struct regex *
regex_compile(struct arena *a, struct regex_env **env, const char *pattern, bool caseless, char why[static REGEX_WHY_MAX])
{
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_DUPNAMES | PCRE2_NEVER_BACKSLASH_C | (caseless ? PCRE2_CASELESS : 0);
	PCRE2_UCHAR text[128] = "";
	struct regex *re;
	PCRE2_SIZE at = 0;
	pcre2_code *code;
	int rc = 0;

	if (subtracts(pattern)) {
		(void)snprintf(why, REGEX_WHY_MAX, "a class minus a class ([a-z-[aeiou]]) is not supported");
		return NULL;
	}
	if (*env == NULL)
		*env = env_make(a);
	code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &rc, &at, (*env)->compile);
	if (code == NULL) {
		(void)pcre2_get_error_message(rc, text, sizeof text);
		(void)snprintf(why, REGEX_WHY_MAX, "%s at %zu", (const char *)text, at);
		return NULL;
	}
	re = arena_alloc(a, sizeof *re);
	re->env = *env;
	re->code = code;
	return re;
}

bool
regex_match(const struct regex *re, const char *text, size_t n)
{
	/* bytes that are no UTF-8 are an error, that is: no match */
	return pcre2_match(re->code, (PCRE2_SPTR)text, n, 0, 0, re->env->data, re->env->match) >= 0;
}
