/* SPDX-License-Identifier: MIT */
/* Live hand-over between an old worker and a new one over a channel of their own: relays whose two ends are plain sockets move with their fds,
 * buffered bytes, identity and counters; the old process then ends instead of draining for days.
 *
 *   old                                             new
 *   MOVE {count, count * frozen connection} + fds ->   adopts each
 *                                                  <- MOVED {count}          the next batch goes out only now
 *
 * Fds in flight count against the user's limit (design 7), so at most one batch of HANDOFF_FDS is un-acknowledged. Each connection carries the number
 * of its fds before its state. What cannot be frozen stays and drains; what is in its handshake or dial is tried again a little later. */
#include "worker/handoff.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/core/conn.h"
#include "worker/drain.h"

enum { HANDOFF_FDS = 240, HANDOFF_BYTES = IMSG_BODY_MAX - 512, GIVERS_MAX = 32 };
static const double again_s = 0.25;	/* connections that were still being set up */

struct taker {			/* a channel from an old worker */
	struct peer peer;
	struct worker *w;
};

static struct peer out;			/* to the new worker; fd -1 when there is none */
static bool out_open;
static unsigned unacked;
static ev_timer again;
static unsigned n_takers;

bool
handoff_busy(void)
{
	return unacked > 0;
}

/* ---- giving */

/* Freezes one connection into the batch. Its state is written to a scratch wire first: a big one (bytes in flight) may not fit any more. */
static bool
add(struct conn *c, struct wire *batch, int *fds, int *nfds)
{
	struct wire one;
	int n;

	wire_init(&one);
	n = conn_freeze(c, &one, fds + *nfds);
	if (n < 0) {
		wire_free(&one);
		return false;
	}
	wire_put_u8(batch, (uint8_t)n);
	wire_put_bytes(batch, one.p, one.len);
	wire_free(&one);
	*nfds += n;
	conn_close(c, BY_HANDOFF);
	return true;
}

enum { STATE_GUESS = 2048 };	/* of a connection without bytes in flight */

/* Bytes that would have to travel inside the message; those in pipes travel as fds. */
static size_t
in_flight(const struct conn *c)
{
	size_t n = c->early != NULL ? c->early->len - c->early->off : 0;

	for (int d = 0; d < 2; d++)
		for (const struct buf *b = c->dir[d].buf; b != NULL; b = b->next)
			n += b->len - b->off;
	return n;
}

static void
send_batch(struct worker *w)
{
	struct msg_move head = { 0 };
	struct wire body;
	int fds[IMSG_FDS], nfds = 0;
	bool later = false;

	wire_init(&body);
	wire_put(&body, &head, sizeof head);
	list_each_safe(n, tmp, &w->conns) {
		struct conn *c = container_of(n, struct conn, link);

		if (c->state == CONN_CLOSED || c->udp != NULL)
			continue;
		if (c->state != CONN_RELAY) {
			later = true;
			continue;
		}
		if (nfds + CONN_FDS_MAX > HANDOFF_FDS || body.len + STATE_GUESS + in_flight(c) > HANDOFF_BYTES) {
			if (head.count > 0)
				break;
			continue;	/* more in flight than a message holds: it drains, or moves when it is quiet */
		}
		if (add(c, &body, fds, &nfds))
			head.count++;
	}
	if (head.count == 0) {
		wire_free(&body);
		if (later && !ev_is_active(&again))
			ev_timer_again(w->loop.ev, &again);
		return;
	}
	wire_set_u32(&body, 0, head.count);
	unacked = head.count;
	if (peer_send_wire(&out, MSG_MOVE, 0, &body, fds, nfds) != 0)
		log_error("hand-over: %u connections were lost with their receiver", head.count);
}

static int
on_moved(struct peer *p, struct wire *b, const int *fds)
{
	struct msg_moved m;

	(void)fds;
	if (wire_get(b, &m, sizeof m) != 0 || m.count > unacked)
		return -E_PROTO;
	if (m.count < unacked)
		log_warn("hand-over: %u of %u connections were not taken", unacked - m.count, unacked);
	unacked = 0;
	send_batch(p->arg);
	drain_check(p->arg);
	return 0;
}

static const struct imsg_handler giver_table[] = {
	{ MSG_MOVED, "MOVED", 1, sizeof(struct msg_moved), sizeof(struct msg_moved), 0, 0, on_moved },
};

static void
on_out_gone(struct peer *p, const char *why)
{
	struct worker *w = p->arg;

	log_debug("hand-over: %s", why);
	out_open = false;
	unacked = 0;
	ev_timer_stop(w->loop.ev, &again);
}

static void
on_again(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)events;
	ev_timer_stop(loop, t);
	if (out_open && unacked == 0)
		send_batch(t->data);
}

void
handoff_give(struct worker *w)
{
	if (out_open && unacked == 0)
		send_batch(w);
}

/* ---- taking */

static int
on_move(struct peer *p, struct wire *b, const int *fds)
{
	struct taker *t = p->arg;
	struct msg_move m;
	struct msg_moved done = { 0 };
	int at = 0, total = p->cur_nfds;

	if (wire_get(b, &m, sizeof m) != 0)
		return -E_PROTO;
	for (uint32_t i = 0; i < m.count; i++) {
		const void *state;
		size_t len;
		uint8_t n;
		struct wire one;

		if (wire_get_u8(b, &n) != 0 || wire_get_bytes(b, &state, &len, IMSG_BODY_MAX) != 0 || n > CONN_FDS_MAX || at + n > total)
			break;
		wire_read(&one, state, len);
		if (conn_thaw(t->w, &one, fds + at, n) != NULL)
			done.count++;
		at += n;
	}
	imsg_close_fds(fds + at, total - at);
	if (done.count < m.count)
		log_error("hand-over: %u connections could not be taken", m.count - done.count);
	peer_send(p, MSG_MOVED, 0, &done, sizeof done, NULL, 0);
	return 0;
}

static const struct imsg_handler taker_table[] = {
	{ MSG_MOVE, "MOVE", 1, sizeof(struct msg_move), IMSG_BODY_MAX, IMSG_FDS, IMSG_FDS_UPTO, on_move },
};

static void
on_taker_gone(struct peer *p, const char *why)
{
	(void)why;
	n_takers--;
	free(p->arg);
}

void
handoff_open(struct worker *w, int fd, bool sender)
{
	struct taker *t;

	if (sender) {
		if (out_open)
			peer_close(&out);
		peer_open(&out, w->loop.ev, fd, "new worker", giver_table, countof(giver_table), w, on_out_gone);
		out.state = 1;
		out_open = true;
		ev_timer_init(&again, on_again, 0, again_s);
		again.data = w;
		return;
	}
	t = n_takers < GIVERS_MAX ? calloc(1, sizeof *t) : NULL;
	if (t == NULL) {
		close(fd);
		return;
	}
	n_takers++;
	t->w = w;
	peer_open(&t->peer, w->loop.ev, fd, "old worker", taker_table, countof(taker_table), t, on_taker_gone);
	t->peer.state = 1;
}
