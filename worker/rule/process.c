/* SPDX-License-Identifier: MIT */
/* PROCESS-NAME, PROCESS-PATH and their -REGEX and -WILDCARD forms (spec/config.md 11): the program at the other end of a
 * local connection. They compare what core/dispatch.c has had filled in as meta.process and meta.process_path; of a client
 * that is unknown (on another machine, or find-process-mode: off) both are empty, and nothing matches. Called by the engine;
 * owns nothing beside arena memory. */
#include <string.h>

#include "common/strutil.h"
#include "worker/match/glob.h"
#include "worker/match/regex.h"
#include "worker/rule/types.h"

static int
compile_text(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	(void)g;
	(void)err;
	r->payload = payload;
	return 0;
}

static int
compile_regex(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char why[REGEX_WHY_MAX];

	r->data = regex_compile(&g->arena, &g->regex, payload, true, why);
	if (r->data == NULL)
		return cfg_fail(err, NULL, "rules", "error parsing regexp: %s in `%.200s`", why, payload);
	return 0;
}

static int
compile_wildcard(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char *pattern = arena_strdup(&g->arena, payload);

	(void)err;
	str_lower(pattern);
	r->data = pattern;
	return 0;
}

static int
match_name(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return str_case_equal(m->process, r->payload);
}

static int
match_path(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return str_case_equal(m->process_path, r->payload);
}

static int
match_name_regex(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return m->process[0] != '\0' && regex_match(r->data, m->process, strlen(m->process));
}

static int
match_path_regex(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return m->process_path[0] != '\0' && regex_match(r->data, m->process_path, strlen(m->process_path));
}

static int
match_name_wildcard(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return m->process[0] != '\0' && glob_match_case(r->data, m->process);
}

static int
match_path_wildcard(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return m->process_path[0] != '\0' && glob_match_case(r->data, m->process_path);
}

const struct rule_type rule_process_name = { .name = "PROCESS-NAME", .api_name = "ProcessName",
    .about = ABOUT_PROCESS, .needs = NEED_PROCESS, .compile = compile_text, .match = match_name };
const struct rule_type rule_process_path = { .name = "PROCESS-PATH", .api_name = "ProcessPath",
    .about = ABOUT_PROCESS_PATH, .needs = NEED_PROCESS, .compile = compile_text, .match = match_path };
const struct rule_type rule_process_name_regex = { .name = "PROCESS-NAME-REGEX", .api_name = "ProcessNameRegex",
    .about = ABOUT_PROCESS, .needs = NEED_PROCESS, .flags = RT_PAYLOAD_COMMAS, .compile = compile_regex,
    .match = match_name_regex };
const struct rule_type rule_process_path_regex = { .name = "PROCESS-PATH-REGEX", .api_name = "ProcessPathRegex",
    .about = ABOUT_PROCESS_PATH, .needs = NEED_PROCESS, .flags = RT_PAYLOAD_COMMAS,
    .compile = compile_regex, .match = match_path_regex };
const struct rule_type rule_process_name_wildcard = { .name = "PROCESS-NAME-WILDCARD",
    .api_name = "ProcessNameWildcard", .about = ABOUT_PROCESS, .needs = NEED_PROCESS,
    .compile = compile_wildcard, .match = match_name_wildcard };
const struct rule_type rule_process_path_wildcard = { .name = "PROCESS-PATH-WILDCARD",
    .api_name = "ProcessPathWildcard", .about = ABOUT_PROCESS_PATH, .needs = NEED_PROCESS,
    .compile = compile_wildcard, .match = match_path_wildcard };
