/* SPDX-License-Identifier: MIT */
/* GET /proxies/NAME/delay and /group/NAME/delay: delay tests asked by the API, run by the lead. Results are recorded here and
 * told to the other workers, so that every one decides alike. At most ASKS_MAX questions and TESTS_MAX tests at once, then
 * 503; a question that lost its controller goes on. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/delays.h"
#include "worker/group/group.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/provider.h"
#include "worker/query.h"

enum { ASKS_MAX = 256, TESTS_MAX = 32768, SELECT_MS = 5000, NAME_TEXT_MAX = 1024, URL_TEXT_MAX = 2048, EXPECTED_MAX = 512 };

struct ask;
struct test {
	struct ask *ask;
	struct outbound *ob;
	bool status_ok;
	int ms;				/* of a test that succeeded */
};
struct ask {
	struct worker *w;
	struct peer *peer;		/* NULL: gone */
	uint32_t id;
	struct group *group;		/* NULL: one proxy */
	bool quiet;			/* only that it is over is asked */
	int waiting, n;
	struct ask *next;
	char url[URL_TEXT_MAX];
	struct test test[];
};
static struct ask *asks;
static int n_asks, n_tests;

void
query_delay_peer_gone(struct peer *p)
{
	for (struct ask *a = asks; a != NULL; a = a->next)
		if (a->peer == p)
			a->peer = NULL;
}

static void
answer_group(struct ask *a)
{
	struct wire out;
	int alive = 0;

	wire_init(&out);
	value_map(&out);
	for (int i = 0; i < a->n; i++)
		if (a->test[i].ms > 0) {
			value_key(&out, a->test[i].ob->name);
			value_int(&out, a->test[i].ms);
			alive++;
		}
	value_map_end(&out);
	if (alive > 0) {
		query_answer(a->peer, a->id, &out);
		return;
	}
	wire_free(&out);
	query_error(a->peer, a->id, 504, "get delay: all proxies timeout");
}

static void
answer_one(struct ask *a, int err)
{
	struct wire out;

	if (a->quiet) {
		delays_flush(a->w); /* the others shall know whether it lives when they are told to choose it */
		wire_init(&out);
		query_answer(a->peer, a->id, &out);
		return;
	}
	if (err != 0) {
		query_error(a->peer, a->id, err == E_TIMEOUT ? 504 : 503,
		    err == E_TIMEOUT ? "Timeout" : "An error occurred in the delay test");
		return;
	}
	wire_init(&out);
	wire_put_u16(&out, (uint16_t)(a->test[0].ms > UINT16_MAX ? UINT16_MAX : a->test[0].ms));
	query_answer(a->peer, a->id, &out);
}

static void
finish(struct ask *a, int err)
{
	if (a->group != NULL)
		group_tested(a->group);
	if (a->peer != NULL && a->group != NULL)
		answer_group(a);
	else if (a->peer != NULL)
		answer_one(a, err);
	for (struct ask **p = &asks; *p != NULL; p = &(*p)->next)
		if (*p == a) {
			*p = a->next;
			break;
		}
	n_asks--;
	free(a);
}

static void
on_done(void *arg, int ms, int err)
{
	struct test *t = arg;
	struct ask *a = t->ask;
	int64_t now = loop_wall_ns();
	/* a status outside `expected` still tells a delay, but the node does not count as alive for this URL (spec/api.md 2.8) */
	bool alive = err == 0 && t->status_ok;
	uint16_t recorded = err == 0 ? (uint16_t)(ms > UINT16_MAX ? UINT16_MAX : ms) : 0;

	n_tests--;
	t->ms = err == 0 ? ms : 0;
	delays_record(a->w, t->ob, a->url, recorded, alive, now);
	worker_touch(a->w);
	if (--a->waiting == 0)
		finish(a, err);
}

static struct ask *
new_ask(struct worker *w, struct peer *p, uint32_t id, int n, const char *url)
{
	struct ask *a =
	    n_asks < ASKS_MAX && n_tests + n <= TESTS_MAX ? calloc(1, sizeof *a + (size_t)n * sizeof a->test[0]) : NULL;

	if (a == NULL) {
		query_error(p, id, 503, "too many delay tests are running");
		return NULL;
	}
	a->w = w;
	a->peer = p;
	a->id = id;
	a->n = n;
	str_copy(a->url, sizeof a->url, url);
	a->next = asks;
	asks = a;
	n_asks++;
	return a;
}

/* Starts them all; those that cannot start have failed. waiting is held at one more until every one was started. */
static void
start(struct ask *a, unsigned timeout, const char *expected)
{
	int err = 0;

	a->waiting = 1;
	for (int i = 0; i < a->n; i++) {
		struct test *t = &a->test[i];

		t->ask = a;
		err = 0;
		if (delay_start(t->ob, a->url, timeout, expected, on_done, t, &err, &t->status_ok) != NULL) {
			a->waiting++;
			n_tests++;
		} else {
			delays_record(a->w, t->ob, a->url, 0, false, loop_wall_ns());
		}
	}
	if (--a->waiting == 0)
		finish(a, err != 0 ? err : E_INVAL);
}

/* provider: "", a provider, or a group that stands for its own (spec/api.md 2.10), whose members are found by their names. */
static struct outbound *
provider_member(struct gen *g, const char *provider, const char *name)
{
	return node_find(g, provider_find(g, provider) != NULL ? provider : "", name);
}

void
query_delay(struct worker *w, struct peer *p, uint32_t id, struct wire *args, bool group)
{
	char name[NAME_TEXT_MAX], url[URL_TEXT_MAX], expected[EXPECTED_MAX], provider[NAME_TEXT_MAX] = "";
	uint32_t timeout;
	struct outbound *ob;
	struct group *g;
	struct ask *a;

	if (wire_get_str(args, name, sizeof name) != 0 || wire_get_str(args, url, sizeof url) != 0 ||
	    wire_get_u32(args, &timeout) != 0 || wire_get_str(args, expected, sizeof expected) != 0 ||
	    (wire_left(args) > 0 && wire_get_str(args, provider, sizeof provider) != 0)) {
		query_error(p, id, 400, "Body invalid");
		return;
	}
	ob = provider_member(w->gen, provider, name);
	g = ob != NULL ? group_of(ob) : NULL;
	if (ob == NULL || (group && g == NULL)) {
		query_error(p, id, 404, "Resource not found");
		return;
	}
	/* a url-test group ignores the parameter and tests its own URL (spec/api.md 2.9) */
	a = new_ask(w, p, id, group ? g->n_members : 1, group && str_equal(ob->type->name, "url-test") ? g->url : url);
	if (a == NULL)
		return;
	a->group = group ? g : NULL;
	for (int i = 0; i < a->n; i++)
		a->test[i].ob = group ? g->members[i] : ob;
	start(a, timeout, expected);
}

/* PUT of a fallback's member: a dead one is tested first, so that it is not forgotten at once if it lives again (spec/api.md
 * 2.8). */
void
query_before_select(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	char group[NAME_TEXT_MAX], name[NAME_TEXT_MAX];
	struct outbound *ob, *member = NULL;
	struct group *g;
	struct wire out;
	struct ask *a;

	if (wire_get_str(args, group, sizeof group) != 0 || wire_get_str(args, name, sizeof name) != 0) {
		query_error(p, id, 400, "Body invalid");
		return;
	}
	ob = outbound_find(w->gen, group);
	g = ob != NULL ? group_of(ob) : NULL;
	if (g != NULL && g->gtype == &group_fallback_type)
		member = group_find_member(g, name);
	if (member == NULL || group_alive(g, member)) {
		delays_flush(w);
		wire_init(&out);
		query_answer(p, id, &out);
		return;
	}
	a = new_ask(w, p, id, 1, g->url);
	if (a == NULL)
		return;
	a->quiet = true;
	a->test[0].ob = member;
	start(a, SELECT_MS, g->expected);
}
