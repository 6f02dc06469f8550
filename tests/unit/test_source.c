/* SPDX-License-Identifier: MIT */
/* Where providers' content comes from: when a download that failed is tried again, what is believed of what was kept, and what
 * a worker that drains leaves behind. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/image.h"
#include "tests/unit/worker_net.h"
#include "worker/outbound/outbound.h"
#include "worker/source.h"

enum { SOURCES = 12, FETCHES = 8 };

static struct rig rig;
static struct source source[SOURCES];
static int64_t updated[SOURCES];
static char name[SOURCES][16], url[64];
static bool has_content, done;
static int done_status, done_calls;

static int
take(struct source *s, const struct msg_image *m, int fd, bool *changed, struct cfg_err *err)
{
	(void)s;
	(void)m;
	(void)fd;
	(void)err;
	*changed = true;
	return 0;
}

static bool
empty(const struct source *s)
{
	(void)s;
	return !has_content;
}

static void
changed(struct source *s)
{
	(void)s;
}

static const struct source_type type = { .change = CHANGE_RULE_SET, .what = "test", .take = take, .empty = empty, .changed = changed };

static void
on_done(void *arg, int status, const char *text)
{
	(void)arg;
	assert_int_equal(status == 204, text[0] == '\0');
	done = true;
	done_status = status;
	done_calls++;
}

static int
start(void **state)
{
	struct cfg_err err = { 0 };

	(void)state;
	rig_start(&rig);
	rig.w.sup.fd = -1;
	rig.w.lead = rig.w.serving = true;
	arena_init(&rig.gen.arena);
	map_init(&rig.gen.proxies);
	general_defaults(&rig.gen);
	assert_int_equal(outbounds_parse(&rig.gen, NULL, &err), 0);
	done_calls = 0;
	has_content = false;
	for (int i = 0; i < SOURCES; i++) {
		(void)snprintf(name[i], sizeof name[i], "s%d", i);
		updated[i] = 0;
		source[i] = (struct source){ .w = &rig.w, .type = &type, .name = name[i], .url = url, .path = "p", .proxy = "",
			.vehicle = VEHICLE_HTTP, .kind = IMAGE_DOMAIN, .format = FORMAT_TEXT, .updated_ns = &updated[i] };
		source_ask(&source[i]);
	}
	return 0;
}

static int
end(void **state)
{
	(void)state;
	sources_stop(&rig.w);
	for (int i = 0; i < SOURCES; i++)
		list_remove(&source[i].link);
	rig_turns(&rig, 3);
	outbounds_fini(&rig.gen);
	loop_fini(&rig.w.loop);
	map_free(&rig.gen.proxies);
	arena_free(&rig.gen.arena);
	return 0;
}

/* Fails once more; until the next time in ms. */
static uint64_t
fails(struct source *s)
{
	done = false;
	source_update(s, on_done, NULL);
	assert_true(rig_wait(&rig, &done));
	assert_int_equal(done_status, 503);
	assert_string_not_equal(s->why, "");
	return s->next_ms == 0 ? 0 : s->next_ms - rig.w.loop.now_ms;
}

static void
test_retries(void **state)
{
	uint64_t wait, least = UINT64_MAX, most = 0;

	(void)state;
	(void)snprintf(url, sizeof url, "http://127.0.0.1:1/");
	/* half a minute, doubled seven times; an eighth more or less */
	for (unsigned n = 1; n <= 10; n++) {
		uint64_t want = (uint64_t)30000 << (n <= 8 ? n - 1 : 7);

		wait = fails(&source[0]);
		assert_in_range(wait, want - want / 8 - 100, want + want / 8);	/* the loop has turned since */
	}
	/* not all at the same time */
	for (int i = 1; i < SOURCES; i++) {
		wait = fails(&source[i]);
		least = wait < least ? wait : least;
		most = wait > most ? wait : most;
	}
	assert_true(most - least > 500);
	/* never later than asked for, whether there is a content or not */
	source[1].interval_s = 40;
	assert_in_range(fails(&source[1]), 39900, 40000);
	has_content = true;
	assert_in_range(fails(&source[1]), 39900, 40000);
	source[1].interval_s = 0;
	assert_int_equal(fails(&source[1]), 0);
}

static void
test_drain(void **state)
{
	uint16_t port = 0;
	int l = listen_on("127.0.0.1", &port);

	(void)state;
	(void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
	for (int i = 0; i < SOURCES; i++)
		source_update(&source[i], on_done, NULL);
	rig_turns(&rig, 20);
	assert_int_equal(done_calls, 0);
	for (int i = 0; i < SOURCES; i++)
		assert_int_equal(source[i].fetch != NULL, i < FETCHES);
	rig.w.serving = false;
	sources_stop(&rig.w);
	assert_int_equal(done_calls, SOURCES);
	assert_int_equal(done_status, 503);
	rig_turns(&rig, 3);
	close(l);
}

static void
put(struct wire *w, uint32_t change, const char *n, const char *at, int64_t file, int64_t checked)
{
	wire_put_u32(w, change);
	wire_put_str(w, n);
	wire_put_str(w, at);
	wire_put_str(w, "\"e\"");
	wire_put_str(w, "date");
	wire_put_u64(w, (uint64_t)file);
	wire_put_u64(w, (uint64_t)checked);
	wire_put_bool(w, false);
	for (int i = 0; i < 4; i++)
		wire_put_u64(w, 0);
}

static void
test_kept(void **state)
{
	static const int64_t file = 1000, now = 2000;
	struct wire w, in;

	(void)state;
	(void)snprintf(url, sizeof url, "http://h/");
	for (int i = 0; i < SOURCES; i++)
		source[i].file_ns = updated[i] = file;
	wire_init(&w);
	wire_put_u32(&w, 0);
	wire_put_u32(&w, 6);
	put(&w, CHANGE_RULE_SET, "s0", url, file, now);
	put(&w, CHANGE_RULE_SET, "s1", url, file + 1, now);		/* of another file */
	put(&w, CHANGE_RULE_SET, "s2", "http://other/", file, now);
	put(&w, CHANGE_NODES, "s3", url, file, now);
	put(&w, CHANGE_RULE_SET, "s4", url, file, INT64_MAX);		/* of a clock that was wrong */
	put(&w, CHANGE_RULE_SET, "gone", url, file, now);
	/* cut off anywhere, and the earlier form: nothing but what came whole */
	for (size_t n = 0; n < w.len; n++) {
		wire_read(&in, w.p, n);
		sources_restore(&rig.w, &in);
	}
	for (int i = 0; i < SOURCES; i++)
		source[i].etag[0] = '\0', updated[i] = file;
	wire_set_u32(&w, 0, 1);
	wire_read(&in, w.p, w.len);
	sources_restore(&rig.w, &in);
	assert_string_equal(source[0].etag, "");
	wire_set_u32(&w, 0, 0);
	wire_read(&in, w.p, w.len);
	sources_restore(&rig.w, &in);
	assert_string_equal(source[0].etag, "\"e\"");
	assert_string_equal(source[0].modified, "date");
	assert_int_equal(updated[0], now);
	for (int i = 1; i < 4; i++) {
		assert_string_equal(source[i].etag, "");
		assert_int_equal(updated[i], file);
	}
	assert_string_equal(source[4].etag, "\"e\"");
	assert_int_equal(updated[4], file);
	wire_free(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_retries, start, end),
		cmocka_unit_test_setup_teardown(test_drain, start, end),
		cmocka_unit_test_setup_teardown(test_kept, start, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
