/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_GENERATIONS_H
#define SLUICE_SUPERVISOR_GENERATIONS_H

#include "supervisor/sup.h"

/* The value list of GET /generations, at most one message. */
void generations_show(const struct sup *s, struct wire *w);
/* Names a configuration: a hash of its tree, 0 when it cannot be read. */
uint64_t generations_hash(int tree_fd);

#endif
