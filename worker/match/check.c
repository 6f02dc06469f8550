/* SPDX-License-Identifier: MIT */
/* Checks of configuration sections by table. Called by the general section and by sections whose features come later; owns
 * nothing. */
#include "worker/match/check.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "worker/match/cidr.h"

int
check_prefixes(const struct cfg_node *list, const char *key, struct cfg_err *err)
{
	cfg_each(c, list) {
		char why[CIDR_WHY_MAX];
		struct prefix p;

		if (cfg_text(c) == NULL)
			return cfg_mismatch(err, c, key, "netip.Prefix");
		if (cidr_parse(&p, cfg_text(c), why) != 0)
			return cfg_fail(err, c, key, "%s", why);
	}
	return 0;
}

static int
check_uints(const struct cfg_node *n, const char *key, struct cfg_err *err)
{
	int64_t v = 0;

	if (n->type != CFG_LIST)
		return cfg_mismatch(err, n, key, "[]uint32");
	cfg_each(c, n) {
		int rc = cfg_int(c, key, 0, UINT32_MAX, &v, err);

		if (rc != 0)
			return rc;
	}
	return 0;
}

int
check_value(const struct cfg_node *n, const char *key, enum check_type type, struct cfg_err *err)
{
	const struct cfg_node *node;
	const char *s;
	int64_t i;
	bool b;

	if (cfg_is_null(n))
		return 0;
	switch (type) {
	case CHECK_BOOL:
		return cfg_bool(n, key, &b, err);
	case CHECK_INT:
		return cfg_int(n, key, INT64_MIN, INT64_MAX, &i, err);
	case CHECK_UINT:
		return cfg_int(n, key, 0, UINT32_MAX, &i, err);
	case CHECK_STR:
		return cfg_str(n, key, &s, err);
	case CHECK_STRS:
		return cfg_list(n, key, &node, err);
	case CHECK_UINTS:
		return check_uints(n, key, err);
	case CHECK_PREFIX_OR_LIST:
		if (n->type == CFG_SCALAR) {
			char why[CIDR_WHY_MAX];
			struct prefix p;

			return cidr_parse(&p, cfg_text(n), why) == 0 ? 0 : cfg_fail(err, n, key, "%s", why);
		}
		/* fall through */
	case CHECK_PREFIXES:
		if (n->type != CFG_LIST)
			return cfg_mismatch(err, n, key, "[]netip.Prefix");
		return check_prefixes(n, key, err);
	case CHECK_MAP:
		return cfg_map(n, key, &node, err);
	case CHECK_ANY:
		break;
	}
	return 0;
}

/* Whether a value says something else than the common default. */
static bool
is_set(const struct cfg_node *n, enum check_type type)
{
	int64_t i = 0;
	bool b = false;

	if (cfg_is_null(n))
		return false;
	if (n->type != CFG_SCALAR)
		return cfg_count(n) > 0;
	if (type == CHECK_BOOL)
		return cfg_bool(n, "", &b, NULL) == 0 && b;
	if (type == CHECK_INT || type == CHECK_UINT)
		return cfg_int(n, "", INT64_MIN, INT64_MAX, &i, NULL) == 0 && i != 0;
	return cfg_text(n)[0] != '\0';
}

int
check_section(const struct cfg_node *n, const char *where, const struct check *keys, struct cfg_err *err)
{
	const char *known[CHECK_KEYS_MAX + 1] = { NULL };
	char path[128];

	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_MAP)
		return cfg_mismatch(err, n, where, "map[string]interface {}");
	for (int i = 0; i < CHECK_KEYS_MAX && keys[i].key != NULL; i++) {
		const struct cfg_node *v = cfg_get(n, keys[i].key);
		int rc;

		known[i] = keys[i].key;
		if (v == NULL)
			continue;
		(void)snprintf(path, sizeof path, "%s.%s", where, keys[i].key);
		rc = check_value(v, path, keys[i].type, err);
		if (rc != 0)
			return rc;
		if (keys[i].later && is_set(v, keys[i].type))
			log_warn("line %u: %s does not work yet and is ignored", v->line, path);
	}
	cfg_warn_unknown(n, where, known, NULL);
	return 0;
}

bool
check_on(const struct cfg_node *section, const char *key)
{
	bool on = false;

	return cfg_bool(cfg_get(section, key), key, &on, NULL) == 0 && on;
}
