/* SPDX-License-Identifier: MIT */
/* The system's files for DNS, /etc/hosts and /etc/resolv.conf: workers read them while CONFIGURING, and are sent them again when
 * they change. Called by messages.c. A slow timer looks at both once a worker has asked; each child carries what it has seen, so
 * one that started during a change hears of it too. Polled, because the second is often a link to a file that others replace. */
#include "supervisor/sysfiles.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "supervisor/child.h"

enum { LOOK_S = 5 };
static const struct {
	enum open_kind kind;
	const char *path;
} files[SYSFILES] = {
	{ OPEN_RESOLV, "/etc/resolv.conf" },
	{ OPEN_HOSTS, "/etc/hosts" },
};

static struct file_stamp
stamp_of(const struct stat *st)
{
	return (struct file_stamp){ .mtime_ns = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec,
		.size = (uint64_t)st->st_size,
		.inode = st->st_ino,
		.asked = true };
}

static bool
same(const struct file_stamp *a, const struct file_stamp *b)
{
	return a->mtime_ns == b->mtime_ns && a->size == b->size && a->inode == b->inode;
}

static int
open_file(struct child *c, int k)
{
	int fd = open(files[k].path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	c->sysfile[k] = (struct file_stamp){ .asked = true };
	if (fd == -1)
		return -E_NOTFOUND;
	if (fstat(fd, &st) == 0)
		c->sysfile[k] = stamp_of(&st);
	return fd;
}

int
sysfiles_open(struct child *c, enum open_kind kind)
{
	struct sup *s = c->sup;

	if (!ev_is_active(&s->sysfiles_timer))
		ev_timer_again(s->loop, &s->sysfiles_timer);
	for (int k = 0; k < SYSFILES; k++)
		if (files[k].kind == kind)
			return open_file(c, k);
	return -E_NOTFOUND;
}

static void
look(struct sup *s, int k)
{
	struct msg_sysfile m = { .kind = files[k].kind };
	struct file_stamp now;
	struct stat st;
	int fd;

	if (stat(files[k].path, &st) == -1 || !S_ISREG(st.st_mode))	/* being replaced, perhaps: what was read still counts */
		return;
	now = stamp_of(&st);
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c->role != ROLE_WORKER || (c->state != CH_READY && c->state != CH_SERVING) || !c->sysfile[k].asked ||
		    same(&c->sysfile[k], &now))
			continue;
		fd = open_file(c, k);
		if (fd >= 0)
			child_send(c, MSG_SYSFILE, 0, &m, sizeof m, fd);
	}
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	for (int k = 0; k < SYSFILES; k++)
		look(t->data, k);
}

void
sysfiles_init(struct sup *s)
{
	ev_timer_init(&s->sysfiles_timer, on_timer, 0, LOOK_S);
	s->sysfiles_timer.data = s;
}
