/* SPDX-License-Identifier: MIT */
/* The types of this folder, for registry.c and for parse.c, which makes the built-ins. */
#ifndef SLUICE_WORKER_OUTBOUND_TYPES_H
#define SLUICE_WORKER_OUTBOUND_TYPES_H

#include "worker/outbound/outbound.h"

extern const struct outbound_type outbound_direct, outbound_compatible;			/* direct.c */
extern const struct outbound_type outbound_reject, outbound_reject_drop, outbound_pass;	/* builtin.c */
extern const struct outbound_type outbound_dns;
extern const struct outbound_type outbound_socks5;
extern const struct outbound_type outbound_http;

/* outbound_thaw()'s: as it says there */
struct dgram *dialer_packet_thaw(struct gen *g, struct wire *state, const int *fds, int nfds);
struct dgram *socks5_packet_thaw(struct gen *g, struct wire *state, const int *fds, int nfds);

#endif
