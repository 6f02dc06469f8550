/* SPDX-License-Identifier: MIT */
/* The few values of a configuration that the supervisor itself needs: from the top-level map `sluice:`, and external-ui. */
#ifndef SLUICE_LOADER_SETTINGS_H
#define SLUICE_LOADER_SETTINGS_H

#include "common/config_tree.h"
#include "common/imsg_types.h"

/* Defaults where a key is absent. The map's other keys are the worker's and the controller's. 0, or -E_INVAL with err filled. */
int settings_read(const struct cfg_node *root, struct msg_job_done *out, struct cfg_err *err);

#endif
