/* SPDX-License-Identifier: MIT */
/* One rule line of any bytes: it is taken or refused with a text, and what was taken can be matched and shown. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/log.h"
#include "worker/rule/rule.h"

enum { LINE_MAX_BYTES = 2048 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct outbound *
find(struct gen *g, const char *name)
{
	(void)name;
	return (struct outbound *)(void *)g;	/* every target exists; it is never looked into */
}

static bool
usable(struct outbound *ob, const struct meta *m)
{
	(void)ob;
	(void)m;
	return true;
}

static void
walk(struct gen *g, struct rule *r)
{
	struct rules list = { .name = "", .hooks = &g->rule_hooks, .rule = r, .n = 1 };
	static const char *const hosts[] = { "", "a.b.example.test", "xn--bcher-kva.test" };

	for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
		struct match m = { .list = &list, .resolved = true, .process_known = true };
		struct meta meta;

		meta_init(&meta);
		meta.host = hosts[i];
		meta.process = "curl";
		meta.process_path = "/usr/bin/curl";
		meta.uid = 1000;
		(void)ip_parse(&meta.dst_ip, i == 1 ? "2001:db8::1" : "10.1.2.3");
		(void)ip_parse(&meta.src_ip, "192.168.1.9");
		if (rules_walk(&m, &meta, 1) == MATCH_HIT && m.verdict.rule != r)
			abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rules sub = { .name = "sub" };
	struct gen g = { .rule_hooks = { find, usable } };
	struct cfg_err err = { 0 };
	struct rule r = { 0 };
	char line[LINE_MAX_BYTES + 1];

	if (size > LINE_MAX_BYTES || memchr(data, '\0', size) != NULL)
		return 0;
	log_set_level(LL_SILENT);
	memcpy(line, data, size);
	line[size] = '\0';
	arena_init(&g.arena);
	map_init(&g.sub_rules);
	(void)map_put(&g.sub_rules, "sub", &sub);
	if (rule_parse_line(&g, &r, line, &err) != 0) {
		if (err.text[0] == '\0')
			abort();
	} else {
		if (r.payload == NULL || rule_api_name(&r)[0] == '\0' || strlen(r.payload) > 64 * LINE_MAX_BYTES)
			abort();
		walk(&g, &r);
	}
	map_free(&g.sub_rules);
	map_free(&g.geo_sets);
	map_free(&g.rule_sets);
	arena_free(&g.arena);
	return 0;
}
