/* SPDX-License-Identifier: MIT */
/* YAML text to the neutral tree, see common/config_tree.h. */
#ifndef SLUICE_LOADER_YAML_H
#define SLUICE_LOADER_YAML_H

#include <stddef.h>

#include "common/err.h"

/* Reads the first document of text. 0 and the tree's image in malloc'ed memory (the caller frees), or with err filled: -E_INVAL;
 * -E_LIMIT; -E_NOMEM; -E_NOTFOUND when there is nothing but blanks and comments (the caller knows the name of the file). */
int yaml_load(const void *text, size_t n, void **image, size_t *size, struct cfg_err *err);

#endif
