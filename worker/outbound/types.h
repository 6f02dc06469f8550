/* SPDX-License-Identifier: MIT */
/* The types of this folder, for registry.c and for parse.c, which makes the built-ins. */
#ifndef SLUICE_WORKER_OUTBOUND_TYPES_H
#define SLUICE_WORKER_OUTBOUND_TYPES_H

#include "worker/outbound/outbound.h"

extern const struct outbound_type outbound_direct, outbound_compatible;			/* direct.c */
extern const struct outbound_type outbound_reject, outbound_reject_drop, outbound_pass;	/* builtin.c */
extern const struct outbound_type outbound_socks5;
extern const struct outbound_type outbound_http;

#endif
