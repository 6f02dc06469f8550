/* SPDX-License-Identifier: MIT */
/* Live hand-over between an old worker and new ones over channels of their own: what needs no user-space state moves with its fds, buffered bytes,
 * identity and counters; the old process then ends instead of draining for days.
 *
 *   old                                             new
 *   MOVE {count, count * frozen UDP session} + fds -> adopts each, reads no UDP listener yet (at most ADOPT_MS)
 *                                                  <- MOVED {count}
 *   MOVE_DONE                                      -> reads its UDP listeners
 *   MOVE {count, count * frozen connection} + fds  -> adopts each
 *                                                  <- MOVED {count}
 *
 * UDP goes first, and the old worker has stopped reading before: a client's datagrams wait in the listener's queue until its session is where they
 * will be read. That is decided by the slot of the listener the client hashes to: slot s belongs to worker s mod N of a generation. With N as before
 * a worker has one heir; where N changed, or it read slots of a dead one, it gets a channel to each heir and a session goes to its slot's. A session
 * that cannot move (its packet side has state here, or is still being set up) stays and answers through the listener's socket; if its client sends
 * more, the new worker begins another. TCP connections belong to no slot: they all go to the primary heir.
 *
 * Fds in flight count against the user's limit (design 7), so at most HANDOFF_FDS of a channel are un-acknowledged. Each object carries the number of
 * its fds before its state. What cannot be frozen stays and drains; what is in its handshake or dial is tried again a little later. */
#include "worker/handoff.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/core/conn.h"
#include "worker/drain.h"
#include "worker/inbound/inbound.h"
#include "worker/inbound/socks.h"

enum { HANDOFF_FDS = 240, HANDOFF_BYTES = IMSG_BODY_MAX - 512, FLIGHT_MAX = 16 /* messages */,
       HEIRS_MAX = 32, GIVERS_MAX = 64 /* of all old generations that drain */, ADOPT_MS = 200 };
static const double again_s = 0.25;	/* connections that were still being set up */

struct batch {
	uint32_t count;
	int nfds;
};
struct heir {			/* a channel to a new worker */
	struct peer peer;
	struct worker *w;
	bool open, done;	/* done: MOVE_DONE was sent */
	struct msg_handoff to;
	struct batch flight[FLIGHT_MAX + 1];	/* sent and not acknowledged, oldest first */
	unsigned in_flight;
	int nfds;		/* of those */
};
struct giver {			/* a channel from an old worker */
	struct peer peer;
	struct worker *w;
	bool done;		/* no UDP session comes from it any more */
};

static struct heir heirs[HEIRS_MAX];
static ev_timer again, held;
static unsigned n_givers, n_waited_for;

bool
handoff_busy(void)
{
	for (int i = 0; i < HEIRS_MAX; i++)
		if (heirs[i].open && heirs[i].in_flight > 0)
			return true;
	return false;
}

/* ---- giving */

struct message {		/* being filled */
	struct wire body;
	uint32_t count;
	int fds[IMSG_FDS], nfds;
};

static void
begin(struct message *m)
{
	struct msg_move head = { 0 };

	m->count = 0;
	m->nfds = 0;
	wire_init(&m->body);
	wire_put(&m->body, &head, sizeof head);
}

static void
ship(struct heir *h, struct message *m)
{
	wire_set_u32(&m->body, 0, m->count);
	h->flight[h->in_flight++] = (struct batch){ m->count, m->nfds };
	h->nfds += m->nfds;
	if (peer_send_wire(&h->peer, MSG_MOVE, 0, &m->body, m->fds, m->nfds) != 0)
		log_error("hand-over: %u connections were lost with their receiver", m->count);
}

/* Freezes one connection into the message. Its size is known only afterwards: one that does not fit any more begins the next message. *later is
 * set when it holds too many bytes just now. */
static void
add(struct heir *h, struct message *m, struct conn *c, bool *later)
{
	struct wire one;
	int n, *fds = m->fds + m->nfds;

	wire_init(&one);
	n = conn_freeze(c, &one, fds);
	if (n < 0) {
		*later |= n == -E_AGAIN;
		wire_free(&one);
		return;
	}
	if (m->count > 0 && m->body.len + sizeof(uint8_t) + sizeof(uint32_t) + one.len > HANDOFF_BYTES) {
		ship(h, m);
		begin(m);
		memmove(m->fds, fds, (size_t)n * sizeof *fds);
	}
	wire_put_u8(&m->body, (uint8_t)n);
	wire_put_bytes(&m->body, one.p, one.len);
	wire_free(&one);
	m->nfds += n;
	m->count++;
	conn_close(c, BY_HANDOFF);
}

enum { STATE_GUESS = 1024 };	/* of a connection without bytes in flight; most are smaller */

/* Bytes that would have to travel inside the message; those in pipes travel as fds. */
static size_t
size_guess(const struct conn *c)
{
	size_t n = STATE_GUESS + (c->early != NULL ? c->early->len - c->early->off : 0);

	for (int d = 0; d < 2; d++)
		for (const struct buf *b = c->dir[d].buf; b != NULL; b = b->next)
			n += b->len - b->off;
	return n;
}

/* Whether c goes to h now. *later is set when it may become movable. */
static bool
goes_to(const struct heir *h, const struct conn *c, bool *later)
{
	if (!h->done)
		return c->udp != NULL && udp_slot(c) % h->to.peer_workers == h->to.peer_index;
	if (c->udp != NULL)
		return false;
	if (c->state == CONN_RELAY || c->control)
		return true;
	*later = true;
	return false;
}

/* Sends a message, or two; false when nothing is left to send. */
static bool
send_batch(struct heir *h)
{
	struct worker *w = h->w;
	struct message m;
	bool later = false;

	begin(&m);
	list_each_safe(n, tmp, &w->conns) {
		struct conn *c = container_of(n, struct conn, link);

		if (!goes_to(h, c, &later))
			continue;
		if (m.count > 0 && (h->in_flight >= FLIGHT_MAX || h->nfds + m.nfds + CONN_FDS_MAX > HANDOFF_FDS || m.body.len + size_guess(c) > HANDOFF_BYTES))
			break;
		add(h, &m, c, &later);
	}
	if (later && h->done && !ev_is_active(&again))
		ev_timer_again(w->loop.ev, &again);
	if (m.count > 0)
		ship(h, &m);
	else
		wire_free(&m.body);
	return m.count > 0;
}

static void
heir_close(struct heir *h)
{
	peer_close(&h->peer);
	h->open = false;
	h->in_flight = 0;
	h->nfds = 0;
}

static void
pump(struct heir *h)
{
	bool sent = true;

	while (h->open && sent && h->in_flight < FLIGHT_MAX && h->nfds + CONN_FDS_MAX <= HANDOFF_FDS) {
		if (h->done && !(h->to.primary && h->w->draining))
			break;
		sent = send_batch(h);
		if (!sent && !h->done) {
			h->done = true;
			sent = peer_send(&h->peer, MSG_MOVE_DONE, 0, NULL, 0, NULL, 0) == 0;
		}
	}
	if (h->open && h->done && h->in_flight == 0 && !h->to.primary)
		heir_close(h);
}

static int
on_moved(struct peer *p, struct wire *b, const int *fds)
{
	struct heir *h = p->arg;
	struct msg_moved m;

	(void)fds;
	if (wire_get(b, &m, sizeof m) != 0 || h->in_flight == 0 || m.count > h->flight[0].count)
		return -E_PROTO;
	if (m.count < h->flight[0].count)
		log_warn("hand-over: %u of %u connections were not taken", h->flight[0].count - m.count, h->flight[0].count);
	h->nfds -= h->flight[0].nfds;
	memmove(h->flight, h->flight + 1, --h->in_flight * sizeof h->flight[0]);
	pump(h);
	drain_check(h->w);
	return 0;
}

static const struct imsg_handler heir_table[] = {
	{ MSG_MOVED, "MOVED", 1, sizeof(struct msg_moved), sizeof(struct msg_moved), 0, 0, on_moved },
};

static void
on_heir_gone(struct peer *p, const char *why)
{
	struct heir *h = p->arg;

	log_debug("hand-over: %s", why);
	heir_close(h);
}

static void
on_again(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)events;
	ev_timer_stop(loop, t);
	handoff_give(t->data);
}

void
handoff_give(struct worker *w)
{
	(void)w;
	for (int i = 0; i < HEIRS_MAX; i++)
		pump(&heirs[i]);
}

static void
open_heir(struct worker *w, int fd, const struct msg_handoff *m)
{
	struct heir *h = heirs;

	while (h < heirs + HEIRS_MAX && h->open)
		h++;
	if (h == heirs + HEIRS_MAX || m->peer_workers == 0) {
		log_error("hand-over: too many channels");
		close(fd);
		return;
	}
	*h = (struct heir){ .w = w, .open = true, .to = *m };
	peer_open(&h->peer, w->loop.ev, fd, "new worker", heir_table, countof(heir_table), h, on_heir_gone);
	h->peer.state = 1;
	if (!ev_is_active(&again)) {
		ev_timer_init(&again, on_again, 0, again_s);
		again.data = w;
	}
}

/* ---- taking */

static struct inbound *
inbound_of(const struct gen *g, const struct conn *c)
{
	for (int i = 0; i < g->n_inbounds; i++)
		if (g->inbounds[i]->key.port == c->meta.in_port && str_equal(g->inbounds[i]->name, c->meta.in_name))
			return g->inbounds[i];
	return NULL;
}

static bool
take(struct worker *w, struct wire *one, const int *fds, int n)
{
	struct conn *c = conn_thaw(w, one, fds, n);

	if (c == NULL)
		return false;
	if (c->control) {
		c->inbound = inbound_of(w->gen, c);
		socks_control(c);
	}
	return true;
}

static int
on_move(struct peer *p, struct wire *b, const int *fds)
{
	struct giver *g = p->arg;
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
		done.count += take(g->w, &one, fds + at, n);
		at += n;
	}
	imsg_close_fds(fds + at, total - at);
	if (done.count < m.count)
		log_warn("hand-over: %u of %u connections could not be taken", m.count - done.count, m.count);
	peer_send(p, MSG_MOVED, 0, &done, sizeof done, NULL, 0);
	return 0;
}

static void
read_udp(struct worker *w)
{
	if (!w->udp_held)
		return;
	w->udp_held = false;
	ev_timer_stop(w->loop.ev, &held);
	for (int i = 0; i < w->gen->n_inbounds; i++)
		inbound_read_udp(w->gen->inbounds[i]);
}

static void
giver_done(struct giver *g)
{
	if (g->done)
		return;
	g->done = true;
	if (--n_waited_for == 0)
		read_udp(g->w);
}

static int
on_move_done(struct peer *p, struct wire *b, const int *fds)
{
	(void)b;
	(void)fds;
	giver_done(p->arg);
	return 0;
}

static const struct imsg_handler giver_table[] = {
	{ MSG_MOVE, "MOVE", 1, sizeof(struct msg_move), IMSG_BODY_MAX, IMSG_FDS, IMSG_FDS_UPTO, on_move },
	{ MSG_MOVE_DONE, "MOVE_DONE", 1, 0, 0, 0, 0, on_move_done },
};

static void
on_giver_gone(struct peer *p, const char *why)
{
	struct giver *g = p->arg;

	(void)why;
	giver_done(g);
	n_givers--;
	free(g);
}

static void
open_giver(struct worker *w, int fd)
{
	struct giver *g = n_givers < GIVERS_MAX ? calloc(1, sizeof *g) : NULL;

	if (g == NULL) {
		log_error("hand-over: no channel from an old worker can be opened");
		close(fd);
		return;
	}
	n_givers++;
	n_waited_for++;
	g->w = w;
	peer_open(&g->peer, w->loop.ev, fd, "old worker", giver_table, countof(giver_table), g, on_giver_gone);
	g->peer.state = 1;
}

static void
on_held(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	log_warn("hand-over: the old workers' UDP sessions took more than %d ms", ADOPT_MS);
	read_udp(t->data);
}

void
handoff_hold(struct worker *w)
{
	w->udp_held = n_waited_for > 0;
	if (!w->udp_held)
		return;
	ev_timer_init(&held, on_held, ADOPT_MS / 1000.0, 0);
	held.data = w;
	ev_timer_start(w->loop.ev, &held);
}

void
handoff_open(struct worker *w, int fd, const struct msg_handoff *m)
{
	if (m->sender != 0)
		open_heir(w, fd, m);
	else
		open_giver(w, fd);
}
