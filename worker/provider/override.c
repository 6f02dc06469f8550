/* SPDX-License-Identifier: MIT */
/* `override` of a proxy-provider: sets keys of every node, then its name: prefix, suffix, patterns, in this order
 * (spec/config.md 9), and then all of it by override-expr. A node is changed as a tree, before it is built, so that no
 * protocol knows of it. Called by provider.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/provider/provider.h"

enum { NAME_MAX_BYTES = 1024 }; /* of a node's name after renaming; longer ones leave the node out */

static const char *const set_keys[] = { "tfo", "mptcp", "udp", "udp-over-tcp", "up", "down", "dialer-proxy", "skip-cert-verify",
	"name-cert-verify", "interface-name", "routing-mark", "ip-version" };

static int
parse_renames(struct override *o, struct cfg_err *err)
{
	const struct cfg_node *list;
	int rc = cfg_list_of_maps(cfg_get(o->map, "proxy-name"), "proxy-name", &list, err);

	if (rc != 0)
		return rc;
	cfg_each(c, list) {
		struct rename *r = &o->rename[o->n_renames];
		const char *pattern = "";

		if (o->n_renames == RENAMES_MAX)
			return cfg_fail(err, c, "proxy-name", "override.proxy-name has more than %d patterns", RENAMES_MAX);
		r->target = "";
		if (cfgw_str(c, "pattern", &pattern, err) != 0 || cfgw_str(c, "target", &r->target, err) != 0 ||
		    filter_compile_one(pattern, "pattern", c, &r->pattern, err) != 0)
			return -E_INVAL;
		o->n_renames++;
	}
	return 0;
}

static int
parse_exprs(struct provider *p, struct cfg_err *err)
{
	struct override *o = &p->override;
	const struct cfg_node *list;

	if (cfg_list(cfg_get(o->map, "override-expr"), "override-expr", &list, err) != 0)
		return -E_INVAL;
	cfg_each(c, list) {
		if (o->n_exprs == EXPRS_MAX)
			return cfg_fail(err, c, "override-expr", "override.override-expr has more than %d items", EXPRS_MAX);
		if (c->type != CFG_SCALAR)
			return cfg_fail(err, c, "override-expr", "'override-expr' expected a list of texts");
		o->expr[o->n_exprs] = expr_parse(&p->gen->arena, cfg_text(c), err);
		if (o->expr[o->n_exprs] == NULL) {
			err->line = c->line;
			err->column = c->column;
			return -E_INVAL;
		}
		o->n_exprs++;
	}
	return 0;
}

int
override_parse(struct provider *p, struct cfg_err *err)
{
	struct override *o = &p->override;

	*o = (struct override){ .prefix = "", .suffix = "" };
	if (cfg_is_null(cfg_get(p->item, "override")))
		return 0;
	o->map = cfg_get(p->item, "override");
	if (cfgw_str(o->map, "additional-prefix", &o->prefix, err) != 0 ||
	    cfgw_str(o->map, "additional-suffix", &o->suffix, err) != 0)
		return -E_INVAL;
	if (parse_renames(o, err) != 0)
		return -E_INVAL;
	return parse_exprs(p, err);
}

void
override_free(struct override *o)
{
	for (int i = 0; i < o->n_renames; i++)
		filter_free(o->rename[i].pattern);
	for (int i = 0; i < o->n_exprs; i++)
		expr_free(o->expr[i]);
	o->n_renames = o->n_exprs = 0;
}

bool
override_any(const struct provider *p)
{
	return p->override.map != NULL || p->dialer[0] != '\0';
}

/* Keys of nodes are found without regard to case, and '_' is '-'. */
static bool
same_key(const char *a, const char *b)
{
	for (; *a != '\0' && *b != '\0'; a++, b++) {
		char x = *a == '_' ? '-' : *a >= 'A' && *a <= 'Z' ? (char)(*a + 32) : *a;

		if (x != *b)
			return false;
	}
	return *a == *b;
}

/* Whether this key of a node is said by the override (or by the provider's own dialer-proxy). */
static bool
replaced(const struct provider *p, const char *key)
{
	if (same_key(key, "name") || (p->dialer[0] != '\0' && same_key(key, "dialer-proxy")))
		return true;
	for (size_t i = 0; i < countof(set_keys); i++)
		if (same_key(key, set_keys[i]))
			return !cfg_is_null(cfg_get(p->override.map, set_keys[i]));
	return false;
}

static int64_t
copy(struct tree_builder *to, int64_t parent, const char *key, const struct cfg_node *n)
{
	const char *text = n->type == CFG_SCALAR ? cfg_text(n) : NULL;
	int64_t at =
	    tree_add(to, parent, (enum cfg_type)n->type, n->flags, key, text, text != NULL ? n->text_len : 0, n->line, n->column);

	cfg_each(c, n) {
		int64_t rc = at >= 0 ? copy(to, at, cfg_key(c), c) : at;

		if (rc < 0)
			return rc;
	}
	return at;
}

static int
make_name(const struct provider *p, const char *name, char out[static NAME_MAX_BYTES], struct cfg_err *err)
{
	const struct override *o = &p->override;
	char tmp[NAME_MAX_BYTES];

	if ((size_t)snprintf(out, NAME_MAX_BYTES, "%s%s%s", o->prefix, name, o->suffix) >= NAME_MAX_BYTES)
		return cfg_fail(err, NULL, "name", "the name is longer than %d bytes", NAME_MAX_BYTES - 1);
	for (int i = 0; i < o->n_renames; i++) {
		if (filter_replace(o->rename[i].pattern, out, o->rename[i].target, tmp, sizeof(tmp)) != 0)
			return cfg_fail(err, NULL, "name", "proxy name replace error: pattern %d of %.100s", i, p->set.name);
		(void)str_copy(out, NAME_MAX_BYTES, tmp);
	}
	return out[0] != '\0' ? 0 : cfg_fail(err, NULL, "name", "the name is empty after renaming");
}

static int
apply_fixed(
    const struct provider *p, const struct cfg_node *item, struct tree_builder *to, int64_t parent, struct cfg_err *err)
{
	char name[NAME_MAX_BYTES];
	int64_t at, rc = 0;

	if (make_name(p, cfg_text(cfg_get(item, "name")), name, err) != 0)
		return -E_INVAL;
	at = rc = tree_add(to, parent, CFG_MAP, 0, NULL, NULL, 0, item->line, item->column);
	if (rc >= 0)
		rc = tree_add(to, at, CFG_SCALAR, CFG_QUOTED, "name", name, strlen(name), item->line, item->column);
	cfg_each(c, item)
		if (rc >= 0 && !replaced(p, cfg_key(c)))
			rc = copy(to, at, cfg_key(c), c);
	for (size_t i = 0; i < countof(set_keys) && rc >= 0; i++) {
		const struct cfg_node *n = cfg_get(p->override.map, set_keys[i]);

		if (!cfg_is_null(n))
			rc = copy(to, at, set_keys[i], n);
		else if (p->dialer[0] != '\0' && strcmp(set_keys[i], "dialer-proxy") == 0)
			rc = tree_add(to, at, CFG_SCALAR, CFG_QUOTED, "dialer-proxy", p->dialer, strlen(p->dialer), item->line,
			    item->column);
	}
	return rc < 0 ? (int)rc : 0;
}

int
override_apply(
    const struct provider *p, const struct cfg_node *item, struct tree_builder *to, int64_t parent, struct cfg_err *err)
{
	struct tree_builder *between;
	struct tree t;
	size_t size = 0;
	void *image = NULL;
	int rc;

	if (p->override.n_exprs == 0)
		return apply_fixed(p, item, to, parent, err);
	between = tree_build();
	if (between == NULL)
		return -E_NOMEM;
	rc = apply_fixed(p, item, between, -1, err);
	if (rc != 0) {
		tree_abandon(between);
		return rc;
	}
	image = tree_finish(between, &size);
	rc = image != NULL ? tree_from_memory(&t, image, size, err) : -E_NOMEM;
	if (rc == 0)
		rc = expr_apply(p->override.expr, p->override.n_exprs, t.root, to, parent, err);
	free(image);
	return rc;
}
