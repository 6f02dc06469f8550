/* SPDX-License-Identifier: MIT */
/* The outbounds that go nowhere: REJECT, REJECT-DROP and PASS, `type: reject`, and the streams and packet sides that are
 * born to fail, which every other file here uses for errors found before a socket exists. Called through outbound_type; owns
 * nothing but these small objects. */
#include "worker/outbound/types.h"

#include <stdlib.h>

#include "worker/worker.h"

enum { REJECT_DROP_MS = 60000 };	/* spec/config.md 14.1 10 */

struct nowhere {
	struct stream s;
	ev_timer timer;		/* REJECT-DROP */
};

static ssize_t
nowhere_io(struct stream *s, const struct iovec *v, int n)
{
	(void)v;
	(void)n;
	return s->err != 0 ? -s->err : -E_AGAIN;
}

static void
nowhere_want(struct stream *s, int events)
{
	s->wanted = (unsigned)events;
}

static void
nowhere_destroy(struct stream *s)
{
	struct nowhere *o = (struct nowhere *)s;

	ev_timer_stop(s->loop->ev, &o->timer);
	free(o);
}

static const struct stream_ops nowhere_ops = {
	.name = "nowhere", .readv = nowhere_io, .writev = nowhere_io, .want = nowhere_want, .destroy = nowhere_destroy,
};

static void
on_dropped(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct nowhere *o = t->data;

	(void)ev;
	(void)revents;
	if ((o->s.state & ST_CLOSED) == 0)
		stream_fail(&o->s, E_REJECTED, 0, "rejected");
}

static struct nowhere *
nowhere_new(struct outbound *ob)
{
	struct nowhere *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	stream_init(&o->s, &nowhere_ops, &ob->gen->w->loop, NULL);
	ev_timer_init(&o->timer, on_dropped, REJECT_DROP_MS / 1000.0, 0.);
	o->timer.data = o;
	return o;
}

struct stream *
outbound_failed(struct outbound *ob, int code, const char *text)
{
	struct nowhere *o = nowhere_new(ob);

	if (o == NULL)
		return NULL;
	stream_fail(&o->s, code, 0, "%s", text);
	return &o->s;
}

/* ---- packets into the void */

static int
void_sendv(struct dgram *d, const struct packet *p, int n)
{
	(void)p;
	return d->err != 0 ? -d->err : n;
}

static void
void_want(struct dgram *d, bool read)
{
	(void)d;
	(void)read;
}

static void
void_destroy(struct dgram *d)
{
	free(d);
}

static const struct dgram_ops void_ops = { .name = "void", .sendv = void_sendv, .want = void_want, .destroy = void_destroy };

static struct dgram *
void_new(struct outbound *ob)
{
	struct dgram *d = calloc(1, sizeof(*d));

	if (d != NULL)
		dgram_init(d, &void_ops, &ob->gen->w->loop);
	return d;
}

struct dgram *
outbound_failed_packet(struct outbound *ob, int code, const char *text)
{
	struct dgram *d = void_new(ob);

	if (d != NULL)
		dgram_fail(d, code, 0, "%s", text);
	return d;
}

/* ---- the types */

static struct stream *
reject_dial(struct outbound *ob, const struct dial *dial)
{
	(void)dial;
	return outbound_failed(ob, E_REJECTED, "rejected");
}

/* Stays in state dialing, so that the client waits. The dispatcher's dial deadline must not be applied to this type. */
static struct stream *
drop_dial(struct outbound *ob, const struct dial *dial)
{
	struct nowhere *o = nowhere_new(ob);

	(void)dial;
	if (o == NULL)
		return NULL;
	ev_timer_start(ob->gen->w->loop.ev, &o->timer);
	return &o->s;
}

/* Rules pass PASS over; it is reached by own dials (health checks) and mode global only. */
static struct stream *
pass_dial(struct outbound *ob, const struct dial *dial)
{
	(void)dial;
	return outbound_failed(ob, E_REJECTED, "PASS leads nowhere");
}

/* Swallows silently: open at once, takes everything, answers nothing. */
static struct dgram *
swallow_packet(struct outbound *ob, const struct dial *dial)
{
	struct dgram *d = void_new(ob);

	(void)dial;
	if (d != NULL)
		d->state |= ST_OPEN;
	return d;
}

static const char *const no_keys[] = { NULL };

const struct outbound_type outbound_reject = {
	.name = "reject", .api_name = "Reject", .flags = OB_TCP | OB_UDP, .size = sizeof(struct outbound), .keys = no_keys,
	.dial = reject_dial, .packet = swallow_packet,
};
const struct outbound_type outbound_reject_drop = {
	.name = "REJECT-DROP", .api_name = "RejectDrop", .flags = OB_TCP | OB_UDP | OB_BUILTIN, .size = sizeof(struct outbound),
	.dial = drop_dial, .packet = swallow_packet,
};
const struct outbound_type outbound_pass = {
	.name = "PASS", .api_name = "Pass", .flags = OB_TCP | OB_UDP | OB_BUILTIN, .size = sizeof(struct outbound),
	.dial = pass_dial, .packet = swallow_packet,
};
