/* SPDX-License-Identifier: MIT */
/* What was being served, kept in the descriptor store: the tree of the serving generation, the tree whose controller keys are
 * in force, and their options. After a crash of the supervisor the same configuration serves again, with its rule switches and
 * patches, whatever the file says by now or the API had loaded; the next reload reads the file. Only the build that stored it
 * takes it back: both formats are its own.
 *
 * It is taken out of the store before it is tried and put back when it serves, so what cannot start is tried once. */
#include "supervisor/recover.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "common/version.h"
#include "supervisor/inherit.h"
#include "supervisor/systemd.h"

enum { TREE_MAX = 256 << 20 };
static const char tree_name[] = "sluice/tree", ctl_tree_name[] = "sluice/ctl-tree", run_name[] = "sluice/run";

struct run {
	char build[64];
	uint32_t generation, reserved;
	struct msg_job_done opts, ctl_opts;
};

static bool
same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

void
recover_keep(struct sup *s)
{
	struct run r = { .generation = s->last_generation, .opts = s->serving->opts, .ctl_opts = s->ctl_opts };
	int fd;

	if (!systemd_stores(s))
		return;
	str_copy(r.build, sizeof r.build, version_text());
	fd = memfd_from("run", &r, sizeof r);
	if (fd < 0)
		return;
	/* a file is stored once, under one name: all of the old go first, and one tree for both is the first name alone */
	recover_forget(s);
	systemd_store(s, tree_name, s->serving->tree_fd);
	if (!same_file(s->serving->tree_fd, s->ctl_tree_fd))
		systemd_store(s, ctl_tree_name, s->ctl_tree_fd);
	systemd_store(s, run_name, fd);
	close(fd);
}

void
recover_forget(struct sup *s)
{
	systemd_unstore(s, run_name);
	systemd_unstore(s, tree_name);
	systemd_unstore(s, ctl_tree_name);
}

static bool
sealed(int fd, size_t max)
{
	const void *p = NULL;
	size_t n = 0;

	if (fd == -1 || memfd_map(fd, &p, &n, max) != 0)
		return false;
	if (p != NULL)
		munmap((void *)(uintptr_t)p, n);
	return n > 0;
}

static bool
read_run(int fd, struct run *r)
{
	if (!sealed(fd, sizeof *r) || pread(fd, r, sizeof *r, 0) != (ssize_t)sizeof *r)
		return false;
	r->build[sizeof r->build - 1] = '\0';
	r->opts.external_ui[sizeof r->opts.external_ui - 1] = r->ctl_opts.external_ui[sizeof r->ctl_opts.external_ui - 1] = '\0';
	return str_equal(r->build, version_text()) && r->opts.max_generations >= 1 && r->opts.max_generations <= GENERATIONS_MAX;
}

int
recover_tree(struct sup *s, struct msg_job_done *opts)
{
	int tree = inherit_take(s, tree_name), ctl = inherit_take(s, ctl_tree_name), run = inherit_take(s, run_name);
	struct run r;
	bool good;

	if (ctl == -1 && tree != -1)
		ctl = fcntl(tree, F_DUPFD_CLOEXEC, 3);
	good = tree != -1 && sealed(tree, TREE_MAX) && sealed(ctl, TREE_MAX) && read_run(run, &r);

	if (tree != -1 || ctl != -1 || run != -1)
		recover_forget(s);
	if (run != -1)
		close(run);
	if (!good) {
		if (tree != -1)
			close(tree);
		if (ctl != -1)
			close(ctl);
		return -1;
	}
	*opts = r.opts;
	s->ctl_tree_fd = ctl;
	s->ctl_opts = r.ctl_opts;
	s->last_generation = r.generation;
	log_warn("starting after a crash of the supervisor: what generation %u served, listeners and state are put back",
	    r.generation);
	return tree;
}
