/* SPDX-License-Identifier: MIT */
/* /traffic, /memory, /logs and /connections: endless answers, chunked or by WebSocket, served by the loop. A frame is
 * serialised once and shared by all clients that get it. spec/api.md 2.2-2.4, 2.12, 6.2 #12-16, 6.3. Loop only. */
#ifndef SLUICE_CONTROLLER_STREAM_H
#define SLUICE_CONTROLLER_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "controller/api.h"

enum {
	STREAM_GROUPS_MAX = 64,		/* different paces at once; a further one is answered 503 */
	STREAM_QUEUE_MAX = 1224,	/* pieces that wait for one client: log events beyond are dropped, others end it */
	STREAM_BYTES_MAX = 16 << 20	/* bytes likewise; a single larger frame still goes out alone */
};

struct call;
struct client;
struct ctl;
struct streams;

struct streams *streams_new(struct ctl *ctl);
void streams_free(struct streams *s);	/* after every client was closed */
/* Answers call by a stream, or refuses a bad handshake; takes it. */
void stream_start(struct streams *s, struct call *call);
/* A plain GET of this route is a short call, only its upgrade is a stream. */
bool stream_is_once(const struct api_route *route);
void stream_log(struct streams *s, int level, const char *text, size_t n);
/* Ends them all: WebSockets with this close code. */
void streams_end(struct streams *s, unsigned code);

/* ---- for client.c */
void stream_input(struct client *c, const void *p, size_t n);
void stream_idle(struct client *c);	/* every CLIENT_SEND_S */
void stream_gone(struct client *c);

#endif
