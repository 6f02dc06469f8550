/* SPDX-License-Identifier: MIT */
/* The door: listeners and clients of the API, what each request is answered by, and the answers' bytes. Loop only. */
#ifndef SLUICE_CONTROLLER_FRONT_H
#define SLUICE_CONTROLLER_FRONT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/imsg_types.h"
#include "controller/api.h"

enum {
	FRONT_CLIENTS_MAX = 4096,	/* at the cap the longest idle one goes, else the new one is closed */
	FRONT_LISTENERS_MAX = 8,	/* three addresses, old and new while a SIGHUP is applied */
	FRONT_DENIED_SLOTS = 256,	/* sources whose 401s are counted, replaced when they collide */
	FRONT_DENIED_FREE = 60,		/* 401s a source gets at once in FRONT_DENIED_S; each further one is held back for 1 s */
	FRONT_DENIED_S = 60
};

struct call;
struct client;
struct ctl;
struct front;
struct tls_server;
struct listener;

enum front_kind { FRONT_TCP, FRONT_TLS, FRONT_UNIX };

struct front *front_new(struct ctl *ctl, const struct api_route *routes);
void front_free(struct front *f);	/* closes everything */

/* Takes fd; key is what was asked for, to be given back when it is no longer wanted. 0, or -E_LIMIT. */
int front_listen(struct front *f, int fd, enum front_kind kind, const struct msg_listen *key);
bool front_listens(struct front *f, enum front_kind kind, const struct msg_listen *key);
/* Closes every listener that is not in keep[]; each one's key is told. */
void front_unlisten(struct front *f, const struct msg_listen *keep, const enum front_kind *kinds, int n,
    void (*gone)(struct ctl *ctl, const struct msg_listen *key));
void front_tls(struct front *f, struct tls_server *tls);	/* takes it; clients that are there keep theirs */
void front_serve(struct front *f);	/* accept from now on */
/* No more accepting, idle clients are closed; the rest ends with its answers. */
void front_drain(struct front *f);
bool front_busy(const struct front *f);	/* an answer is being made or sent */
/* Another process has the listeners: no more accepting; clients are answered once more, with the word that this connection
 * ends. */
void front_relieved(struct front *f);
void front_close_idle(struct front *f);	/* those of which no byte of a request has come */
bool front_has_clients(const struct front *f);

/* ---- for client.c */
void front_head(struct call *call, int status);		/* a head came; status: 0, or why it is refused */
void front_call(struct call *call);			/* its body is whole too */
void front_refuse(struct call *call, int status);	/* the body cannot be read: answer and end the connection */
void front_delayed(struct call *call);			/* the time of a held-back answer came */
void front_late(struct client *c);			/* a request did not come in time */
void front_abandon(struct call *call);			/* its client is gone */
void front_dead(struct client *c);			/* to be freed after this turn */

/* ---- for feed.c and stream.c: ends a call; call->client may be gone. Takes the call, and body (malloc'ed, may be NULL).
 * headers: complete lines; type "" for none. */
void front_answer(struct call *call, int status, const char *type, const char *headers, char *body, size_t len);
void front_answer_reply(struct call *call, int status);	/* the same, from call->reply */

#endif
