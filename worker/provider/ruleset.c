/* SPDX-License-Identifier: MIT */
/* Rule providers of files and of the configuration itself. Called while the configuration is read, by the API's
 * questions, and by updates. A set that cannot be read never refuses the configuration (spec/config.md 1 "provider/geo
 * failures"): it is named in the log and matches nothing. */
#include "worker/provider/ruleset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/worker.h"

static struct msg_compile
question(const struct rule_provider *p)
{
	struct msg_compile q = { .kind = p->set->kind, .format = p->format };

	(void)str_copy(q.name, sizeof q.name, p->set->name);
	(void)str_copy(q.path, sizeof q.path, p->path);
	return q;
}

/* ---- loading */

static void
on_first(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct rule_provider *p = arg;

	(void)w;
	p->answer = *m;
	p->fd = fd;
}

static int
take(struct rule_provider *p, const struct msg_image *m, int fd, const char **why)
{
	int rc;

	*why = m->text;
	if (m->err != 0)
		return m->err < E_MAX_ ? (int)m->err : E_SYS;
	rc = ruleset_load(p->g, p->set, m, fd);
	close(fd);
	if (rc != 0) {
		*why = "its image is damaged";
		return -rc;
	}
	if (p->vehicle == VEHICLE_INLINE)
		p->set->updated_ns = loop_wall_ns();
	return 0;
}

static void
read_provider(struct gen *g, struct rule_provider *p, const struct cfg_node *node)
{
	const char *type = "", *format = "", *path = "", *url = "";
	struct cfg_err ignored;

	(void)cfgw_str(node, "type", &type, &ignored);
	(void)cfgw_str(node, "format", &format, &ignored);
	(void)cfgw_str(node, "path", &path, &ignored);
	(void)cfgw_str(node, "url", &url, &ignored);
	*p = (struct rule_provider){ .g = g, .node = node, .set = ruleset_get(g, cfg_key(node)), .fd = -1, .path = path };
	p->vehicle = strcmp(type, "http") == 0 ? VEHICLE_HTTP : strcmp(type, "file") == 0 ? VEHICLE_FILE : VEHICLE_INLINE;
	p->format = strcmp(format, "text") == 0 ? FORMAT_TEXT : strcmp(format, "mrs") == 0 ? FORMAT_MRS : FORMAT_YAML;
	if (p->vehicle == VEHICLE_INLINE) {
		p->format = FORMAT_INLINE;
		p->path = "";
	} else if (p->vehicle == VEHICLE_HTTP && path[0] == '\0') {
		p->path = provider_stored_path(g, "rules", url);
	}
}

int
rule_providers_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *map = cfg_get(root, "rule-providers");
	struct rule_provider *list;

	if (cfg_count(map) > RULE_PROVIDERS_MAX)
		return cfg_fail(err, map, "rule-providers", "more than %d rule-providers", RULE_PROVIDERS_MAX);
	list = arena_array(&g->arena, cfg_count(map) + 1, sizeof *list);
	g->rule_providers = list;
	cfg_each(c, map) {
		struct rule_provider *p = &list[g->n_rule_providers++];
		struct msg_compile q;

		read_provider(g, p, c);
		q = question(p);
		if (g->w == NULL || g->w->test)		/* -t only checks what the file says */
			continue;
		if (strlen(p->path) >= sizeof q.path || priv_compile(g->w, &q, on_first, p) != 0)
			p->answer = (struct msg_image){ .err = E_LIMIT, .text = "it cannot be asked for" };
	}
	if (g->w == NULL || g->w->test)
		return 0;
	priv_compile_wait(g->w);
	for (int i = 0; i < g->n_rule_providers; i++) {
		const char *why;

		if (take(&list[i], &list[i].answer, list[i].fd, &why) != 0 && g->w->lead)
			log_error("initial rule provider %s error: %s", list[i].set->name, why);
	}
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

/* ---- renewing */

struct renewal {
	struct rule_provider *p;
	rule_provider_cb *done;
	void *arg;
};

static void
on_renewed(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct renewal *r = arg;
	const char *why;
	int err = take(r->p, m, fd, &why);

	if (err == 0)
		worker_touch(w);
	r->done(r->arg, err, why);
	free(r);
}

int
rule_provider_renew(struct rule_provider *p, rule_provider_cb *done, void *arg)
{
	struct msg_compile q = question(p);
	struct renewal *r = calloc(1, sizeof *r);
	int rc;

	if (r == NULL)
		return -E_NOMEM;
	*r = (struct renewal){ p, done, arg };
	rc = priv_compile(p->g->w, &q, on_renewed, r);
	if (rc != 0)
		free(r);
	return rc;
}

/* ---- showing: spec/api.md 3.3 */

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
	value_key(out, "behavior");
	value_str(out, behaviors[p->set->kind]);
	value_key(out, "format");
	value_str(out, formats[p->format]);
	value_key(out, "name");
	value_str(out, p->set->name);
	value_key(out, "ruleCount");
	value_uint(out, p->set->count);
	value_key(out, "type");
	value_str(out, "Rule");
	value_key(out, "updatedAt");
	value_time(out, p->set->updated_ns);
	value_key(out, "vehicleType");
	value_str(out, vehicles[p->vehicle]);
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
