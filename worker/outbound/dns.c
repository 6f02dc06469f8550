/* SPDX-License-Identifier: MIT */
/* `type: dns`: an outbound without a network, whose every request is a question that the DNS server answers
 * (spec/protocols.md): over TCP with two bytes of length in front (RFC 1035 4.2.2), over UDP as it is. Rules send port 53 there.
 * Called through outbound_type; owns its streams, packet sides and the questions in flight, which outlive them: what comes late
 * is dropped. */
#include "worker/outbound/types.h"

#include <stdlib.h>
#include <string.h>

#include "worker/codec/dns.h"
#include "worker/dns/serve.h"
#include "worker/worker.h"

enum {
	QUESTION_BYTES = 4096,		/* a longer one is none: the stream ends, a packet is dropped */
	QUESTIONS_MAX = 64,		/* in flight of one stream or packet side: then nothing is taken, or it is dropped */
	OUT_MAX = 128 << 10		/* answers that are not read yet: the same */
};

static const char no_question[] = "not a DNS question that can be answered";

struct talk {			/* what both kinds have */
	struct list questions;	/* struct ask */
	unsigned n;
};
struct ask {
	struct list node;	/* of its talk; alone when that has ended */
	void *owner;		/* NULL: ended */
	struct ip ip;		/* UDP: where the answer comes from */
	uint16_t port;
	uint8_t *answer;	/* UDP: one that was known at once */
	size_t n;
	char host[];
};

static struct ask *
ask_new(struct talk *t, void *owner, const char *host)
{
	size_t n = host != NULL ? strlen(host) + 1 : 1;
	struct ask *a = t->n < QUESTIONS_MAX ? calloc(1, sizeof(*a) + n) : NULL;

	if (a == NULL)
		return NULL;
	if (host != NULL)
		memcpy(a->host, host, n);
	a->owner = owner;
	list_init(&a->node);
	list_append(&t->questions, &a->node);
	t->n++;
	return a;
}

static void
ask_free(struct talk *t, struct ask *a)
{
	list_remove(&a->node);
	t->n--;
	free(a->answer);
	free(a);
}

static void
talk_end(struct talk *t)
{
	while (!list_empty(&t->questions)) {
		struct ask *a = container_of(t->questions.next, struct ask, node);

		list_remove(&a->node);
		a->owner = NULL;
	}
}

/* ---- streams */

struct dns_stream {
	struct stream s;
	struct gen *gen;
	struct talk talk;
	bool ended;			/* the client sends no more */
	bool taking;
	uint8_t in[2 + QUESTION_BYTES];
	size_t n_in;
	uint8_t *out;			/* grows up to OUT_MAX and one answer */
	size_t n_out, off, cap;
};

static void
tell_ready(struct dns_stream *d)
{
	int events = 0;

	if ((d->s.state & ST_CLOSED) != 0)
		return;
	if (d->off < d->n_out || (d->ended && d->talk.n == 0))
		events |= (int)d->s.wanted & ST_READ;
	if (d->talk.n < QUESTIONS_MAX && d->n_out - d->off < OUT_MAX)
		events |= (int)d->s.wanted & ST_WRITE;
	if (events != 0)
		stream_ready(&d->s, events);
}

static void
put(struct dns_stream *d, const uint8_t *p, size_t n)
{
	if (d->off == d->n_out)
		d->off = d->n_out = 0;
	if (d->n_out + n > d->cap) {
		size_t cap = d->n_out + n < 4096 ? 4096 : (d->n_out + n) * 2;
		uint8_t *more = realloc(d->out, cap);

		if (more == NULL) {
			stream_fail(&d->s, E_NOMEM, 0, "out of memory");
			return;
		}
		d->out = more;
		d->cap = cap;
	}
	memcpy(d->out + d->n_out, p, n);
	d->n_out += n;
}

static void on_stream_answer(void *arg, int err, const uint8_t *msg, size_t n);

/* The whole questions in d->in, as many as there is room for. An answer that is known at once comes from inside. */
static int
take_questions(struct dns_stream *d)
{
	size_t at = 0;
	int rc = 0;

	if (d->taking)
		return 0;
	d->taking = true;
	while (rc == 0 && d->n_in - at >= 2 && d->talk.n < QUESTIONS_MAX && d->n_out - d->off < OUT_MAX) {
		size_t n = (size_t)(d->in[at] << 8 | d->in[at + 1]);
		struct ask *a;

		if (n < DNS_HEADER || n > QUESTION_BYTES) {
			rc = -E_PROTO;
			break;
		}
		if (d->n_in - at - 2 < n)
			break;
		a = ask_new(&d->talk, d, NULL);
		if (a == NULL) {
			rc = -E_NOMEM;
			break;
		}
		rc = dns_serve_ask(d->gen, d->in + at + 2, n, false, on_stream_answer, a);
		if (rc != 0)
			ask_free(&d->talk, a);
		at += 2 + n;
	}
	memmove(d->in, d->in + at, d->n_in - at);
	d->n_in -= at;
	d->taking = false;
	return rc;
}

static void
on_stream_answer(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct ask *a = arg;
	struct dns_stream *d = a->owner;
	const uint8_t head[2] = { (uint8_t)(n >> 8), (uint8_t)n };

	(void)err;
	if (d == NULL) {
		free(a);
		return;
	}
	ask_free(&d->talk, a);
	if (n > 0) {
		put(d, head, 2);
		put(d, msg, n);
	}
	if (take_questions(d) != 0)
		stream_fail(&d->s, E_PROTO, 0, "%s", no_question);
	tell_ready(d);
}

static ssize_t
dns_readv(struct stream *s, const struct iovec *v, int n)
{
	struct dns_stream *d = (struct dns_stream *)s;
	size_t done = 0;

	if (s->err != 0)
		return -s->err;
	for (int i = 0; i < n && d->off < d->n_out; i++) {
		size_t k = d->n_out - d->off < v[i].iov_len ? d->n_out - d->off : v[i].iov_len;

		memcpy(v[i].iov_base, d->out + d->off, k);
		d->off += k;
		done += k;
	}
	if (done > 0) {
		tell_ready(d);
		return (ssize_t)done;
	}
	return d->ended && d->talk.n == 0 ? 0 : -E_AGAIN;
}

static ssize_t
dns_writev(struct stream *s, const struct iovec *v, int n)
{
	struct dns_stream *d = (struct dns_stream *)s;
	size_t done = 0;
	int rc = take_questions(d);

	for (int i = 0; i < n && rc == 0; i++) {
		const uint8_t *p = v[i].iov_base;
		size_t left = v[i].iov_len;

		while (left > 0 && rc == 0 && d->n_in < sizeof(d->in)) {
			size_t k = sizeof(d->in) - d->n_in < left ? sizeof(d->in) - d->n_in : left;

			memcpy(d->in + d->n_in, p, k);
			d->n_in += k;
			p += k;
			left -= k;
			done += k;
			rc = take_questions(d);
		}
		if (left > 0)
			break;
	}
	tell_ready(d);
	if (rc != 0) {
		stream_fail(s, -rc, 0, "%s", no_question);
		return rc;
	}
	return done > 0 ? (ssize_t)done : -E_AGAIN;
}

static int
dns_shut_wr(struct stream *s)
{
	struct dns_stream *d = (struct dns_stream *)s;

	(void)take_questions(d);
	d->ended = true;
	tell_ready(d);
	return 0;
}

static void
dns_want(struct stream *s, int events)
{
	s->wanted = (unsigned)events;
	tell_ready((struct dns_stream *)s);
}

static void
dns_destroy(struct stream *s)
{
	struct dns_stream *d = (struct dns_stream *)s;

	talk_end(&d->talk);
	free(d->out);
	free(d);
}

static const struct stream_ops dns_ops = {
	.name = "dns", .readv = dns_readv, .writev = dns_writev, .shut_wr = dns_shut_wr, .want = dns_want, .destroy = dns_destroy,
};

static struct stream *
dns_dial(struct outbound *ob, const struct dial *dial)
{
	struct dns_stream *d = calloc(1, sizeof(*d));

	(void)dial;
	if (d == NULL)
		return NULL;
	d->gen = ob->gen;
	list_init(&d->talk.questions);
	stream_init(&d->s, &dns_ops, &ob->gen->w->loop, NULL);
	stream_ready(&d->s, ST_OPEN);
	return &d->s;
}

/* ---- packets */

struct dns_packets {
	struct dgram d;
	struct gen *gen;
	struct talk talk;
	bool sending;			/* nobody is called from inside sendv() */
	struct loop_task later;
};

/* The caller may close d, whose memory stays until the end of the turn. */
static void
deliver(struct dns_packets *d, const struct ask *a, const uint8_t *msg, size_t n)
{
	const struct packet p = { .data = msg, .len = n, .addr = { .host = a->host, .ip = a->ip, .port = a->port } };

	if (n > 0 && d->d.cb != NULL)
		d->d.cb(&d->d, ST_READ, &p, 1, d->d.arg);
}

static void
on_later(struct loop_task *t)
{
	struct dns_packets *d = container_of(t, struct dns_packets, later);

	list_each_safe(n, tmp, &d->talk.questions) {
		struct ask *a = container_of(n, struct ask, node);

		if (a->answer == NULL)
			continue;
		deliver(d, a, a->answer, a->n);
		ask_free(&d->talk, a);
	}
}

static void
on_packet_answer(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct ask *a = arg;
	struct dns_packets *d = a->owner;

	(void)err;
	if (d == NULL) {
		free(a);
		return;
	}
	if (d->sending && n > 0 && (a->answer = malloc(n)) != NULL) {
		memcpy(a->answer, msg, n);
		a->n = n;
		loop_defer(&d->gen->w->loop, &d->later);
		return;
	}
	if (!d->sending)
		deliver(d, a, msg, n);
	ask_free(&d->talk, a);
}

static int
packets_sendv(struct dgram *g, const struct packet *p, int n)
{
	struct dns_packets *d = (struct dns_packets *)g;

	d->sending = true;
	for (int i = 0; i < n; i++) {
		struct ask *a = p[i].len <= QUESTION_BYTES ? ask_new(&d->talk, d, p[i].addr.host) : NULL;

		if (a == NULL)
			continue;	/* dropped, as the network would */
		a->ip = p[i].addr.ip;
		a->port = p[i].addr.port;
		if (dns_serve_ask(d->gen, p[i].data, p[i].len, true, on_packet_answer, a) != 0)
			ask_free(&d->talk, a);
	}
	d->sending = false;
	return n;
}

static void
packets_want(struct dgram *g, bool read)
{
	(void)g;
	(void)read;
}

static void
packets_destroy(struct dgram *g)
{
	struct dns_packets *d = (struct dns_packets *)g;

	loop_cancel(&d->later);
	list_each_safe(n, tmp, &d->talk.questions) {
		struct ask *a = container_of(n, struct ask, node);

		if (a->answer != NULL)
			ask_free(&d->talk, a);
	}
	talk_end(&d->talk);
	free(d);
}

static const struct dgram_ops packets_ops = {
	.name = "dns", .sendv = packets_sendv, .want = packets_want, .destroy = packets_destroy,
};

static struct dgram *
dns_packet(struct outbound *ob, const struct dial *dial)
{
	struct dns_packets *d = calloc(1, sizeof(*d));

	(void)dial;
	if (d == NULL)
		return NULL;
	d->gen = ob->gen;
	list_init(&d->talk.questions);
	loop_task_init(&d->later, on_later);
	dgram_init(&d->d, &packets_ops, &ob->gen->w->loop);
	d->d.state |= ST_OPEN;
	return &d->d;
}

static const char *const no_keys[] = { NULL };

const struct outbound_type outbound_dns = {
	.name = "dns", .api_name = "Dns", .flags = OB_TCP | OB_UDP, .size = sizeof(struct outbound), .keys = no_keys,
	.dial = dns_dial, .packet = dns_packet,
};
