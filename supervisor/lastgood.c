/* SPDX-License-Identifier: MIT */
/* The last good configuration: one that has served for GOOD_AFTER_S. A generation whose workers crash CRASHES_MAX times in its
 * first minute is replaced by it, with a log line; a query of death then costs a minute of the new configuration, not the
 * service. With sluice.start-with-last-good it is also kept on disk (HOME/sluice.lastgood: the options, then the tree) for a
 * start with a bad file. The tree is the loader's, unread here. */
#include "supervisor/lastgood.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/memfd.h"
#include "supervisor/adopt.h"
#include "supervisor/controller.h"
#include "supervisor/files.h"
#include "supervisor/reload.h"

enum { GOOD_AFTER_S = 60, CRASHES_MAX = 3, TREE_MAX = 256 << 20 };
static const char file_name[] = "sluice.lastgood";

static struct {
	int tree_fd;			/* -1 = none yet */
	struct msg_job_done opts;
	struct generation *candidate;	/* serving since since_; NULL once it is good, or gave up */
	ev_tstamp since;
	int crashes;
	ev_timer timer;
} good = { .tree_fd = -1 };

/* The mode is kept private: a tree holds every secret of the file. */
static void
store(struct sup *s)
{
	const void *p = NULL;
	size_t n = 0;

	if (!(good.opts.flags & JOB_START_WITH_LAST_GOOD)) {
		unlinkat(s->home_fd, file_name, 0);
		return;
	}
	if (memfd_map(good.tree_fd, &p, &n, TREE_MAX) != 0)
		return;
	if (files_write(
		s->home_fd, file_name, (struct iovec[]){ { &good.opts, sizeof good.opts }, { (void *)(uintptr_t)p, n } }, 2) != 0)
		log_warn("the last good configuration cannot be stored in %s/%s: %s", s->home, file_name, strerror(errno));
	munmap((void *)(uintptr_t)p, n);
}

static void
adopt(struct sup *s, const struct generation *g)
{
	if (good.tree_fd != -1)
		close(good.tree_fd);
	good.tree_fd = fcntl(g->tree_fd, F_DUPFD_CLOEXEC, 3);
	good.opts = g->opts;
	store(s);
	log_debug("generation %u is the last good configuration now", g->number);
}

static void
on_minute(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;
	struct generation *g = good.candidate;

	(void)loop;
	(void)events;
	good.candidate = NULL;
	if (g != NULL && g == s->serving)
		adopt(s, g);
}

void
lastgood_init(struct sup *s)
{
	ev_timer_init(&good.timer, on_minute, GOOD_AFTER_S, 0);
	good.timer.data = s;
}

void
lastgood_serving(struct sup *s, struct generation *g)
{
	/* what was replaced before its minute was over had not failed either: better than nothing to go back to */
	if (good.tree_fd == -1 && good.candidate != NULL && good.crashes == 0)
		adopt(s, good.candidate);
	ev_timer_stop(s->loop, &good.timer);
	ev_timer_set(&good.timer, GOOD_AFTER_S, 0);
	ev_timer_start(s->loop, &good.timer);
	good.candidate = g;
	good.since = ev_steady();
	good.crashes = 0;
}

bool
lastgood_crashed(struct sup *s, struct generation *g)
{
	struct msg_reload m = { .flags = RELOAD_ROLLBACK };

	if (g != good.candidate || ++good.crashes < CRASHES_MAX || good.tree_fd == -1)
		return false;
	snprintf(s->rollback_note, sizeof s->rollback_note,
	    "generation %u failed %d times in its first %.0f s: the last good configuration is put back", g->number, good.crashes,
	    ev_steady() - good.since);
	log_error("%s", s->rollback_note);
	controller_note(s);
	good.candidate = NULL;
	s->rolled_back++;
	reload_request(s, &m, -1, (struct reload_waiter){ NULL, 0 });
	return true;
}

int
lastgood_tree(struct sup *s, struct msg_job_done *opts)
{
	(void)s;
	if (good.tree_fd == -1)
		return -1;
	*opts = good.opts;
	return fcntl(good.tree_fd, F_DUPFD_CLOEXEC, 3);
}

int
lastgood_stored(struct sup *s, struct msg_job_done *opts)
{
	int fd = openat(s->home_fd, file_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), tree = -1;
	struct stat st;
	void *p = NULL;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof *opts && st.st_size < TREE_MAX &&
	    pread(fd, opts, sizeof *opts, 0) == (ssize_t)sizeof *opts && (opts->flags & JOB_START_WITH_LAST_GOOD) &&
	    (p = malloc((size_t)st.st_size)) != NULL) {
		size_t n = (size_t)st.st_size - sizeof *opts;

		opts->external_ui[sizeof opts->external_ui - 1] = '\0';
		if (pread(fd, p, n, sizeof *opts) == (ssize_t)n)
			tree = memfd_from("lastgood", p, n);	/* workers and controller verify it as any other */
	}
	free(p);
	close(fd);
	return tree < 0 ? -1 : tree;
}

/* ---- over an execve */

void
lastgood_save(struct sup *s, struct adopt *a)
{
	(void)s;
	adopt_put_fd(a, good.tree_fd);
	adopt_put_opts(a, &good.opts);
	wire_put_bool(&a->w, good.candidate != NULL);
	adopt_put_moment(a, good.since);
	wire_put_u32(&a->w, (uint32_t)good.crashes);
}

int
lastgood_load(struct sup *s, struct adopt *a)
{
	bool candidate = false;
	uint32_t crashes = 0;

	if (adopt_get_fd(a, ADOPT_MEMFD | ADOPT_MAYBE, &good.tree_fd) != 0 || adopt_get_opts(a, &good.opts) != 0)
		return -E_PROTO;
	if (wire_get_bool(&a->w, &candidate) != 0)
		return adopt_bad(a, "the last good configuration");
	if (adopt_get_moment(a, &good.since) != 0 || adopt_get_u32(a, INT32_MAX, "a generation's crashes", &crashes) != 0)
		return -E_PROTO;
	good.crashes = (int)crashes;
	good.candidate = candidate ? s->serving : NULL;
	if (candidate) {
		ev_tstamp left = good.since + GOOD_AFTER_S - ev_steady();

		ev_timer_stop(s->loop, &good.timer);
		ev_timer_set(&good.timer, left > 0 && left <= GOOD_AFTER_S ? left : 1, 0);
		ev_timer_start(s->loop, &good.timer);
	}
	return 0;
}

void
lastgood_forget(struct sup *s)
{
	ev_timer_stop(s->loop, &good.timer);
	good.tree_fd = -1;
	good.candidate = NULL;
}
