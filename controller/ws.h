/* SPDX-License-Identifier: MIT */
/* WebSocket, server side (RFC 6455), without I/O: the handshake's checks, framing by wslay, control frames answered. Used by
 * stream.c, one struct ws a client. No extension and no subprotocol is ever agreed to (spec/api.md 1.10). */
#ifndef SLUICE_CONTROLLER_WS_H
#define SLUICE_CONTROLLER_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "controller/http.h"

enum {
	WS_IN_MAX = 4096,		/* an inbound message; larger: closed with 1009. What comes is not used anyway */
	WS_ACCEPT_MAX = 32
};
enum { WS_GOING_AWAY = 1001, WS_POLICY = 1008 };

/* 0 and the value of Sec-WebSocket-Accept, or the status to refuse with and its text. */
int ws_handshake(const struct http_req *r, char accept[static WS_ACCEPT_MAX], const char **why);

struct ws;
typedef void ws_out_cb(void *arg, const void *p, size_t n);	/* bytes for the peer: lent */
struct ws *ws_new(ws_out_cb *out, void *arg);	/* NULL: out of memory */
void ws_free(struct ws *ws);
/* 0, or -E_EOF when nothing more is to be read or written: send what is queued and close. */
int ws_input(struct ws *ws, const void *p, size_t n);
void ws_ping(struct ws *ws);
void ws_close(struct ws *ws, uint16_t code);
/* Something came since the last call. */
bool ws_heard(struct ws *ws);
/* One unmasked text frame in malloc'ed memory, to be sent to any number of clients; NULL: out of memory. */
char *ws_text(const char *p, size_t n, size_t *len);

#endif
