/* SPDX-License-Identifier: MIT */
/* One end of an imsg channel on an event loop: bounded send queue, and dispatch by a table that says for each message who may send it,
 * in which state, and how large it is. A message that breaks the table ends that peer (on_gone) and never the receiver.
 *
 *   static const struct imsg_handler handlers[] = { { MSG_READY, "READY", BIT(CONFIGURING), 0, 0, 0, on_ready }, ... };
 *   peer_open(&p, loop, fd, "worker 0", handlers, countof(handlers), me, on_gone);
 *   p.state = BIT(CONFIGURING);
 */
#ifndef SLUICE_COMMON_PEER_H
#define SLUICE_COMMON_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ev.h"
#include "common/imsg.h"
#include "common/wire.h"

struct peer;

struct imsg_handler {
	uint16_t type;
	const char *name;
	uint32_t states;	/* bits of peer.state in which it is legal */
	uint16_t min, max;	/* bytes of the body */
	uint8_t nfds;		/* exactly this many, or at most this many with IMSG_FDS_UPTO */
	uint8_t flags;
	int (*fn)(struct peer *, struct wire *body, const int *fds);	/* takes the fds on 0; negative = the peer misbehaved */
};
enum { IMSG_FDS_UPTO = 1 };

enum {
	PEER_QUEUE_MAX = 1024,		/* messages waiting to be sent; at the cap the peer is ended: it does not read */
	PEER_BATCH = 32			/* messages handled in one turn of the loop */
};

struct peer_out;
struct peer {
	int fd;				/* -1 = closed */
	uint32_t state;			/* one bit; set by the owner */
	uint16_t version;		/* IMSG_VERSION, or what the owner knows the other end to speak */
	const char *name;		/* borrowed; for the log */
	const struct imsg_handler *table;
	unsigned ntable;
	void *arg;			/* the owner's */
	void (*on_gone)(struct peer *, const char *why);	/* called once, from the loop; the fd is closed by then */
	uint32_t cur_id;		/* of the message being handled: the id to answer with */
	int cur_nfds;
	struct ev_loop *loop;
	ev_io rd, wr;
	struct peer_out *head, **tail;
	unsigned queued;
	bool dispatching, dead;
	bool deaf;			/* cannot be sent to; what it sent before is still read */
	bool gone_due;			/* ended, on_gone still to be called */
	char why[112];			/* of the end */
};

/* Takes fd. Afterwards the owner may free p only inside on_gone, or after peer_close() when no handler of p is running. */
void peer_open(struct peer *p, struct ev_loop *loop, int fd, const char *name, const struct imsg_handler *table, unsigned n,
    void *arg, void (*on_gone)(struct peer *, const char *why));
/* Closes without on_gone; queued messages are tried once more. Safe inside a handler and twice. */
void peer_close(struct peer *p);
/* Ends a peer that misbehaved: logs why, closes; on_gone comes after the running handler, or in the next turn of the loop. */
void peer_fail(struct peer *p, const char *why);

/* Queue or send; fds are taken (closed once sent or dropped). 0, or -E_CLOSED / -E_LIMIT after the peer was
 * ended (on_gone follows from the loop, after what it had sent was handled); -E_LIMIT alone for a message over IMSG's caps. */
int peer_send(struct peer *p, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds);
/* The same with a wire body, which is freed. A body over IMSG_BODY_MAX is refused with -E_LIMIT. */
int peer_send_wire(struct peer *p, uint16_t type, uint32_t id, struct wire *body, const int *fds, int nfds);
/* Blocks for at most ms until a message of type with this id comes; others are handed to the table meanwhile. For children
 * that ask the supervisor while CONFIGURING. 0 with *m filled (fds owned by the caller), -E_TIMEOUT, -E_CLOSED, -E_PROTO. */
int peer_wait(struct peer *p, uint16_t type, uint32_t id, int ms, struct imsg *m);

#endif
