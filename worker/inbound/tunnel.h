/* SPDX-License-Identifier: MIT */
/* Inbound tunnel: everything that comes goes to one target. */
#ifndef SLUICE_WORKER_INBOUND_TUNNEL_H
#define SLUICE_WORKER_INBOUND_TUNNEL_H

#include "worker/inbound/inbound.h"

extern const struct inbound_type inbound_tunnel;
/* Sets the target of an inbound of this type, "host:port"; the text is copied to the generation's arena. 0 or -E_INVAL. */
int tunnel_set_target(struct inbound *inb, const char *target);

#endif
