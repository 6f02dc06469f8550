/* SPDX-License-Identifier: MIT */
/* THE list of every type a configuration can name; registry.c has one line each. */
#ifndef SLUICE_WORKER_REGISTRY_H
#define SLUICE_WORKER_REGISTRY_H

#include "worker/group/group.h"
#include "worker/inbound/inbound.h"
#include "worker/outbound/outbound.h"
#include "worker/rule/rule.h"

extern const struct outbound_type *const outbound_types[];	/* ended by NULL */

#endif
