/* SPDX-License-Identifier: MIT */
/* The channels on which the workers of a generation ask the one that leads for DNS: see link.c. question.c asks; ipc.c hands in
 * the channels and tells who leads. */
#ifndef SLUICE_WORKER_DNS_LINK_H
#define SLUICE_WORKER_DNS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "worker/dns/resolver.h"

enum {
	LINK_FLIGHT_MAX = 512,		/* questions at the lead at once of one worker; further ones wait here */
	LINK_FOLLOWERS_MAX = 32,	/* channels at the lead, with those of workers that drain; a further one is closed */
	LINK_GAP_MS = 250,		/* the lead went: so long another one is waited for, then the worker asks for itself */
	LINK_SILENT_MS = RESOLVER_TIMEOUT_MS + 1000	/* a question that the lead has not answered by then has failed */
};

struct resolver;
/* err -E_AGAIN: there is no lead, ask the servers. Else 0 or E_*, msg lent; keep: it may be cached. */
typedef void link_cb(void *arg, int err, const uint8_t *msg, size_t n, bool keep);
struct link_ask {		/* embedded by who asks; zero it first */
	struct list node;	/* while it waits for its turn */
	enum resolve_use use;
	uint16_t type;
	uint16_t slot;		/* 1 + its place among those at the lead; 0 = none */
	const char *name;	/* borrowed; NULL: */
	const uint8_t *raw;	/* borrowed: of RESOLVE_SERVE */
	size_t n_raw;
	link_cb *cb;
	void *arg;
};

/* Whether questions go to another worker. */
bool link_asks(const struct resolver *r);
/* cb is called once, never from inside, unless it is cancelled. */
void link_ask(struct resolver *r, struct link_ask *a, enum resolve_use use, uint16_t type, const char *name, link_cb *cb, void *arg);
/* The same for a client's question, which the lead's DNS server answers. udp: cut to what the client takes in a datagram. */
void link_serve(struct resolver *r, struct link_ask *a, const uint8_t *question, size_t n, bool udp, link_cb *cb, void *arg);
void link_cancel(struct resolver *r, struct link_ask *a);	/* idempotent */
void link_flushed(struct resolver *r);		/* the cache is empty now; answers that are older will not be kept */
void link_close(struct resolver *r);		/* all channels; nobody is called */

#endif
