/* SPDX-License-Identifier: MIT */
/* The SOCKS side of an inbound, shared by the types socks and mixed. */
#ifndef SLUICE_WORKER_INBOUND_SOCKS_H
#define SLUICE_WORKER_INBOUND_SOCKS_H

#include "worker/inbound/inbound.h"

enum { FIRST_READ_MAX = 4096 };

/* Takes over a conn in CONN_HANDSHAKE whose first n bytes (at most FIRST_READ_MAX, may be 0) were read. */
void socks_begin(struct conn *c, const uint8_t *p, size_t n);
/* The conn is the control connection of an association from now on; also one that another process had. */
void socks_control(struct conn *c);
void socks_packet(struct inbound *inb, struct udp_port *port, const union sockaddr_any *client, const struct ip *local, const uint8_t *p, size_t n);
int socks_wrap(struct inbound *inb, const struct target *from, uint8_t *header);

extern const struct inbound_type inbound_socks;

#endif
