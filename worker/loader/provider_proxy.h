/* SPDX-License-Identifier: MIT */
/* A proxy-provider's bytes, whatever they are, to one neutral tree. */
#ifndef SLUICE_LOADER_PROVIDER_PROXY_H
#define SLUICE_LOADER_PROVIDER_PROXY_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum { PROXIES_MAX = 20000 }; /* nodes of one provider; more are left out, with a warning */

/* Text is YAML with a `proxies` list, or share links, one a line, as they are or in base64. 0 and a tree image in malloc'ed
 * memory (the caller frees): a map of `proxies`, a list of maps with distinct names, and `warnings`, a list of texts.
 * Otherwise -E_* with err in the reference's words (spec/config.md 9 "Content detection"). */
int proxies_load(const void *text, size_t n, void **image, size_t *size, uint32_t *count, struct cfg_err *err);

#endif
