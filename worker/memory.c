/* SPDX-License-Identifier: MIT */
/* The memory limit of a worker, sluice.worker-memory-limit, by our own accounting (loop/pool.h): records, tables, buffers and
 * the configuration's objects. At nine tenths new connections are shed with a counted and logged reason (core/conn.c), and
 * free lists and the like are given back; what was accepted goes on. Over the limit the supervisor is asked for a successor:
 * it takes over what can move, and the memory that a long life has scattered goes with this process. Called by apply.c; owns
 * its timer. */
#include "worker/memory.h"

#include "common/log.h"
#include "common/strutil.h"
#include "worker/loop/pool.h"

enum { LIMIT_MIN = 4 << 20, ASK_MS = 10000 };
static const uint64_t limit_max = 1ull << 40;

static struct {			/* one per process */
	ev_timer timer;
	bool high, charged;	/* over nine tenths; the arena is counted */
	uint64_t asked_ms;	/* when a successor was last asked for; 0 = never */
} state;

/* The factor of a unit, 0 for none. */
static uint64_t
unit_of(const char *s)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} units[] = { { "", 1 }, { "b", 1 }, { "k", 1 << 10 }, { "kb", 1 << 10 }, { "kib", 1 << 10 }, { "m", 1 << 20 },
		{ "mb", 1 << 20 }, { "mib", 1 << 20 }, { "g", 1 << 30 }, { "gb", 1 << 30 }, { "gib", 1 << 30 } };

	for (size_t i = 0; i < countof(units); i++)
		if (str_case_equal(s, units[i].name))
			return units[i].factor;
	return 0;
}

int
memory_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	static const char key[] = "worker-memory-limit";
	const struct cfg_node *map = NULL, *n;
	const char *text = NULL, *p;
	uint64_t v = 0, factor;

	if (cfg_map(cfg_get(root, "sluice"), "sluice", &map, err) != 0 || cfg_str(cfg_get(map, key), key, &text, err) != 0)
		return -E_INVAL;
	if (text == NULL)
		return 0;
	n = cfg_get(map, key);
	for (p = text; *p >= '0' && *p <= '9' && v <= limit_max; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	while (*p == ' ')
		p++;
	factor = p == text || v > limit_max ? 0 : unit_of(p);
	if (factor == 0 || v > limit_max / factor || (v != 0 && v * factor < LIMIT_MIN))
		return cfg_fail(err, n, key, "line %u: sluice.%s: not a size (like 256MiB, 1G) of at least %d MiB", n->line, key,
		    LIMIT_MIN >> 20);
	g->w->memory_limit = v * factor;
	return 0;
}

static void
look(struct worker *w, uint64_t used)
{
	uint64_t limit = w->memory_limit;
	struct msg_replace_me m = { .used = used, .limit = limit };

	if (!state.high && used >= limit / 10 * 9) {
		state.high = true;
		pool_trim();
		log_warn("%llu of %llu MiB are in use (sluice.worker-memory-limit): new connections are refused",
		    (unsigned long long)used >> 20, (unsigned long long)limit >> 20);
	} else if (state.high && used < limit / 10 * 8) {
		state.high = false;
		log_info("%llu of %llu MiB are in use: new connections are taken again", (unsigned long long)used >> 20,
		    (unsigned long long)limit >> 20);
	}
	if (used < limit || (state.asked_ms != 0 && w->loop.now_ms - state.asked_ms < ASK_MS))
		return;
	state.asked_ms = w->loop.now_ms;
	peer_send(&w->sup, MSG_REPLACE_ME, 0, &m, sizeof m, NULL, 0);
}

void
memory_check(struct worker *w)
{
	look(w, mem_in_use());
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct worker *w = t->data;

	(void)events;
	if (w->serving)
		memory_check(w);
	else
		ev_timer_stop(loop, t);
}

void
memory_start(struct worker *w)
{
	if (!state.charged)
		mem_charge((ptrdiff_t)w->gen->arena.used);
	state.charged = true;
	if (w->memory_limit == 0)
		return;
	ev_timer_init(&state.timer, on_timer, 1, 1);
	state.timer.data = w;
	ev_timer_start(w->loop.ev, &state.timer);
}
