/* SPDX-License-Identifier: MIT */
/* The DNS server of dns.listen, UDP and TCP: the lead's, which calls open while CONFIGURING, start at SERVE, pause at DRAIN; and
 * questions that came on other ways (external-doh-server). */
#ifndef SLUICE_WORKER_DNS_SERVE_H
#define SLUICE_WORKER_DNS_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/imsg_types.h"
#include "worker/gen.h"

enum {
	DNS_SERVE_QUESTIONS_MAX = 4096,	/* in flight: beyond it one over UDP is dropped and counted, one over TCP gets SERVFAIL */
	DNS_SERVE_CLIENTS_MAX = 256,	/* TCP: beyond it connections wait in the listener's queue */
	/* of one address (IPv6: /64), or of few that a hash takes for one: others find room. Beyond it as above, and a
	 * connection is closed */
	DNS_SERVE_SOURCE_QUESTIONS = DNS_SERVE_QUESTIONS_MAX / 2, DNS_SERVE_SOURCE_CLIENTS = DNS_SERVE_CLIENTS_MAX / 2,
	DNS_SERVE_PER_CLIENT = 64,	/* in flight of one TCP client: beyond it nothing is read from it */
	DNS_SERVE_IDLE_MS = 10000,	/* of a TCP client: without a whole question read or a byte of an answer taken */
	DNS_SERVE_LEAVE_MS = 500,	/* the same after a pause: a question may be on its way */
	DNS_SERVE_STAY_MS = 5000,	/* so long after a pause a client that asks on is closed behind an answer */
	DNS_SERVE_OUT_MAX = 128 << 10	/* answers that a TCP client has not taken: beyond it the client is closed */
};

struct dns_serve_stat {
	unsigned questions, clients;	/* now */
	unsigned long long answered, dropped;	/* dropped: no room, or an answer that the socket did not take */
};

/* Asks for the listeners when dns: is enabled and dns.listen has a port; after resolver_start(). Other workers than the lead get
 * none, but are known as possible stand-ins. 0 or -E_* with why filled. */
int dns_serve_open(struct gen *g, char *why, size_t cap);
/* Stand-in: a socket of the lead's, served at once; takes fd on 0. -E_NOTFOUND: not of dns.listen. The opposite: stops reading,
 * and leaves when everybody is answered. */
int dns_serve_adopt(struct gen *g, const struct msg_listen *key, int fd);
void dns_serve_return(struct gen *g);
/* One question in wire form, of any worker: the lead answers. udp: cut to what the client takes in a datagram. cb is called once,
 * maybe from inside: err 0, or E_* with a SERVFAIL or with no message, which is lent. 0, -E_UNSUP (dns is off), -E_LIMIT (too
 * many, or too long). Cannot be taken back. */
typedef void dns_serve_cb(void *arg, int err, const uint8_t *msg, size_t n);
int dns_serve_ask(struct gen *g, const uint8_t *p, size_t n, bool udp, dns_serve_cb *cb, void *arg);
void dns_serve_start(struct gen *g);
/* Stops reading; questions in flight are still answered, and so are those that TCP clients send until they are idle. */
void dns_serve_pause(struct gen *g);
/* Questions in flight, answers not yet taken by TCP clients, after a pause all of these: a drain waits for 0. */
unsigned dns_serve_pending(const struct gen *g);
void dns_serve_count(const struct gen *g, struct dns_serve_stat *out);
/* Ends everything at once, after resolver_stop(), which drops the questions in flight. For tests and the end of a process. */
void dns_serve_close(struct gen *g);

#endif
