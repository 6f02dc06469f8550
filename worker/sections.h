/* SPDX-License-Identifier: MIT */
/* Sections whose features come later: checked as the reference checks them, so that a configuration that is refused there is
 * refused here. Steps of apply.c, in its order. */
#ifndef SLUICE_WORKER_SECTIONS_H
#define SLUICE_WORKER_SECTIONS_H

#include "worker/gen.h"

int sections_proxy_providers(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
int sections_rule_providers(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* tun, tuic-server, sniffer */
int sections_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);

#endif
