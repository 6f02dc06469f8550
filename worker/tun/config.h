/* SPDX-License-Identifier: MIT */
/* The tun and tuic-server sections. */
#ifndef SLUICE_WORKER_TUN_CONFIG_H
#define SLUICE_WORKER_TUN_CONFIG_H

#include "common/config_tree.h"

int tun_check(const struct cfg_node *root, struct cfg_err *err);
int tuic_server_check(const struct cfg_node *root, struct cfg_err *err);

#endif
