/* SPDX-License-Identifier: MIT */
/* `sluice convert-ruleset`: rule sets of one format become another. Called by main.c for JOB_CONVERT. */
#ifndef SLUICE_LOADER_CONVERT_H
#define SLUICE_LOADER_CONVERT_H

#include <stdint.h>

#include "common/wire.h"
#include "worker/loader/ruleset.h"

/* The set as bytes of the format `to` (FORMAT_YAML, _TEXT, _MRS) in a sealed memfd, the number of its entries in *count. Domains
 * come sorted from the right, addresses as the fewest prefixes, classical rules as they stand. 0 or -E_* with err->text. */
int ruleset_convert(const struct ruleset_job *job, uint32_t to, int *fd, uint32_t *count, struct cfg_err *err);

/* mrs_write.c: the packed file, written to out (an empty writer). Names are those of image_add_key(), turned round by
 * character, sorted by bytes, each once. 0 or -E_*. */
struct mrs_name { uint32_t at, n; };	/* in a pool of bytes */
int mrs_write_domains(struct wire *out, const uint8_t *pool, const struct mrs_name *name, size_t n, uint32_t count);
int mrs_write_ranges(struct wire *out, struct image_builder *b, uint32_t count);

#endif
