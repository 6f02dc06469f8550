/* SPDX-License-Identifier: MIT */
/* A UDP session as udp_session.c keeps it and udp_move.c hands it over; nobody else looks inside. */
#ifndef SLUICE_WORKER_CORE_UDP_IMPL_H
#define SLUICE_WORKER_CORE_UDP_IMPL_H

#include "worker/core/conn.h"

struct udp_client {		/* as the socket gave it, and nothing but it: compared and hashed as bytes */
	struct udp_port *port;
	uint16_t family, number;	/* number in network order */
	uint32_t scope;
	uint8_t addr[16];
};

struct udp_session {
	struct udp_session *next;	/* in its bucket */
	struct list lru, of_port;
	struct conn *c;
	struct udp_client client;
	uint64_t hash;
	struct ip local;		/* source of the answers; none = the socket's choice */
	struct ip fake;			/* the routed target as the client knows it, where that is a fake address */
	uint16_t fake_port;
	struct dgram *out;		/* NULL while routing */
	char *asked;			/* name of the routed target as the client wrote it; NULL = none; owned */
	struct dgram_queue early;
};

/* The port with that address, number and slot, NULL if this process has none. */
struct udp_port *udp_port_find(const struct ip *in_ip, uint16_t in_port, unsigned slot);
struct udp_session *udp_session_find(const struct udp_client *k);
/* Makes the session of c, a conn without one; NULL when out of memory. At the cap the longest idle one makes room. */
struct udp_session *udp_session_insert(const struct udp_client *k, struct conn *c);
/* Takes d, open: from now on packets go both ways. */
void udp_session_attach(struct udp_session *s, struct dgram *d);
socklen_t udp_client_sockaddr(const struct udp_client *k, union sockaddr_any *sa);

/* udp_move.c, for move.c. A session that is not routed yet moves as its packets (udp_freeze_early, no fds), one that is as its
 * packet side. 0 or a number of fds, or -E_*: nothing was given up. */
bool udp_routed(const struct conn *c);
int udp_freeze(struct conn *c, struct wire *w, int *fds);
int udp_freeze_early(struct conn *c, struct wire *w);
/* Takes fds in every case; 0 or -E_*, then c has no session. */
int udp_thaw(struct conn *c, struct wire *in, const int *fds, int nfds);
/* The session's conn, anew; NULL when there is none. */
struct conn *udp_thaw_early(struct worker *w, struct wire *in);

#endif
