/* SPDX-License-Identifier: MIT */
/* One connection of an API client: bytes in, framed into calls one at a time, and a queue of bytes out. front.c decides what a
 * call is answered, stream.c speaks on a client that has become a stream. Loop only.
 *
 *   TLS -> HEAD -> BODY -> BUSY -> SEND -> HEAD ...   BUSY -> STREAM   any -> LINGER -> DEAD
 *
 * Nothing is read while a call is busy or its answer is being sent: further requests wait in the kernel. A dead client is freed
 * at the end of the loop's turn, so that no callback's client vanishes under it. */
#ifndef SLUICE_CONTROLLER_CLIENT_H
#define SLUICE_CONTROLLER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/ev.h"
#include "common/list.h"
#include "controller/router.h"

enum {
	CLIENT_IN_MAX = 64 << 10,	/* bytes read and not yet framed; reading pauses at the cap */
	CLIENT_HEAD_S = 10, CLIENT_BODY_S = 30, CLIENT_IDLE_S = 120, CLIENT_SEND_S = 30, CLIENT_LINGER_S = 2,
	CLIENT_DISCARD_MAX = 64 << 10	/* body of a refused request that is read so that the connection can be kept */
};
enum client_state { CL_TLS, CL_HEAD, CL_BODY, CL_BUSY, CL_SEND, CL_STREAM, CL_LINGER, CL_DEAD };

struct blob {				/* bytes to send, shared by any number of clients */
	unsigned refs;
	size_t len;
	char *data;
};
struct blob *blob_take(char *data, size_t len);	/* takes malloc'ed data, also when it fails (NULL) */
struct blob *blob_copy(const void *p, size_t len);
struct blob *blob_hold(struct blob *b);
void blob_put(struct blob *b);

struct call;
struct front;
struct sub;
struct tls;
struct tls_server;
struct out;

struct client {
	struct list link;
	struct front *front;
	struct ev_loop *loop;
	int fd;
	struct tls *tls;
	struct router_peer peer;
	struct ip ip;
	enum client_state state;
	ev_io rd, wr;
	ev_timer timer;
	char *in;
	size_t in_len, in_cap, scan;
	struct out *head, **tail;
	size_t queued;			/* bytes, and */
	unsigned nqueued;		/* pieces that wait to be sent; the owner of the state bounds them */
	bool progressed;		/* something was sent since the timer looked */
	bool close_after;
	struct call *call;		/* BODY, BUSY */
	struct sub *sub;		/* stream.c's */
};

/* Takes fd (also on failure). peer is who it is. */
struct client *client_new(struct front *front, struct ev_loop *loop, int fd, struct tls_server *tls, const struct ip *ip, bool local);
/* Ends it now: closes, tells its call and stream, puts it on the front's list of the dead. Harmless when repeated. */
void client_close(struct client *c);
void client_free(struct client *c);
/* Queues; c may be CL_DEAD afterwards. NULL (out of memory) closes the client. The blob's reference is taken. */
void client_send(struct client *c, struct blob *b);
void client_flush(struct client *c);
void client_answered(struct client *c, bool close);	/* BUSY -> SEND: the answer is queued */
void client_stream(struct client *c);			/* BUSY -> STREAM */
void client_linger(struct client *c);			/* send what is queued, then end in an orderly way */
void client_timeout(struct client *c, double seconds);

#endif
