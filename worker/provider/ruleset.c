/* SPDX-License-Identifier: MIT */
/* See ruleset.h. Called while the configuration is read and by the API's questions. */
#include "worker/provider/ruleset.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/value.h"

static int
read_provider(struct gen *g, struct rule_provider *p, const struct cfg_node *node, struct cfg_err *err)
{
	const char *type = "", *format = "";

	*p = (struct rule_provider){ .node = node, .set = ruleset_get(g, cfg_key(node)), .why = "" };
	p->url = p->path = p->proxy = "";
	if (cfgw_str(node, "type", &type, err) != 0 || cfgw_str(node, "format", &format, err) != 0 ||
	    cfgw_str(node, "path", &p->path, err) != 0 || cfgw_str(node, "url", &p->url, err) != 0 ||
	    cfgw_str(node, "proxy", &p->proxy, err) != 0 ||
	    cfgw_int(node, "interval", INT64_MIN, INT64_MAX, &p->interval_s, err) != 0 ||
	    cfgw_int(node, "size-limit", INT64_MIN, INT64_MAX, &p->size_limit, err) != 0)
		return -E_INVAL;
	p->interval_s = p->interval_s < INT32_MAX ? p->interval_s : INT32_MAX;
	p->vehicle = strcmp(type, "http") == 0 ? VEHICLE_HTTP : strcmp(type, "file") == 0 ? VEHICLE_FILE : VEHICLE_INLINE;
	p->format = strcmp(format, "text") == 0 ? FORMAT_TEXT : strcmp(format, "mrs") == 0 ? FORMAT_MRS : FORMAT_YAML;
	if (p->vehicle == VEHICLE_INLINE) {
		p->format = FORMAT_INLINE;
		p->path = "";
	} else if (p->vehicle == VEHICLE_HTTP && p->path[0] == '\0') {
		p->path = provider_stored_path(g, "rules", p->url);
	}
	return 0;
}

int
rule_providers_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *map = cfg_get(root, "rule-providers");

	if (cfg_count(map) > RULE_PROVIDERS_MAX)
		return cfg_fail(err, map, "rule-providers", "more than %d rule-providers", RULE_PROVIDERS_MAX);
	g->rule_providers = arena_array(&g->arena, cfg_count(map) + 1, sizeof *g->rule_providers);
	cfg_each(c, map)
		if (read_provider(g, &g->rule_providers[g->n_rule_providers++], c, err) != 0)
			return -E_INVAL;
	return 0;
}

struct rule_provider *
rule_provider_find(struct gen *g, const char *name)
{
	for (int i = 0; i < g->n_rule_providers; i++)
		if (strcmp(g->rule_providers[i].set->name, name) == 0)
			return &g->rule_providers[i];
	return NULL;
}

/* ---- showing: spec/api.md 3.3; `error`, why the last update failed, is ours */

static void
show(const struct rule_provider *p, struct wire *out)
{
	static const char *const behaviors[] = {
		[IMAGE_DOMAIN] = "Domain", [IMAGE_IPCIDR] = "IPCIDR", [IMAGE_CLASSICAL] = "Classical"
	};
	static const char *const formats[] = {
		[FORMAT_YAML] = "YamlRule", [FORMAT_TEXT] = "TextRule", [FORMAT_MRS] = "MrsRule", [FORMAT_INLINE] = ""
	};
	static const char *const vehicles[] = { [VEHICLE_HTTP] = "HTTP", [VEHICLE_FILE] = "File", [VEHICLE_INLINE] = "Inline" };

	value_map(out);
	value_key_str(out, "behavior", behaviors[p->set->kind]);
	value_key_str(out, "format", formats[p->format]);
	value_key_str(out, "name", p->set->name);
	value_key(out, "ruleCount");
	value_uint(out, p->set->count);
	value_key_str(out, "type", "Rule");
	value_key(out, "updatedAt");
	value_time(out, p->set->updated_ns);
	value_key_str(out, "vehicleType", vehicles[p->vehicle]);
	if (p->why[0] != '\0') {
		value_key_str(out, "error", p->why);
	}
	if (p->vehicle == VEHICLE_INLINE) {
		value_key(out, "payload");
		value_list(out);
		cfg_each(c, cfg_get(p->node, "payload"))
			value_str(out, cfg_text(c));
		value_list_end(out);
	}
	value_map_end(out);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp((*(struct rule_provider *const *)a)->set->name, (*(struct rule_provider *const *)b)->set->name);
}

int
rule_providers_show(struct gen *g, const char *name, struct wire *out)
{
	const struct rule_provider *one = name != NULL ? rule_provider_find(g, name) : NULL;
	struct rule_provider **sorted;

	if (name != NULL && one == NULL)
		return -E_NOTFOUND;
	if (one != NULL) {
		show(one, out);
		return 0;
	}
	sorted = calloc((size_t)g->n_rule_providers + 1, sizeof *sorted);
	if (sorted == NULL) {
		out->failed = true;
		return 0;
	}
	for (int i = 0; i < g->n_rule_providers; i++)
		sorted[i] = &g->rule_providers[i];
	qsort(sorted, (size_t)g->n_rule_providers, sizeof(struct rule_provider *), by_name);
	value_map(out);
	for (int i = 0; i < g->n_rule_providers; i++) {
		value_key(out, sorted[i]->set->name);
		show(sorted[i], out);
	}
	value_map_end(out);
	free(sorted);
	return 0;
}
