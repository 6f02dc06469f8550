/* SPDX-License-Identifier: MIT */
/* What outlives workers: opaque blobs the lead hands up (selections, rule switches, patches), kept as sealed memfds and given to every new worker, and
 * the counter pages. Selections are also written to HOME/sluice.state: temporary file, fsync, rename. */
#include "supervisor/state.h"

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
#include "supervisor/child.h"

static const char state_file[] = "sluice.state";

void
state_init(struct sup *s)
{
	struct stat st;
	void *p = NULL;
	int fd;

	for (int k = 0; k < STATE_KINDS_; k++)
		s->state_fd[k] = -1;
	for (int i = 0; i < STAT_SLOTS; i++)
		s->page[i].fd = -1;
	s->shared_fd = memfd_shared("shared", STAT_PAGE);
	fd = openat(s->home_fd, state_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd == -1)
		return;
	if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= STATE_MAX && (p = malloc((size_t)st.st_size)) != NULL &&
	    pread(fd, p, (size_t)st.st_size, 0) == st.st_size)
		s->state_fd[STATE_SELECT] = memfd_from("state", p, (size_t)st.st_size);
	if (s->state_fd[STATE_SELECT] < 0) {
		log_warn("%s/%s cannot be read: selections start anew", s->home, state_file);
		s->state_fd[STATE_SELECT] = -1;
	}
	free(p);
	close(fd);
}

static int
write_file(struct sup *s, const void *p, size_t n)
{
	int fd = openat(s->home_fd, "sluice.state.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), rc = -E_SYS;

	if (fd == -1)
		return -E_SYS;
	if (write(fd, p, n) == (ssize_t)n && fsync(fd) == 0 && renameat(s->home_fd, "sluice.state.tmp", s->home_fd, state_file) == 0)
		rc = 0;
	close(fd);
	return rc;
}

int
state_save(struct sup *s, uint32_t kind, int fd)
{
	const void *p;
	size_t n;

	if (kind == 0 || kind >= STATE_KINDS_ || memfd_map(fd, &p, &n, STATE_MAX) != 0) {
		close(fd);
		return -E_PROTO;
	}
	if (kind == STATE_SELECT && write_file(s, p, n) != 0)
		log_warn("selections cannot be stored in %s/%s: %s", s->home, state_file, strerror(errno));
	if (p != NULL)
		munmap((void *)(uintptr_t)p, n);
	if (s->state_fd[kind] != -1)
		close(s->state_fd[kind]);
	s->state_fd[kind] = fd;
	return 0;
}

void
state_send(struct sup *s, struct child *c, unsigned keep)
{
	for (uint32_t k = 1; k < STATE_KINDS_; k++) {
		struct msg_state m = { .kind = k };

		if (s->state_fd[k] == -1 || !(keep & (1u << k)))
			continue;
		child_send(c, MSG_STATE, 0, &m, sizeof m, fcntl(s->state_fd[k], F_DUPFD_CLOEXEC, 3));
	}
}

void
state_forget(struct sup *s, unsigned keep)
{
	for (uint32_t k = 1; k < STATE_KINDS_; k++)
		if (!(keep & (1u << k)) && s->state_fd[k] != -1) {
			close(s->state_fd[k]);
			s->state_fd[k] = -1;
		}
}

int
state_page_take(struct sup *s, struct child *c)
{
	for (uint32_t i = 0; i < STAT_SLOTS; i++) {
		if (s->page[i].used)
			continue;
		if (s->page[i].fd == -1)
			s->page[i].fd = memfd_shared("counters", STAT_PAGE);
		if (s->page[i].fd < 0) {
			s->page[i].fd = -1;
			return -E_SYS;
		}
		s->page[i].used = true;
		c->slot = i;
		return state_page_dup(s, i);
	}
	return -E_LIMIT;
}

void
state_page_release(struct sup *s, struct child *c)
{
	if (c->slot < STAT_SLOTS)
		s->page[c->slot].used = false;
}

int
state_page_dup(struct sup *s, uint32_t slot)
{
	return fcntl(s->page[slot].fd, F_DUPFD_CLOEXEC, 3);
}
