/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/dns/link.c: a lead and a follower in one process, and in place of the network exchanges that the test
 * ends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/err.h"
#include "common/imsg.h"
#include "tests/unit/gen_kit.h"
#include "tests/unit/worker_net.h"
#include "worker/codec/dns.h"
#include "worker/dns/internal.h"
#include "worker/dns/link.h"

int
priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err)
{
	(void)w;
	(void)kind;
	return cfg_fail(err, NULL, "", "%s: not in this test", path);
}

/* ---- in place of the network */

enum { ASKED_MAX = 2048 };
static struct exchange {
	struct resolver *r;
	char name[64];
	exchange_cb *cb;		/* NULL: ended */
	void *arg;
} asked[ASKED_MAX];
static int n_asked;

int
exchange_start(struct resolver *r, const struct upstreams *set, const char *name, uint16_t type, exchange_cb *cb, void *arg,
    struct exchange **out)
{
	struct exchange *x = &asked[n_asked++];

	(void)set;
	(void)type;
	assert_true(n_asked <= ASKED_MAX);
	*x = (struct exchange){ .r = r, .cb = cb, .arg = arg };
	snprintf(x->name, sizeof(x->name), "%s", name);
	*out = x;
	return 0;
}

void
exchange_cancel(struct exchange *x)
{
	x->cb = NULL;
}

void
exchange_cancel_all(struct resolver *r)
{
	(void)r;
}

/* ---- */

static struct rig rig;
static struct kit kit;			/* of one configuration for all */
static struct gen lead, second, follower;
static uint8_t message[DNS_MSG_MAX];

struct heard {
	struct dns_wait wait;
	int calls, err;
	size_t n;
	bool flag;
};

static void
on_raw(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct heard *h = arg;

	(void)msg;
	h->calls++;
	h->err = err;
	h->n = n;
	h->flag = true;
}

static void
ask(struct gen *g, struct heard *h, const char *name)
{
	struct cache_hit hit;

	*h = (struct heard){ .calls = 0 };
	if (question_cached(g->resolver, USE_RULES, DNS_T_A, name, &hit))
		on_raw(h, 0, hit.msg, hit.n);
	else
		assert_int_equal(question_ask(g->resolver, USE_RULES, DNS_T_A, name, &h->wait, on_raw, h), 0);
}

static void
turns(int n)
{
	while (n-- > 0)
		loop_turn(&rig.w.loop);
}

/* The answer of exchange i: n address records. */
static void
end(int i, int n, int err)
{
	static const uint8_t a[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 77, 0, 4, 198, 51, 100, 7 };
	exchange_cb *cb = asked[i].cb;
	int len = dns_query_write(message, 7, asked[i].name, DNS_T_A, 0);

	assert_non_null(cb);
	asked[i].cb = NULL;
	message[2] |= 0x80;
	message[6] = (uint8_t)(n >> 8);
	message[7] = (uint8_t)n;
	for (int k = 0; k < n; k++, len += (int)sizeof(a))
		memcpy(message + len, a, sizeof(a));
	cb(asked[i].arg, err, err == 0 ? message : NULL, err == 0 ? (size_t)len : 0);
	turns(10);
}

static void
make(struct gen *g)
{
	struct cfg_err err;

	*g = kit.gen;
	g->w = &rig.w;
	arena_init(&g->arena);
	assert_int_equal(hosts_parse(g, kit.tree.root, &err), 0);
	assert_int_equal(dns_parse(g, kit.tree.root, &err), 0);
	assert_int_equal(resolver_start(g, &err), 0);
}

static void
connect_to(struct gen *to)
{
	int pair[2];

	assert_int_equal(imsg_pair(pair), 0);
	resolver_link(to, pair[0], true);
	resolver_link(&follower, pair[1], false);
	turns(3);
}

static int
setup(void **state)
{
	(void)state;
	n_asked = 0;
	rig_start(&rig);
	assert_int_equal(
	    kit_open(&kit, "dns: {enable: true, nameserver: [192.0.2.53], enhanced-mode: normal, use-system-hosts: false}"), 0);
	make(&lead);
	make(&second);
	make(&follower);
	connect_to(&lead);
	return 0;
}

static int
teardown(void **state)
{
	struct gen *all[] = { &lead, &second, &follower };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		resolver_stop(all[i]);
		arena_free(&all[i]->arena);
	}
	turns(2);
	loop_fini(&rig.w.loop);
	kit_close(&kit);
	return 0;
}

/* ---- */

static void
test_asked_once(void **state)
{
	struct heard h[4];

	(void)state;
	ask(&follower, &h[0], "a.test");
	ask(&follower, &h[1], "a.test");
	turns(5);
	ask(&lead, &h[2], "a.test");
	assert_int_equal(n_asked, 1);
	assert_ptr_equal(asked[0].r, lead.resolver);
	end(0, 1, 0);
	for (int i = 0; i < 3; i++)
		assert_true(h[i].calls == 1 && h[i].err == 0 && h[i].n > 0);
	ask(&follower, &h[3], "a.test");
	assert_int_equal(h[3].calls, 1);	/* its own cache */
	assert_int_equal(n_asked, 1);
	ask(&follower, &h[0], "bad.test");
	turns(5);
	end(1, 0, E_TIMEOUT);
	assert_true(h[0].calls == 1 && h[0].err == E_TIMEOUT);
	ask(&follower, &h[0], "long.test");
	turns(5);
	end(2, 3000, 0);
	assert_true(h[0].calls == 1 && h[0].err == 0 && h[0].n > 48000);
}

static void
test_more_than_fit(void **state)
{
	static struct heard h[LINK_FLIGHT_MAX + 100];
	char name[32];

	(void)state;
	for (int i = 0; i < LINK_FLIGHT_MAX + 100; i++) {
		snprintf(name, sizeof(name), "n%d.test", i);
		ask(&follower, &h[i], name);
	}
	turns(40);
	assert_int_equal(n_asked, LINK_FLIGHT_MAX);
	for (int i = 0; i < LINK_FLIGHT_MAX + 100; i++)
		end(i, 1, 0);
	for (int i = 0; i < LINK_FLIGHT_MAX + 100; i++)
		assert_true(h[i].calls == 1 && h[i].err == 0);
}

static void
test_cancel(void **state)
{
	struct heard h[3];

	(void)state;
	ask(&follower, &h[0], "a.test");
	turns(5);
	resolver_query_cancel(&h[0].wait);
	ask(&follower, &h[1], "b.test");
	turns(5);
	end(0, 1, 0);			/* of nobody any more */
	end(1, 1, 0);
	assert_int_equal(h[0].calls, 0);
	assert_int_equal(h[1].calls, 1);
}

static void
test_flush(void **state)
{
	struct heard h;

	(void)state;
	ask(&follower, &h, "a.test");
	turns(5);
	resolver_flush(&follower);	/* this end is first */
	end(0, 1, 0);
	assert_int_equal(h.calls, 1);
	assert_int_equal(cache_count(&follower.resolver->cache), 0);
	ask(&follower, &h, "a.test");
	turns(5);
	assert_int_equal(h.calls, 1);	/* from the lead's cache, which is not flushed yet: told, but not kept */
	assert_int_equal(cache_count(&follower.resolver->cache), 0);
	resolver_flush(&lead);
	ask(&follower, &h, "a.test");
	turns(5);
	assert_int_equal(n_asked, 2);
	end(1, 1, 0);
	assert_int_equal(cache_count(&follower.resolver->cache), 1);
}

static void
test_another_lead(void **state)
{
	struct heard h[2];

	(void)state;
	ask(&follower, &h[0], "a.test");
	turns(5);
	resolver_stop(&lead);
	turns(5);
	ask(&follower, &h[1], "b.test");
	turns(5);
	assert_int_equal(n_asked, 1);	/* they wait for who comes */
	connect_to(&second);
	turns(5);
	assert_int_equal(n_asked, 3);
	assert_ptr_equal(asked[1].r, second.resolver);
	assert_string_equal(asked[1].name, "a.test");
	end(1, 1, 0);
	end(2, 1, 0);
	assert_true(h[0].calls == 1 && h[1].calls == 1);
	ask(&follower, &h[0], "c.test");
	turns(5);
	connect_to(&second);		/* the first is still there */
	turns(5);
	assert_int_equal(n_asked, 4);	/* it has it in flight */
	end(3, 1, 0);
	assert_int_equal(h[0].calls, 1);
}

static void
test_nobody_leads(void **state)
{
	static struct heard h[3];

	(void)state;
	ask(&follower, &h[0], "a.test");
	turns(5);
	resolver_stop(&lead);
	for (int i = 0; i < 100 && n_asked < 2; i++) {
		usleep(10000);
		turns(1);
	}
	assert_int_equal(n_asked, 2);
	assert_ptr_equal(asked[1].r, follower.resolver);
	end(1, 1, 0);
	assert_int_equal(h[0].calls, 1);
	ask(&follower, &h[1], "b.test");
	assert_int_equal(n_asked, 3);	/* and from now on at once */
	connect_to(&second);
	ask(&follower, &h[2], "c.test");
	turns(5);
	assert_ptr_equal(asked[3].r, second.resolver);
	resolver_lead(&follower);	/* it is appointed itself */
	turns(5);
	assert_ptr_equal(asked[4].r, follower.resolver);
	assert_string_equal(asked[4].name, "c.test");
}

static struct {
	dns_serve_cb *cb;
	void *arg;
	bool udp, at_once;
	int rc;
	size_t n;
} served;

static int
serve(struct gen *g, const uint8_t *p, size_t n, bool udp, dns_serve_cb *cb, void *arg)
{
	assert_ptr_equal(g, &lead);
	assert_memory_equal(p, "question", 8);
	served.n = n;
	served.udp = udp;
	served.cb = cb;
	served.arg = arg;
	if (served.rc == 0 && served.at_once)
		cb(arg, 0, p, n);
	return served.rc;
}

static void
on_served(void *arg, int err, const uint8_t *msg, size_t n, bool keep)
{
	(void)msg;
	(void)keep;
	*(int *)arg = err != 0 ? err : (int)n;
}

/* A client's question, which goes to the lead's DNS server as it is. */
static void
test_clients_questions(void **state)
{
	static struct link_ask a;
	int got = 0;

	(void)state;
	memset(&served, 0, sizeof(served));
	link_serve(follower.resolver, &a, (const uint8_t *)"question", 8, true, on_served, &got);
	turns(5);
	assert_int_equal(got, E_UNSUP);		/* it has no server */
	lead.resolver->serve = serve;
	link_serve(follower.resolver, &a, (const uint8_t *)"question", 8, true, on_served, &got);
	turns(5);
	assert_true(served.n == 8 && served.udp && got == E_UNSUP);
	served.cb(served.arg, E_DNS, (const uint8_t *)"servfail", 8);
	turns(5);
	assert_int_equal(got, 8);
	served.at_once = true;
	link_serve(follower.resolver, &a, (const uint8_t *)"question", 8, false, on_served, &got);
	turns(5);
	assert_true(got == 8 && !served.udp);
	served.rc = -E_LIMIT;
	link_serve(follower.resolver, &a, (const uint8_t *)"question", 8, false, on_served, &got);
	turns(5);
	assert_int_equal(got, E_LIMIT);
	served.rc = 0;
	served.at_once = false;
	got = 0;
	link_serve(follower.resolver, &a, (const uint8_t *)"question", 8, false, on_served, &got);
	turns(5);
	resolver_lead(&follower);		/* the channel ends before the answer */
	assert_int_equal(got, -E_AGAIN);
	turns(5);
	served.cb(served.arg, 0, (const uint8_t *)"answer", 6);	/* nobody waits any more */
}

/* An old generation: its lead has ended with its connections, and no other is appointed. */
static void
test_drain(void **state)
{
	static struct heard h;

	(void)state;
	ask(&follower, &h, "a.test");
	turns(5);
	assert_int_equal(resolver_pending(&lead), 1);
	assert_int_equal(resolver_pending(&follower), 0);
	rig.w.draining = true;
	resolver_stop(&lead);
	turns(5);
	assert_int_equal(n_asked, 2);
	assert_ptr_equal(asked[1].r, follower.resolver);
	end(1, 1, 0);
	assert_int_equal(h.calls, 1);
}

/* The lead turns, but its answer never comes. */
static void
test_silence(void **state)
{
	struct heard h;

	(void)state;
	loop_fake_clock(&rig.w.loop, 1000);
	ask(&follower, &h, "a.test");
	turns(5);
	loop_fake_clock(&rig.w.loop, 1000 + LINK_SILENT_MS);
	assert_true(rig_wait(&rig, &h.flag));
	assert_int_equal(h.err, E_TIMEOUT);
	end(0, 1, 0);			/* too late: the place is free again, nobody is told */
	assert_int_equal(h.calls, 1);
}

/* A peer that breaks the table ends itself. */
static void
test_hostile(void **state)
{
	static const struct msg_resolved answer = { .err = E_DNS };
	struct msg_resolve q = { .use = USES_ };
	int fd[2], mine;
	struct heard h;
	uint8_t name[] = { 2, 0, 0, 0, 'a', 'b' }, body[sizeof(q) + sizeof(name)];

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(imsg_pair(fd), 0);
		resolver_link(&lead, fd[0], true);
		mine = fd[1];
		q.use = i == 0 ? USES_ : USE_RULES;
		memcpy(body, &q, sizeof(q));
		memcpy(body + sizeof(q), name, sizeof(name));
		assert_int_equal(imsg_send(mine, MSG_RESOLVE, i == 1 ? 0 : i == 2 ? LINK_FLIGHT_MAX + 1 : 1, body,
		    i == 3 ? sizeof(q) + 1 : sizeof(body), NULL, 0), 0);
		turns(5);
		assert_int_equal(recv(mine, body, 1, MSG_DONTWAIT), 0);
		close(mine);
		assert_int_equal(n_asked, 0);
	}
	imsg_pair(fd);
	resolver_link(&follower, fd[0], false);
	ask(&follower, &h, "a.test");
	turns(5);
	imsg_send(fd[1], MSG_RESOLVED, 77, &answer, sizeof(answer), NULL, 0);	/* nobody asked that */
	turns(5);
	connect_to(&second);
	turns(5);
	assert_int_equal(n_asked, 1);
	end(0, 1, 0);
	assert_int_equal(h.calls, 1);
	close(fd[1]);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_asked_once),
		T(test_more_than_fit),
		T(test_cancel),
		T(test_flush),
		T(test_another_lead),
		T(test_nobody_leads),
		T(test_clients_questions),
		T(test_drain),
		T(test_silence),
		T(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
