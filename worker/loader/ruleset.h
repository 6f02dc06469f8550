/* SPDX-License-Identifier: MIT */
/* The readers of rule data: each fills an image builder from one kind of source. Called by main.c for JOB_IMAGE; the
 * input is hostile. */
#ifndef SLUICE_LOADER_RULESET_H
#define SLUICE_LOADER_RULESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "worker/loader/image.h"

enum {
	RULESET_WARNINGS_MAX = 8,	/* entries of one set that are named when they are left out; the rest is counted */
	RULESET_LINE_MAX = 8192,	/* bytes of one entry; longer ones are left out */
	MRS_BYTES_MAX = 256 << 20,	/* of an unpacked .mrs */
	MMDB_STEPS_MAX = 32 << 20	/* tree nodes looked at */
};

struct ruleset_job {
	uint32_t kind, format;		/* enum image_kind, enum image_format */
	const char *name; /* of the provider (FORMAT_INLINE, messages); the list "cn@attr", country code, number of an ASN */
	bool is_file; /* name is that of the file itself, for messages */
	const char *p;			/* the input, not terminated; a configuration tree for FORMAT_INLINE, 8-aligned then */
	size_t n;
};

/* The image in *fd, the number of its entries in *count. 0, or -E_* with err->text: -E_INVAL, -E_PROTO: not that format,
 * no such list. */
int ruleset_compile(const struct ruleset_job *job, int *fd, uint32_t *count, struct cfg_err *err);

int ruleset_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err);	/* the same into a builder */
/* Each entry of a list in text or YAML, or of the configuration, as it is written; *bad: how many were not valid. */
typedef const char *ruleset_entry_cb(void *arg, const char *s, size_t n);	/* NULL, or what is wrong with it */
int ruleset_each(const struct ruleset_job *job, ruleset_entry_cb *entry, void *arg, unsigned *bad, struct cfg_err *err);
/* Each name of an .mrs of domains as it is kept there: see image_add_key(). False from the callback is ignored. */
typedef bool mrs_key_cb(void *arg, const char *key, size_t n);
int mrs_each(const struct ruleset_job *job, mrs_key_cb *cb, void *arg, uint32_t *count, struct cfg_err *err);

/* One file each. 0 or -E_* with err->text. */
int mrs_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err);	/* mrs.c: spec/config.md 13.1 */
int geodat_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err);	/* geodat.c: 13.2 */
int mmdb_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err);	/* mmdb.c: 13.3 */

/* yaml_item.c: the text of one line "- value" of a block list as YAML reads it, into out; its length, or -1: no such line. */
int yaml_item(const char *line, size_t n, char out[static RULESET_LINE_MAX]);
/* Whether a line is "KEY:" of a list that follows in block style. */
int yaml_head(const char *line, size_t n, const char *key);

#endif
