/* SPDX-License-Identifier: MIT */
/* The sniffer section. */
#ifndef SLUICE_WORKER_SNIFF_CONFIG_H
#define SLUICE_WORKER_SNIFF_CONFIG_H

#include "common/config_tree.h"

int sniffer_check(const struct cfg_node *root, struct cfg_err *err);

#endif
