/* SPDX-License-Identifier: MIT */
/* Table-driven checks of configuration sections: the type of every key, unknown keys, keys that do not work yet.
 *
 *   static const struct check keys[] = { { "enable", CHECK_BOOL, false }, { "users", CHECK_STRS, true }, { NULL } };
 *   rc = check_section(cfg_get(root, "ntp"), "ntp", keys, err);
 */
#ifndef SLUICE_WORKER_MATCH_CHECK_H
#define SLUICE_WORKER_MATCH_CHECK_H

#include <stdbool.h>

#include "common/config_tree.h"

enum check_type { CHECK_BOOL, CHECK_INT, CHECK_UINT, CHECK_STR, CHECK_STRS, CHECK_UINTS, CHECK_PREFIXES, CHECK_PREFIX_OR_LIST,
    CHECK_MAP, CHECK_ANY };
enum { CHECK_KEYS_MAX = 96 };		/* of one table */

struct check {
	const char *key;
	enum check_type type;
	bool later;		/* does not work yet: warned about when it says more than false, 0, "" or [] */
};

/* The section may be absent or null. 0, or -E_INVAL with err filled in the reference's words. Unknown keys are warned about. */
int check_section(const struct cfg_node *n, const char *where, const struct check *keys, struct cfg_err *err);
/* One value. */
int check_value(const struct cfg_node *n, const char *key, enum check_type type, struct cfg_err *err);
/* Every item of a list must be "ip/bits". */
int check_prefixes(const struct cfg_node *list, const char *key, struct cfg_err *err);
/* A boolean that check_section() has passed; false when absent. */
bool check_on(const struct cfg_node *section, const char *key);

#endif
