/* SPDX-License-Identifier: MIT */
/* Live hand-over between an old worker and new ones over channels of their own: what needs no user-space state moves with its
 * fds, buffered bytes, identity and counters; the old process then ends instead of draining for days.
 *
 *   old                                             new
 *   MOVE {count, count * frozen UDP session} + fds -> adopts each, reads no UDP listener yet (at most ADOPT_MS)
 *                                                  <- MOVED {count}
 *   MOVE_DONE                                      -> reads its UDP listeners
 *   MOVE {count, count * frozen connection} + fds  -> adopts each
 *                                                  <- MOVED {count}
 *
 * UDP goes first, and the old worker has stopped reading before: a client's datagrams wait in the listener's queue until its
 * session is where they will be read. That is decided by the slot of the listener the client hashes to: slot s belongs to
 * worker s mod N of a generation. With N as before a worker has one heir; where N changed, or it read slots of a dead one, it
 * gets a channel to each heir and a session goes to its slot's. A session that cannot move (its packet side has state here, or
 * is still being set up) stays and answers through the listener's socket; if its client sends more, the new worker begins
 * another. TCP connections belong to no slot: they all go to the primary heir.
 *
 * An old worker's primary heir may drain itself, or die, before all is given (a connection in its handshake cannot move yet):
 * the supervisor then opens another channel to a worker that serves (LATE), and the one before is closed when all it was sent
 * is acknowledged. A worker does not end while others have a channel to give by, and what comes while it drains goes on at
 * once. With UDP the order matters: MOVE_DONE goes out only when nothing more comes from those before; the supervisor's ping
 * after a switch is answered by an old worker when it has given all, by a new one when it has got all and reads, so that the
 * next reload does not overtake.
 *
 * What was sent is kept, bytes and fds, until it is acknowledged: when the receiver dies before that, its connections come
 * back to life here and wait for the next heir. Adopting and acknowledging is one turn of the receiver, so nothing has been
 * read from them there.
 *
 * Fds in flight count against the user's limit (design 7), so at most HANDOFF_FDS of a channel are un-acknowledged. Each
 * object carries the number of its fds before its state. What cannot be frozen stays and drains; what is in its handshake or
 * dial is tried again a little later. */
#include "worker/handoff.h"

#include <fcntl.h>
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
       HEIRS_MAX = 64, GIVERS_MAX = 512 /* all workers of all old generations */, ADOPT_MS = 1000 };
static const double again_s = 0.25;	/* connections that were still being set up */

struct batch {
	uint32_t count;
	int nfds;		/* the next ones of heir.fds */
	struct wire body;	/* owns */
};
struct heir {			/* a channel to a new worker */
	struct peer peer;
	struct worker *w;
	bool open, done;	/* done: MOVE_DONE was sent */
	bool primary;
	struct msg_handoff to;
	struct batch flight[FLIGHT_MAX + 1];	/* sent and not acknowledged, oldest first */
	unsigned in_flight;
	int fds[HANDOFF_FDS], nfds;	/* of those; owns */
};
struct giver {			/* a channel from an old worker */
	struct peer peer;
	struct worker *w;
	bool done;		/* no UDP session comes from it any more */
};

static struct heir heirs[HEIRS_MAX];
static ev_timer again, held;
static unsigned n_givers, n_waited_for;
static bool waited_enough;

bool
handoff_busy(void)
{
	if (n_givers > 0)
		return true;
	for (int i = 0; i < HEIRS_MAX; i++)
		if (heirs[i].open && heirs[i].in_flight > 0)
			return true;
	return false;
}

bool
handoff_settled(const struct worker *w)
{
	if (!w->draining)
		return !w->udp_held;
	for (int i = 0; i < HEIRS_MAX; i++)
		if (heirs[i].open && !heirs[i].done)
			return false;
	return true;
}

/* ---- a message of connections, taken where it arrives or where it comes back to */

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

/* Every connection of a MOVE; takes fds in every case. How many live here now. */
static uint32_t
take_all(struct worker *w, struct wire *b, const int *fds, int nfds)
{
	struct msg_move m;
	uint32_t done = 0;
	int at = 0;

	if (wire_get(b, &m, sizeof m) != 0)
		m.count = 0;
	for (uint32_t i = 0; i < m.count; i++) {
		const void *state;
		size_t len;
		uint8_t n;
		struct wire one;

		if (wire_get_u8(b, &n) != 0 || wire_get_bytes(b, &state, &len, IMSG_BODY_MAX) != 0 || n > CONN_FDS_MAX ||
		    at + n > nfds)
			break;
		wire_read(&one, state, len);
		done += take(w, &one, fds + at, n);
		at += n;
	}
	imsg_close_fds(fds + at, nfds - at);
	if (done < m.count)
		log_warn("hand-over: %u of %u connections could not be taken", m.count - done, m.count);
	return done;
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
	if (m->body.failed) {
		log_error("hand-over: out of memory: %u connections are lost", m->count);
		imsg_close_fds(m->fds, m->nfds);
		wire_free(&m->body);
		return;
	}
	wire_set_u32(&m->body, 0, m->count);
	for (int i = 0; i < m->nfds; i++)
		h->fds[h->nfds + i] = fcntl(m->fds[i], F_DUPFD_CLOEXEC, 3);
	h->flight[h->in_flight++] = (struct batch){ m->count, m->nfds, m->body };
	h->nfds += m->nfds;
	/* to one that is gone: on_heir_gone() takes it back */
	peer_send(&h->peer, MSG_MOVE, 0, m->body.p, m->body.len, m->fds, m->nfds);
}

/* The oldest that was sent is out of our hands. */
static void
forget_batch(struct heir *h)
{
	struct batch *b = &h->flight[0];

	wire_free(&b->body);
	h->nfds -= b->nfds;
	memmove(h->fds, h->fds + b->nfds, (size_t)h->nfds * sizeof *h->fds);
	memmove(h->flight, h->flight + 1, --h->in_flight * sizeof h->flight[0]);
}

/* Freezes one connection into the message. Its size is known only afterwards: one that does not fit any more begins the next
 * message. *later is set when it holds too many bytes just now. */
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
		if (m.count > 0 &&
		    (h->in_flight >= FLIGHT_MAX || h->nfds + m.nfds + CONN_FDS_MAX > HANDOFF_FDS ||
			m.body.len + size_guess(c) > HANDOFF_BYTES))
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
pay_pong(struct worker *w)
{
	if (w->pong_owed == 0 || !handoff_settled(w))
		return;
	peer_send(&w->sup, MSG_PONG, w->pong_owed, NULL, 0, NULL, 0);
	w->pong_owed = 0;
}

static void on_held(struct ev_loop *loop, ev_timer *t, int events);

/* From here on old workers have ADOPT_MS to say MOVE_DONE. */
static void
arm_held(struct worker *w)
{
	if (ev_is_active(&held))
		return;
	ev_timer_init(&held, on_held, ADOPT_MS / 1000.0, 0);
	held.data = w;
	ev_timer_start(w->loop.ev, &held);
}

static bool
udp_complete(struct worker *w)
{
	if (n_waited_for == 0 || waited_enough)
		return true;
	arm_held(w);
	return false;
}

static void
heir_close(struct heir *h)
{
	peer_close(&h->peer);
	h->open = false;
	pay_pong(h->w);
}

static void
pump(struct heir *h)
{
	bool sent = true;

	while (h->open && sent && h->in_flight < FLIGHT_MAX && h->nfds + CONN_FDS_MAX <= HANDOFF_FDS) {
		if (h->done && !(h->primary && h->w->draining))
			break;
		sent = send_batch(h);
		if (!sent && !h->done && udp_complete(h->w)) {
			h->done = true;
			sent = peer_send(&h->peer, MSG_MOVE_DONE, 0, NULL, 0, NULL, 0) == 0;
			pay_pong(h->w);
		}
	}
	if (h->open && h->done && h->in_flight == 0 && !h->primary)
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
	imsg_close_fds(h->fds, h->flight[0].nfds);
	forget_batch(h);
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
	struct wire b;
	uint32_t back = 0;

	while (h->in_flight > 0) {
		wire_read(&b, h->flight[0].body.p, h->flight[0].body.len);
		back += take_all(h->w, &b, h->fds, h->flight[0].nfds);
		forget_batch(h);
	}
	log_debug("hand-over: %s; %u connections come back", why, back);
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

	for (int i = 0; i < HEIRS_MAX && (m->flags & HANDOFF_PRIMARY); i++)
		heirs[i].primary = false;	/* closed by pump() when it is empty */
	while (h < heirs + HEIRS_MAX && h->open)
		h++;
	if (h == heirs + HEIRS_MAX || m->peer_workers == 0) {
		log_error("hand-over: too many channels");
		close(fd);
		return;
	}
	*h = (struct heir){ .w = w,
		.open = true,
		.done = (m->flags & HANDOFF_LATE) != 0,
		.primary = (m->flags & HANDOFF_PRIMARY) != 0,
		.to = *m };
	peer_open(&h->peer, w->loop.ev, fd, "new worker", heir_table, countof(heir_table), h, on_heir_gone);
	h->peer.state = 1;
	if (!ev_is_active(&again)) {
		ev_timer_init(&again, on_again, 0, again_s);
		again.data = w;
	}
	if (m->flags & HANDOFF_LATE)
		handoff_give(w);
}

/* ---- taking */

static int
on_move(struct peer *p, struct wire *b, const int *fds)
{
	struct giver *g = p->arg;
	struct msg_moved done = { .count = take_all(g->w, b, fds, p->cur_nfds) };

	peer_send(p, MSG_MOVED, 0, &done, sizeof done, NULL, 0);
	if (g->w->draining)
		handoff_give(g->w);
	return 0;
}

static void
read_udp(struct worker *w)
{
	ev_timer_stop(w->loop.ev, &held);
	if (w->draining)
		handoff_give(w);	/* what came goes on, and then MOVE_DONE */
	if (!w->udp_held || w->draining)
		return;
	w->udp_held = false;
	for (int i = 0; i < w->gen->n_inbounds; i++)
		inbound_read_udp(w->gen->inbounds[i]);
	pay_pong(w);
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
	drain_check(g->w);
	free(g);
}

static void
open_giver(struct worker *w, int fd, bool late)
{
	struct giver *g = n_givers < GIVERS_MAX ? calloc(1, sizeof *g) : NULL;

	if (g == NULL) {
		log_error("hand-over: no channel from an old worker can be opened");
		close(fd);
		return;
	}
	n_givers++;
	waited_enough &= n_waited_for > 0;
	n_waited_for += !late;
	g->w = w;
	g->done = late;
	peer_open(&g->peer, w->loop.ev, fd, "old worker", giver_table, countof(giver_table), g, on_giver_gone);
	g->peer.state = 1;
}

static void
on_held(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	log_warn("hand-over: the old workers' UDP sessions took more than %d ms", ADOPT_MS);
	waited_enough = true;
	read_udp(t->data);
}

void
handoff_hold(struct worker *w)
{
	w->udp_held = n_waited_for > 0;
	if (w->udp_held)
		arm_held(w);
}

void
handoff_open(struct worker *w, int fd, const struct msg_handoff *m)
{
	if (m->sender != 0)
		open_heir(w, fd, m);
	else
		open_giver(w, fd, (m->flags & HANDOFF_LATE) != 0);
}
