/* SPDX-License-Identifier: MIT */
/* What outlives workers: opaque blobs the lead hands up (selections, rule switches, patches ...), kept as sealed memfds and
 * given to every new worker, the counter pages, and the DNS memory of common/shm_fakeip.h. Those of `stored` are also written
 * to the working directory: temporary file, fsync, rename. Under a service manager all of it lies in its descriptor store as
 * well and outlives a crash of this process. */
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
#include "common/shm_fakeip.h"
#include "common/shm_stat.h"
#include "common/strutil.h"
#include "supervisor/child.h"
#include "supervisor/files.h"
#include "supervisor/inherit.h"
#include "supervisor/systemd.h"

static const char shared_name[] = "sluice/shared";
static const struct {
	const char *file, *what;	/* in HOME; NULL: memory only */
} stored[STATE_KINDS_] = {
	[STATE_SELECT] = { "sluice.state", "selections" },
	[STATE_NODES] = { "sluice.nodes", "what is known of subscriptions" },
};

static const char *
blob_name(uint32_t kind, char out[static FDNAME_MAX])
{
	snprintf(out, FDNAME_MAX, "sluice/state/%u", kind);
	return out;
}

static const char *
page_name(uint32_t slot, char out[static FDNAME_MAX])
{
	snprintf(out, FDNAME_MAX, "sluice/page/%02u", slot);
	return out;
}

static const struct {
	const char *name;
	size_t size;
	bool file;
} shared[SHARED_KINDS] = {
	{ "sluice.fakeip", sizeof(struct fake_table), true },
	{ "sluice.fakeip6", sizeof(struct fake_table), true },
	{ "fakeip", sizeof(struct fake_table), false },
	{ "fakeip6", sizeof(struct fake_table), false },
	{ "mapping", sizeof(struct mapping_table), false },
};

static const char *
dns_name(uint32_t k, char out[static FDNAME_MAX])
{
	snprintf(out, FDNAME_MAX, "sluice/dns/%u", k);
	return out;
}

/* A page of ours from before a crash, or -1. The connections that it counted as open ended with their workers. */
static int
old_page(struct sup *s, const char *name, bool counters)
{
	int fd = inherit_take(s, name);
	struct shm_stat *p = fd != -1 ? memfd_map_shared(fd, STAT_PAGE, 1) : NULL;

	if (p == NULL) {
		if (fd != -1)
			close(fd);
		return -1;
	}
	if (counters) {
		atomic_store(&p->open_tcp, 0);
		atomic_store(&p->open_udp, 0);
	}
	munmap(p, STAT_PAGE);
	systemd_store(s, name, fd);
	return fd;
}

/* Everything the store gave back; what of it serves again is the first generation's choice. */
static void
take_back(struct sup *s)
{
	char name[FDNAME_MAX];

	for (uint32_t k = 1; k < STATE_KINDS_; k++) {
		const void *p = NULL;
		size_t n;
		int fd = inherit_take(s, blob_name(k, name));

		if (fd == -1)
			continue;
		if (memfd_map(fd, &p, &n, STATE_MAX) != 0) {
			close(fd);
			continue;
		}
		if (p != NULL)
			munmap((void *)(uintptr_t)p, n);
		s->state_fd[k] = fd;
		systemd_store(s, name, fd);
	}
	for (uint32_t i = 0; i < STAT_SLOTS; i++)
		s->page[i].fd = old_page(s, page_name(i, name), true);
	s->shared_fd = old_page(s, shared_name, false);
	for (uint32_t k = 0; k < SHARED_KINDS; k++) {
		int fd = inherit_take(s, dns_name(k, name));
		void *p = fd != -1 ? memfd_map_shared(fd, shared[k].size, 0) : NULL;

		if (p != NULL) {
			munmap(p, shared[k].size);
			s->dns_fd[k] = fd;
			systemd_store(s, name, fd);
		} else if (fd != -1)
			close(fd);
	}
}

static void
read_file(struct sup *s, int kind)
{
	int fd = openat(s->home_fd, stored[kind].file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	void *p = NULL;

	if (fd == -1)
		return;
	if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= STATE_MAX && (p = malloc((size_t)st.st_size)) != NULL &&
	    pread(fd, p, (size_t)st.st_size, 0) == st.st_size)
		s->state_fd[kind] = memfd_from("state", p, (size_t)st.st_size);
	if (s->state_fd[kind] < 0) {
		log_warn("%s/%s cannot be read: %s start anew", s->home, stored[kind].file, stored[kind].what);
		s->state_fd[kind] = -1;
	}
	free(p);
	close(fd);
}

void
state_init(struct sup *s)
{
	for (int k = 0; k < STATE_KINDS_; k++)
		s->state_fd[k] = -1;
	for (int i = 0; i < SHARED_KINDS; i++)
		s->dns_fd[i] = -1;
	take_back(s);
	if (s->shared_fd == -1) {
		s->shared_fd = memfd_shared("shared", STAT_PAGE);
		systemd_store(s, shared_name, s->shared_fd);
	}
	for (int k = 0; k < STATE_KINDS_; k++)
		if (stored[k].file != NULL && s->state_fd[k] == -1)	/* what is there is at least as new as the file */
			read_file(s, k);
}

static void
forget(struct sup *s, uint32_t kind)
{
	char name[FDNAME_MAX];

	if (s->state_fd[kind] == -1)
		return;
	systemd_unstore(s, blob_name(kind, name));
	close(s->state_fd[kind]);
	s->state_fd[kind] = -1;
}

int
state_save(struct sup *s, uint32_t kind, int fd)
{
	char name[FDNAME_MAX];
	const void *p;
	size_t n;

	if (kind == 0 || kind >= STATE_KINDS_ || memfd_map(fd, &p, &n, STATE_MAX) != 0) {
		close(fd);
		return -E_PROTO;
	}
	if (stored[kind].file != NULL &&
	    files_write(s->home_fd, stored[kind].file, &(struct iovec){ (void *)(uintptr_t)p, n }, 1) != 0)
		log_warn("%s cannot be stored in %s/%s: %s", stored[kind].what, s->home, stored[kind].file, strerror(errno));
	if (p != NULL)
		munmap((void *)(uintptr_t)p, n);
	forget(s, kind);
	s->state_fd[kind] = fd;
	systemd_store(s, blob_name(kind, name), fd);
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
		if (!(keep & (1u << k)))
			forget(s, k);
}

void
state_end(struct sup *s)
{
	char name[FDNAME_MAX];

	state_forget(s, 0);
	for (uint32_t i = 0; i < STAT_SLOTS; i++)
		if (s->page[i].fd != -1)
			systemd_unstore(s, page_name(i, name));
	systemd_unstore(s, shared_name);
}

uint64_t
state_open_connections(const struct sup *s)
{
	struct shm_stat p;
	uint64_t n = 0;

	for (int i = 0; i < STAT_SLOTS; i++)
		if (s->page[i].used && pread(s->page[i].fd, &p, sizeof p, 0) == (ssize_t)sizeof p)
			n += (uint64_t)p.open_tcp + p.open_udp;
	return n;
}

int
state_page_take(struct sup *s, struct child *c)
{
	char name[FDNAME_MAX];

	for (uint32_t i = 0; i < STAT_SLOTS; i++) {
		if (s->page[i].used)
			continue;
		if (s->page[i].fd == -1) {
			int fd = memfd_shared("counters", STAT_PAGE);

			if (fd < 0)
				return -E_SYS;
			s->page[i].fd = fd;
			systemd_store(s, page_name(i, name), fd);
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

/* ---- memory that the workers share for DNS */

/* A file that has its blocks: a full disk must not kill who writes to the mapping. */
static int
shared_file(struct sup *s, const char *name, size_t size)
{
	int fd = openat(s->home_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat st;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, (off_t)size) == 0 &&
	    (errno = posix_fallocate(fd, 0, (off_t)size)) == 0)
		return fd;
	close(fd);
	return -1;
}

int
state_open_shared(struct sup *s, const char *name, bool writable, char *why, size_t cap)
{
	char path[FDNAME_MAX];
	int k = 0, fd;

	while (k < SHARED_KINDS && strcmp(shared[k].name, name) != 0)
		k++;
	if (k == SHARED_KINDS) {
		snprintf(why, cap, "no such memory");
		return -E_INVAL;
	}
	if (s->dns_fd[k] == -1 && shared[k].file) {
		s->dns_fd[k] = shared_file(s, name, shared[k].size);
		if (s->dns_fd[k] == -1)
			log_warn("%s/%s: %s: fake addresses are not kept on disk", s->home, name, strerror(errno));
	}
	if (s->dns_fd[k] == -1) {
		s->dns_fd[k] = memfd_shared(name, shared[k].size);
		if (s->dns_fd[k] >= 0)
			systemd_store(s, dns_name((uint32_t)k, path), s->dns_fd[k]);
	}
	if (s->dns_fd[k] < 0) {
		s->dns_fd[k] = -1;
		snprintf(why, cap, "%s", strerror(errno));
		return -E_SYS;
	}
	if (writable)
		return fcntl(s->dns_fd[k], F_DUPFD_CLOEXEC, 3);
	/* an open file description of its own, which cannot be written through */
	snprintf(path, sizeof path, "/proc/self/fd/%d", s->dns_fd[k]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		snprintf(why, cap, "%s", strerror(errno));
	return fd != -1 ? fd : -E_SYS;
}

int
state_shared_dup(struct sup *s, int kind, char *name, size_t cap)
{
	str_copy(name, cap, shared[kind].name);
	return s->dns_fd[kind] != -1 ? fcntl(s->dns_fd[kind], F_DUPFD_CLOEXEC, 3) : -1;
}
