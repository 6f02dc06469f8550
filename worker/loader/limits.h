/* SPDX-License-Identifier: MIT */
/* What one loader job may cost. The caps of the finished tree (depth, nodes, bytes) are in common/config_tree.h; memory and
 * time as a whole are capped by the sandbox. A job over a cap ends with -E_LIMIT and a text that names it. */
#ifndef SLUICE_LOADER_LIMITS_H
#define SLUICE_LOADER_LIMITS_H

enum {
	INPUT_BYTES_MAX = 64 << 20,	/* of the input file */
	YAML_KEY_MAX = 4096,		/* bytes; YAML 1.2 section 7.4.2 ends an implicit key at 1024 characters */
	YAML_MERGE_DEPTH_MAX = 64,	/* a << of a map with a << of a map ... */
	YAML_STEPS_MAX = 16 << 20	/* nodes looked at while expanding aliases and merges, kept or not */
};

#endif
