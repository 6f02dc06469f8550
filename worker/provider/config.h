/* SPDX-License-Identifier: MIT */
/* The proxy-providers and rule-providers sections. */
#ifndef SLUICE_WORKER_PROVIDER_CONFIG_H
#define SLUICE_WORKER_PROVIDER_CONFIG_H

#include "worker/gen.h"

enum vehicle { VEHICLE_HTTP, VEHICLE_FILE, VEHICLE_INLINE };	/* of both kinds */

int provider_check_proxies(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
int provider_check_rules(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* FOLDER/MD5(url), as the reference names what it downloads; in the generation's arena. */
const char *provider_stored_path(struct gen *g, const char *folder, const char *url);

#endif
