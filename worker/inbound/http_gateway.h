/* SPDX-License-Identifier: MIT */
/* A client of the HTTP proxy. The conn that listen.c made stays in CONN_HANDSHAKE, unlisted, as the carrier of the client's
 * stream; the session is its hs. CONNECT makes that conn the proxied one and ends the session. Every other request goes to a
 * conn of its own, whose `in` is a sub-stream that the session provides: what is read from it is the rewritten requests, what
 * is written into it are the answers; it serves all requests in a row to one host, port and user. One request is handled at a
 * time; bytes of the next ones wait in session.in.
 *
 *   HEAD -> EXCHANGE -> HEAD ...    -> TUNNEL (after 101)    -> LAST -> LINGER -> DEAD
 *      \-> (refused, kept) -> HEAD
 *
 * http.c decides what a head means, http_gateway.c and http_sub.c move bytes. */
#ifndef SLUICE_WORKER_INBOUND_HTTP_GATEWAY_H
#define SLUICE_WORKER_INBOUND_HTTP_GATEWAY_H

#include "worker/codec/http1.h"
#include "worker/inbound/inbound.h"

enum {
	HTTP_IN_MAX = HTTP1_HEAD_MAX + 4096,	/* bytes of a client kept; reading stops there */
	HTTP_AHEAD_MAX = 4096,			/* of them, read while an answer is awaited */
	HTTP_OUT_MAX = HTTP1_HEAD_MAX + 4096,	/* a rewritten head */
	HTTP_IDLE_MS = 180 * 1000,		/* between two requests */
	HTTP_LINGER_MS = 2000			/* between our last byte and the client's end */
};

struct bytes {			/* grows to its user's cap; data in [off, len); freed when empty */
	uint8_t *p;
	size_t off, len, cap;
	bool failed;		/* out of memory, or over HTTP_OUT_MAX */
};
static inline size_t
bytes_left(const struct bytes *b)
{
	return b->len - b->off;
}
void bytes_put(struct bytes *b, const void *p, size_t n);
void bytes_puts(struct bytes *b, const char *s);
void bytes_take(struct bytes *b, size_t n);		/* n were used */
void bytes_free(struct bytes *b);

enum session_state { S_HEAD, S_EXCHANGE, S_TUNNEL, S_LAST, S_LINGER, S_DEAD };
enum answer_state { A_HEAD, A_BODY, A_DONE };

struct sub {			/* the sub-stream; owned by its conn */
	struct stream s;
	struct session *session;	/* NULL: given up */
	char target[];			/* host:port, lower case */
};

struct session {
	struct conn *client;		/* the carrier; owns us; NULL in DEAD */
	struct loop *loop;
	struct loop_task task;
	enum session_state state;
	struct bytes in;		/* of the client, not used yet */
	struct bytes head;		/* rewritten request head, to be read by the relay */
	struct bytes answer;		/* incomplete head of an answer */
	struct bytes out;		/* heads and own answers for the client; before anything else */
	size_t seen, answer_seen;	/* http1_head_length() */
	struct sub *sub;		/* of the present conn to a server; NULL: none */
	struct conn *up;		/* valid while sub is not ST_CLOSED */
	struct http1_body req, resp;
	enum answer_state answered;
	uint8_t minor;			/* the client's version */
	bool begun;			/* bytes of a head are here */
	bool keep;			/* the client's connection outlives this exchange */
	bool up_keep;			/* the server's does */
	bool used;			/* the server's has served a request before */
	bool to_head, upgrade;		/* the request: is HEAD; asks for an upgrade */
	bool unchunk;			/* chunked answer for an HTTP/1.0 client */
	bool interim;			/* something of this answer has gone to the client */
	bool up_end;			/* the server ended, broke, or could not be reached; seen to by session_run() */
	bool up_reset, dial_failed;
	bool client_eof;
};

/* ---- http_gateway.c */
void session_end(struct session *se, enum stream_close_how how, enum close_reason why);	/* se must not be used after it */
void session_drop(struct session *se);			/* gives the conn to the server up */
void session_release(struct session *se);		/* takes the carrier away from it: CONNECT */
void session_later(struct session *se);			/* looks at everything again at the end of this turn */
void session_wants(struct session *se);			/* tells the client's stream and the sub-stream what is waited for */
int session_flush(struct session *se);			/* out to the client: 0, -E_AGAIN, -E_* */
ssize_t session_fill(struct session *se, size_t most);	/* more bytes of the client into in: > 0, 0 end, -E_* */
static inline uint64_t
session_in(const struct session *se, uint64_t ms)
{
	return se->loop->now_ms + ms;
}
int session_start(struct conn *c, const uint8_t *p, size_t n);

/* ---- http_sub.c */
/* A conn to the server through a new sub-stream, not dispatched; NULL at a limit. */
struct conn *session_upstream(struct session *se, const char *target);

/* ---- http.c */
enum { GONE = 1 };
/* The head of len bytes at the start of in. 0 = go on, GONE = the session ended. */
int http_request(struct session *se, size_t len);
/* A whole answer head. 0, or -E_PROTO: the server speaks no HTTP that we understand. */
int http_answer(struct session *se, const uint8_t *p, size_t n);
/* An answer of our own; keep: the connection may go on if the client wants it. */
void http_refuse(struct session *se, int status, bool keep);

#endif
