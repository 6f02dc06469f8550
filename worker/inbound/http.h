/* SPDX-License-Identifier: MIT */
/* The HTTP side of an inbound, shared by the types http and mixed. */
#ifndef SLUICE_WORKER_INBOUND_HTTP_H
#define SLUICE_WORKER_INBOUND_HTTP_H

#include "worker/inbound/inbound.h"

/* Takes over a conn in CONN_HANDSHAKE whose first n bytes (may be 0) were read. */
void http_begin(struct conn *c, const uint8_t *p, size_t n);

extern const struct inbound_type inbound_http, inbound_mixed;

#endif
