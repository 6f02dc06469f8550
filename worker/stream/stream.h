/* SPDX-License-Identifier: MIT */
/* One byte-stream layer; layers stack. Pull model: the upper side reads when it can use bytes, so back-pressure needs no code.
 *
 * Contract. A stream is born DIALING (state 0) or open (ST_OPEN set in state). cb(s, ST_OPEN) tells that it opened, once, never
 * from inside the call that made it; cb(s, ST_FAIL) that it failed: err and text say why; the owner then calls stream_close().
 * Level-triggered: while want(ST_READ) is set and readv would not answer -E_AGAIN, cb(s, ST_READ) runs every turn; likewise
 * ST_WRITE. A layer that holds bytes above its lower one (TLS, AEAD, mux) schedules itself by stream_ready(). End of file is
 * readv == 0, a reset readv == -E_RESET: no separate event. Callbacks never free what called them: stream_close() clears cb at
 * once and destroys at the end of the turn. Closing before ST_OPEN cancels the dial. An upper layer owns its lower one and is
 * its cb. */
#ifndef SLUICE_WORKER_STREAM_STREAM_H
#define SLUICE_WORKER_STREAM_STREAM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/wire.h"
#include "worker/loop/loop.h"

enum { ST_OPEN = 1, ST_READ = 2, ST_WRITE = 4, ST_EOF = 8, ST_FAIL = 16, ST_CLOSED = 32 };
enum stream_close_how { CLOSE_FLUSH, CLOSE_RESET };

struct stream;
struct dial;
struct cfg_node;
struct arena;
typedef void stream_cb(struct stream *s, int events, void *arg);

struct stream_ops {
	const char *name;
	ssize_t (*readv)(struct stream *, const struct iovec *, int);	/* > 0 bytes, 0 end of file, -E_AGAIN, -E_* */
	/* may be short; never queues above its own record; -E_AGAIN, -E_* */
	ssize_t (*writev)(struct stream *, const struct iovec *, int);
	int (*flush)(struct stream *);		/* 0 when nothing sealed is unsent, else -E_AGAIN; NULL = always 0 */
	int (*shut_wr)(struct stream *);	/* half close; -E_AGAIN to be called again, -E_UNSUP if the protocol has none */
	void (*want)(struct stream *, int events);	/* interest, ST_READ | ST_WRITE; idempotent, cheap */
	/* >= 0 if bytes of this direction (ST_READ or ST_WRITE) may bypass this layer now and nothing is buffered here; asked
	 * every turn; NULL = never */
	int (*raw_fd)(const struct stream *, int dir);
	void (*bypassed)(struct stream *, int dir, size_t n);	/* told what was spliced past; may be NULL */
	/* hand-over: writes state, gives up its fds (number returned) or -E_UNSUP; NULL = drain */
	int (*freeze)(struct stream *, struct wire *, int *fds);
	/* from the reaper only: closes and frees this layer; the lower one was closed by stream_close() */
	void (*destroy)(struct stream *);
};

enum { STREAM_TEXT_MAX = 96 };
struct stream {				/* first member of every layer's struct */
	const struct stream_ops *ops;
	struct stream *lower;		/* owned; NULL for tcp and for sub-streams, whose session owns the carrier */
	struct loop *loop;
	stream_cb *cb;			/* cleared by stream_close() */
	void *arg;
	int err;			/* E_*, positive, once ST_FAIL or a read/write error was told */
	unsigned state;			/* ST_OPEN | ST_FAIL | ST_EOF | ST_CLOSED */
	unsigned wanted;		/* what the upper side asked by want() */
	unsigned ready;			/* stream_ready()'s, until the end of the turn */
	enum stream_close_how how;
	char *text;			/* why it failed, STREAM_TEXT_MAX bytes, allocated on failure only; freed by the core */
	struct loop_task task;		/* end-of-turn work: stream_ready(), later the reaper */
};

/* ---- for users */
static inline ssize_t
stream_readv(struct stream *s, const struct iovec *v, int n)
{
	return s->ops->readv(s, v, n);
}

static inline ssize_t
stream_writev(struct stream *s, const struct iovec *v, int n)
{
	return s->ops->writev(s, v, n);
}

static inline void
stream_want(struct stream *s, int events)
{
	s->ops->want(s, events);
}

ssize_t stream_read(struct stream *s, void *p, size_t n);
ssize_t stream_write(struct stream *s, const void *p, size_t n);
int stream_flush(struct stream *s);
int stream_shut_wr(struct stream *s);
int stream_raw_fd(const struct stream *s, int dir);
void stream_set_cb(struct stream *s, stream_cb *cb, void *arg);
/* Takes s. FLUSH: sealed bytes still go out (bounded: 5 s, one record), then an orderly close; RESET: an abortive close
 * (SO_LINGER 0), so an upstream reset reaches the client as one. No callback after return; destroyed at the end of the turn.
 * NULL is fine. */
void stream_close(struct stream *s, enum stream_close_how how);
const char *stream_why(const struct stream *s);		/* its text, or err_text(err) */

/* ---- for layers */
void stream_init(struct stream *s, const struct stream_ops *ops, struct loop *loop, struct stream *lower);
/* Sets state, err and text (prefixed by the layer's name by outer layers; the text of sys_errno, if not 0, is appended) and
 * tells cb ST_FAIL at the end of the turn. The first failure stays. */
void stream_fail(struct stream *s, int code, int sys_errno, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Runs cb with the wanted events among ready at the end of this turn; ST_OPEN and ST_FAIL are always wanted. ST_OPEN is set in
 * state just before cb: a layer that opens inside the call that made it leaves that to this. */
void stream_ready(struct stream *s, int events);
/* Tells cb now; only from an event of the loop or of the lower layer. */
void stream_tell(struct stream *s, int events);

/* ---- tcp: worker/stream/tcp.c */
struct tcp_opts {			/* of a socket that dials; all zero = defaults */
	const char *iface;		/* SO_BINDTODEVICE */
	uint32_t mark;			/* parsed and warned about until the nethelper exists */
	bool tfo, mptcp;
	bool no_keepalive;
	int keep_idle, keep_interval;	/* seconds, 0 = 15 */
};
/* Wraps an accepted, non-blocking socket; takes fd. NULL (fd closed) when out of memory. */
struct stream *tcp_accepted(struct loop *loop, int fd);
/* Sets on a listening socket what accepted ones inherit from it: TCP_NODELAY and keep-alive; opts NULL = defaults. */
void tcp_listener_opts(int fd, const struct tcp_opts *opts);
/* A stream in state DIALING without a socket: the dialer opens it by tcp_connect() or fails it. */
struct stream *tcp_dialing(struct loop *loop);
/* Candidates in order of preference. concurrent: all at once, first wins; else one after the other, the next after 300 ms or a
 * failure (RFC 8305 5). At most TCP_CANDIDATES_MAX are tried. Ends in ST_OPEN or ST_FAIL. deadline_ms absolute loop time,
 * enforced by the caller. */
enum { TCP_CANDIDATES_MAX = 8 };
void tcp_connect(struct stream *s, const struct ip *ips, int n, uint16_t port, const struct tcp_opts *opts, bool concurrent);
/* The address that answered; false before ST_OPEN or for other streams. */
bool tcp_peer(const struct stream *s, struct ip *ip, uint16_t *port);
int tcp_fd(const struct stream *s);	/* -1 for other streams */
/* A stream around what another process froze (stream_ops.freeze); takes fds. NULL on bad data. */
struct stream *tcp_thaw(struct loop *loop, struct wire *state, const int *fds, int nfds);

/* ---- tls: worker/stream/tls.c, OpenSSL; certificate checks by RFC 6125 names and the system's CAs */
struct tls_client_opts {		/* in the generation's arena */
	const char *server_name;	/* SNI and name to verify */
	const char *verify_name;	/* to verify instead; NULL = server_name */
	const char *const *alpn;	/* NULL-terminated, or NULL */
	const char *fingerprint;	/* SHA-256 of the certificate, hex, instead of CA checks; "" = none */
	bool skip_verify;
};
struct tls_server_opts {
	const char *cert_pem, *key_pem;
	void *ctx;			/* SSL_CTX made by tls_server_prepare() */
};
/* Process-wide: certificate authorities from PEM text (may be NULL = none yet), before the final sandbox. 0 or -E_TLS. */
int tls_setup(const char *ca_pem, size_t n);
int tls_add_authority(const char *pem);	/* after tls_setup(): one more, copied; -E_INVAL when it is no certificate */
/* Takes lower; NULL = lower closed. Opens when the handshake is done. */
struct stream *tls_client(struct stream *lower, const struct tls_client_opts *opts);
/* The protocol that the two ends of an open TLS stream agreed on (RFC 7301); "" = none. Until the next call. */
const char *tls_alpn(const struct stream *s);
int tls_server_prepare(struct tls_server_opts *opts, char *why, size_t cap);
struct stream *tls_server(struct stream *lower, const struct tls_server_opts *opts);

#endif
