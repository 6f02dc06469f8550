/* SPDX-License-Identifier: MIT */
/* Name filters of groups and providers: regular expressions separated by backticks (spec/config.md 8). */
#ifndef SLUICE_WORKER_GROUP_FILTER_H
#define SLUICE_WORKER_GROUP_FILTER_H

#include <stdbool.h>

#include "common/config_tree.h"

enum { FILTER_PATTERNS_MAX = 64 };

struct filter;
/* "" gives *out = NULL. The error names the key; node is for its line. */
int filter_compile(const char *text, const char *key, const struct cfg_node *node, struct filter **out, struct cfg_err *err);
/* One expression, backticks and all; "" is one that matches everywhere. */
int filter_compile_one(const char *text, const char *key, const struct cfg_node *node, struct filter **out, struct cfg_err *err);
int filter_count(const struct filter *f); /* 0 for NULL */
bool filter_match(struct filter *f, int i, const char *name);
bool filter_match_any(struct filter *f, const char *name);
/* All matches of the first expression replaced; target in .NET's words ("$1"). -E_LIMIT: does not fit; -E_INVAL: matching or
 * target failed. */
int filter_replace(const struct filter *f, const char *name, const char *target, char *out, size_t cap);
void filter_free(struct filter *f);

#endif
