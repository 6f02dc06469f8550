/* SPDX-License-Identifier: MIT */
/* supervisor/adopt.c: the state over an execve: what is written is read as it was, byte for byte when written again; what is
 * damaged, cut, of another version, another process's or contradictory is refused, whatever byte it is. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "supervisor/adopt.h"
#include "supervisor/change.h"
#include "supervisor/child.h"
#include "supervisor/control.h"
#include "supervisor/images.h"
#include "supervisor/lastgood.h"
#include "supervisor/listeners.h"
#include "supervisor/reload.h"
#include "supervisor/upgrade.h"

enum { HEAD = 20, VERSION_AT = 8, SUM_AT = 12 };

/* Clocks that stand still, one far from the other: what is written twice is the same. */
int
clock_gettime(clockid_t id, struct timespec *ts)
{
	*ts = (struct timespec){ .tv_sec = id == CLOCK_REALTIME ? 1700000000 : 5000 };
	return 0;
}

/* main.c's, which is not linked */
void
sup_stop(struct sup *s, int exit_code)
{
	(void)s;
	(void)exit_code;
	fail_msg("the supervisor was stopped");
}

void
sup_child_gone(struct sup *s)
{
	(void)s;
}

static struct sup *
make(void)
{
	struct sup *s = calloc(1, sizeof *s);

	assert_non_null(s);
	s->loop = ev_loop_new(EV_SLUICE);
	s->lock_fd = s->stdin_fd = -1;
	list_init(&s->children);
	list_init(&s->generations);
	listeners_init(s);
	changes_init(s);
	images_init(s);
	reload_init(s);
	lastgood_init(s);
	control_init(s);
	upgrade_init(s);
	return s;
}

static void
drop(struct sup *s)
{
	adopt_forget(s);
	ev_loop_destroy(s->loop);
	free(s->listeners);
	free(s->changes);
	free(s->images);
	free(s->reload);
	free(s->control);
	free(s->upgrade);
	free(s);
}

static struct generation *
add_generation(struct sup *s, uint32_t number, enum generation_state state, int workers)
{
	struct generation *g = calloc(1, sizeof *g);

	assert_non_null(g);
	g->sup = s;
	g->number = number;
	g->state = state;
	g->n_workers = workers;
	for (int i = 0; i < WORKERS_MAX; i++)
		g->reader[i] = (uint8_t)i;
	g->reader[workers - 1] = state == GEN_SERVING ? 0 : NOBODY;
	g->set = number;
	g->hash = 0x1234567890abcdef + number;
	g->born = 1000.5 + number;
	g->failures[0] = 2;
	g->tree_fd = memfd_from("tree", "a: 1", 4);
	g->opts = (struct msg_job_done){
		.workers = 2, .stop_grace_ms = 3, .drain_timeout_s = 4, .max_generations = 5, .flags = 1, .external_ui = "ui"
	};
	str_copy(g->build, sizeof g->build, "0.1");
	list_append(&s->generations, &g->link);
	return g;
}

static struct child *
add_child(struct sup *s, enum sandbox_role role, struct generation *g, uint32_t index, uint32_t slot, enum child_state state)
{
	struct child c = { .sup = s, .role = role, .gen = g, .index = index, .slot = slot, .state = state, .set = 7, .ipc = IMSG_VERSION, 
		.pid = getpid(), .statm_fd = -1,
		.started = 2000.25, .name = "someone" }, *made;
	int channel[2], log[2];

	assert_int_equal(imsg_pair(channel), 0);
	assert_int_equal(imsg_pair(log), 0);
	c.pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	c.log_fd = log[0];
	made = child_adopt(s, &c, channel[0]);
	assert_non_null(made);
	if (g != NULL)
		g->worker[index] = made;
	if (slot < STAT_SLOTS) {
		s->page[slot].fd = memfd_shared("page", STAT_PAGE);
		s->page[slot].used = true;
	}
	return made;
}

static void
add_listener(struct sup *s, struct child *c, uint16_t kind, uint16_t flags)
{
	struct msg_listen key = { .kind = kind, .flags = flags, .mode = 0660, .ip = { 4, { 127, 0, 0, 1 } } };
	uint8_t slots[LISTEN_SLOTS_MAX];
	int fds[LISTEN_SLOTS_MAX], n;
	char why[320] = "";

	n = listeners_take(s, c, &key, fds, slots, why, sizeof why);
	assert_true(n > 0);
	imsg_close_fds(fds, n);
}

/* A service with a serving and a draining generation, a controller, listeners, blobs and changes behind it. */
static struct sup *
service(void)
{
	struct sup *s = make();
	struct generation *old = add_generation(s, 3, GEN_DRAINING, 1), *g = add_generation(s, 5, GEN_SERVING, 2);
	struct child *w;
	char why[320];

	s->home_fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->lock_fd = memfd_create("lock", MFD_CLOEXEC);
	str_copy(s->home, sizeof s->home, "/tmp");
	str_copy(s->program_path, sizeof s->program_path, "/usr/bin/sluice");
	str_copy(s->upgrade_note, sizeof s->upgrade_note, "rolled back");
	str_copy(s->rollback_note, sizeof s->rollback_note, "generation 7");
	s->log_level = LL_WARNING;
	s->log_tap = LL_DEBUG;
	s->rolled_back = 4;
	programs_clear(&s->programs);
	programs_clear(&s->held);
	for (int r = 0; r < ROLE_MAX_; r++)
		if (programs_name((enum sandbox_role)r) != NULL)
			s->programs.fd[r] = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	s->programs.serial = 5;
	s->programs.ipc = IMSG_VERSION;
	str_copy(s->programs.build, sizeof s->programs.build, "0.2");
	for (int k = 0; k < STATE_KINDS_; k++)
		s->state_fd[k] = -1;
	for (int i = 0; i < STAT_SLOTS; i++)
		s->page[i].fd = -1;
	for (int k = 0; k < SHARED_KINDS; k++)
		s->dns_fd[k] = -1;
	s->dns_fd[2] = memfd_shared("fakeip", STAT_PAGE);
	s->state_fd[STATE_SELECT] = memfd_from("state", "x", 1);
	s->shared_fd = memfd_shared("shared", STAT_PAGE);
	s->last_generation = 6;
	s->serving = g;
	s->ctl_tree_fd = memfd_from("tree", "b: 2", 4);
	s->ctl_opts = g->opts;
	s->controller_failures = 1;
	add_child(s, ROLE_WORKER, old, 0, 9, CH_DRAINING);
	w = add_child(s, ROLE_WORKER, g, 0, 11, CH_DRAINING);	/* replaced, and not gone yet */
	w->stopping = true;
	w = add_child(s, ROLE_WORKER, g, 0, 0, CH_SERVING);
	add_listener(s, w, LISTEN_TCP, 0);
	add_listener(s, w, LISTEN_UDP, 0);
	w = add_child(s, ROLE_WORKER, g, 1, 2, CH_SERVING);
	add_listener(s, w, LISTEN_UDP, 0);
	s->controller = add_child(s, ROLE_CONTROLLER, NULL, 0, STAT_SLOTS, CH_SERVING);
	add_listener(s, s->controller, LISTEN_TCP, LISTEN_ONE);
	add_child(s, ROLE_CONTROLLER, NULL, 0, STAT_SLOTS, CH_SERVING)->stopping = true;
	assert_int_equal(listeners_serve(s, why, sizeof why), 0);
	changes_resume(s, 77);
	return s;
}

static uint8_t *
bytes(struct sup *s, size_t *n, int *n_fds)
{
	int *fds, fd = adopt_save(s, ADOPT_VERSION, &fds, n_fds);
	const void *p;
	uint8_t *out;

	assert_true(fd >= 0);
	assert_int_equal(memfd_map(fd, &p, n, ADOPT_MAX), 0);
	out = malloc(*n);
	assert_non_null(out);
	memcpy(out, p, *n);
	munmap((void *)(uintptr_t)p, *n);
	close(fd);
	free(fds);
	return out;
}

static void
sign(uint8_t *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = HEAD; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	for (size_t i = 0; i < 8; i++)
		p[SUM_AT + i] = (uint8_t)(h >> (8 * i));
}

static int
load(struct sup *s, const uint8_t *p, size_t n)
{
	int fd = memfd_from("state", p, n), rc;
	char why[200] = "";

	assert_true(fd >= 0);
	rc = adopt_load(s, fd, why, sizeof why);
	assert_int_equal(rc != 0, why[0] != '\0');
	close(fd);
	return rc;
}

struct kit {
	struct sup *s;
	uint8_t *p;
	size_t n;
	int n_fds;
};

static int
setup(void **state)
{
	struct kit *k = calloc(1, sizeof *k);

	assert_non_null(k);
	log_set_level(LL_SILENT);
	k->s = service();
	k->p = bytes(k->s, &k->n, &k->n_fds);
	*state = k;
	return 0;
}

static int
teardown(void **state)
{
	struct kit *k = *state;

	drop(k->s);
	free(k->p);
	free(k);
	close_range(10, ~0U, 0);
	return 0;
}

static void
test_adopt_load_round_trip(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();
	struct generation *g;
	uint8_t *again;
	int n_fds;
	size_t n;

	assert_int_equal(load(t, k->p, k->n), 0);
	again = bytes(t, &n, &n_fds);
	assert_int_equal(n, k->n);
	assert_int_equal(n_fds, k->n_fds);
	assert_memory_equal(again, k->p, n);
	free(again);

	g = t->serving;
	assert_int_equal(g->number, 5);
	assert_int_equal(g->n_workers, 2);
	assert_string_equal(g->opts.external_ui, "ui");
	assert_int_equal(g->worker[1]->slot, 2);
	assert_int_equal(g->worker[0]->slot, 0);
	assert_int_equal(g->reader[1], 0);
	assert_int_equal(t->dns_fd[2], k->s->dns_fd[2]);
	assert_int_equal(g->worker[1]->peer.state, CH_SERVING);
	assert_int_equal(g->worker[1]->peer.fd, k->s->serving->worker[1]->peer.fd);
	assert_ptr_equal(g->worker[1]->gen, g);
	assert_true(t->page[2].used && t->page[9].used && !t->page[1].used);
	assert_int_equal(t->controller->role, ROLE_CONTROLLER);
	assert_false(t->controller->stopping);
	assert_int_equal(listeners_count(t), 3);
	assert_int_equal(changes_sequence(t), 77);
	assert_int_equal(t->log_level, LL_WARNING);
	assert_string_equal(t->upgrade_note, "rolled back");
	assert_string_equal(t->rollback_note, "generation 7");
	drop(t);
}

static void
test_adopt_load_keeps_cloexec(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();

	fcntl(k->s->home_fd, F_SETFD, 0);
	assert_int_equal(load(t, k->p, k->n), 0);
	assert_int_equal(fcntl(k->s->home_fd, F_GETFD), FD_CLOEXEC);
	drop(t);
}

static void
test_adopt_load_damaged(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();

	for (size_t i = 0; i < k->n; i++) {
		k->p[i] ^= 0x40;
		assert_int_not_equal(load(t, k->p, k->n), 0);
		k->p[i] ^= 0x40;
	}
	assert_int_equal(load(t, k->p, k->n), 0);
	drop(t);
}

static void
test_adopt_load_cut_or_longer(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();
	uint8_t *p = calloc(1, k->n + 1);

	assert_non_null(p);
	memcpy(p, k->p, k->n);
	for (size_t n = 0; n < k->n; n++) {
		if (n >= HEAD)
			sign(p, n);
		assert_int_equal(load(t, p, n), -E_PROTO);
	}
	sign(p, k->n + 1);
	assert_int_equal(load(t, p, k->n + 1), -E_PROTO);
	free(p);
	drop(t);
}

/* Signed again, so that every check of the content is reached: anything but a crash, and nothing half read stays. */
static void
test_adopt_load_hostile(void **state)
{
	static const uint8_t put[] = { 0x00, 0x01, 0x7f, 0xff };
	struct kit *k = *state;
	struct sup *t = make();
	unsigned refused = 0;

	for (size_t i = HEAD; i < k->n; i++)
		for (size_t v = 0; v < countof(put); v++) {
			uint8_t was = k->p[i];

			k->p[i] = put[v];
			sign(k->p, k->n);
			if (load(t, k->p, k->n) == 0)
				adopt_forget(t);
			else
				refused++;
			assert_true(list_empty(&t->children) && list_empty(&t->generations));
			assert_int_equal(listeners_count(t), 0);
			k->p[i] = was;
		}
	assert_true(refused > 500);
	sign(k->p, k->n);
	assert_int_equal(load(t, k->p, k->n), 0);
	drop(t);
}

static void
test_adopt_load_version(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();

	k->p[VERSION_AT] = ADOPT_VERSION + 1;
	assert_int_equal(load(t, k->p, k->n), -E_UNSUP);
	k->p[VERSION_AT] = ADOPT_OLDEST - 1;
	assert_int_equal(load(t, k->p, k->n), -E_UNSUP);
	drop(t);
}

static void
test_adopt_load_another_process(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();

	for (int i = 0; i < 4; i++)	/* the pid is the first word */
		k->p[HEAD + i] = 0x11;
	sign(k->p, k->n);
	assert_int_equal(load(t, k->p, k->n), -E_PROTO);
	drop(t);
}

static void
test_adopt_load_unsealed(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();
	int fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char why[200] = "";

	assert_int_equal(write(fd, k->p, k->n), k->n);
	assert_int_equal(adopt_load(t, fd, why, sizeof why), -E_PROTO);
	close(fd);
	drop(t);
}

static void
test_adopt_load_contradictions(void **state)
{
	struct kit *k = *state;
	struct sup *t = make();
	struct child *w = k->s->serving->worker[0], *other = k->s->serving->worker[1];
	uint8_t *p;
	int n_fds, was;
	size_t n;

#define REFUSED_AS(code, change, undo) \
	do { \
		change; \
		p = bytes(k->s, &n, &n_fds); \
		undo; \
		assert_int_equal(load(t, p, n), code); \
		free(p); \
	} while (0)
#define REFUSED(change, undo) REFUSED_AS(-E_PROTO, change, undo)
	was = (int)other->slot;
	REFUSED(other->slot = w->slot, other->slot = (uint32_t)was);			/* two workers at one page */
	REFUSED_AS(-E_BUSY, w->ipc = IMSG_VERSION + 1, w->ipc = IMSG_VERSION);	/* words that are not ours */
	REFUSED(w->role = ROLE_CONTROLLER, w->role = ROLE_WORKER);
	REFUSED(k->s->serving->state = GEN_STARTING, k->s->serving->state = GEN_SERVING);
	REFUSED(k->s->last_generation = 1, k->s->last_generation = 6);
	was = w->log_fd;
	REFUSED(w->log_fd = other->log_fd, w->log_fd = was);				/* one descriptor, two owners */
	REFUSED(w->log_fd = w->pidfd, w->log_fd = was);					/* of another kind */
	REFUSED(w->log_fd = 9999, w->log_fd = was);					/* not open */
	was = w->pidfd;
	REFUSED(w->pidfd = w->log_fd, w->pidfd = was);
	assert_int_equal(load(t, k->p, k->n), 0);
	drop(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_adopt_load_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_keeps_cloexec, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_cut_or_longer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_another_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_unsealed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopt_load_contradictions, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
