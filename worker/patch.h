/* SPDX-License-Identifier: MIT */
/* PATCH /configs, and the two groups of the general section that outlive a worker. */
#ifndef SLUICE_WORKER_PATCH_H
#define SLUICE_WORKER_PATCH_H

#include <stdbool.h>

#include "common/wire.h"
#include "worker/gen.h"

struct patch_effect {
	bool ports;		/* ports, allow-lan or bind-address changed: listeners must follow */
	bool log_level;
	bool anything;		/* something changed */
};

/* The body as value map (common/snapshot.h). 204, or 400 with *text and nothing changed. */
int patch_apply(struct gen *g, struct wire *value_map, struct patch_effect *effect, const char **text);

/* STATE_PORTS: what a reload without force keeps. STATE_PATCH: what PATCH can change beside it. The loaders believe nothing;
 * on -E_PROTO nothing changed. */
void patch_save_ports(struct gen *g, struct wire *w);
int patch_load_ports(struct gen *g, struct wire *w);
void patch_save_live(struct gen *g, struct wire *w);
int patch_load_live(struct gen *g, struct wire *w);

#endif
