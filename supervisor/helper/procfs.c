/* SPDX-License-Identifier: MIT */
/* Which program has this socket open: called by main.c with all the questions that wait. A descriptor of a process is a link
 * "socket:[INODE]" in /proc/PID/fd. The processes that were found last are looked at first (who connects once connects again),
 * then those of the sockets' users, then the others, which made the socket as somebody else; and of each the first NEAR
 * descriptors before what lies beyond of any: a process with a hundred thousand of them shall not cost the others their answer.
 * Only directories are opened and links read, never a file: the filter of this role knows no other open. Other users' processes
 * need CAP_DAC_READ_SEARCH (the directory) and CAP_SYS_PTRACE (the links); without them they are passed over. */
#include "supervisor/helper/procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/strutil.h"

enum { LATELY_MAX = 32, BUCKETS = 256, LIST_BYTES = 8192, LINKS_PER_LOOK = 256, NEAR = 1024 };

struct search {
	int proc;
	struct sought *bucket[BUCKETS];	/* by inode; those not found yet */
	struct sought *list;
	unsigned n, left;
	found_cb *cb;
	uint64_t deadline_ms;		/* by cpu_ms() */
	unsigned links;			/* since the clock was read */
	bool beyond;			/* somebody has more than NEAR descriptors */
	bool late;
};

static uint32_t lately[LATELY_MAX];	/* processes that were found, the last one first; 0 = none */

/* What we have used: a machine that is busy with others leaves less of a second, and its processes are no more for that. */
static uint64_t
cpu_ms(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- texts */

uint32_t
procfs_inode(const char *link, size_t n)
{
	static const char head[] = "socket:[";
	size_t i = sizeof head - 1;
	uint64_t v = 0;

	if (n <= i || memcmp(link, head, i) != 0)
		return 0;
	for (; i < n && link[i] >= '0' && link[i] <= '9' && v <= UINT32_MAX; i++)
		v = v * 10 + (uint64_t)(link[i] - '0');
	return i + 1 == n && link[i] == ']' && v <= UINT32_MAX ? (uint32_t)v : 0;
}

size_t
procfs_trim(char *path, size_t n)
{
	static const char tail[] = " (deleted)";
	size_t k = sizeof tail - 1;

	if (n > k && memcmp(path + n - k, tail, k) == 0)
		n -= k;
	path[n] = '\0';
	return n;
}

/* ---- directories, by the system call: no memory is taken */

struct listing {
	int fd;
	ssize_t n, at;
	_Alignas(struct dirent64) char buf[LIST_BYTES];
};

static void
list_open(struct listing *l, int fd)
{
	l->fd = fd;
	l->n = l->at = 0;
}

/* The next entry whose name is a number; NULL at the end. */
static const char *
list_next(struct listing *l, int64_t *number)
{
	for (;;) {
		const struct dirent64 *d;

		if (l->at >= l->n) {
			l->at = 0;
			l->n = getdents64(l->fd, l->buf, sizeof l->buf);
			if (l->n <= 0)
				return NULL;
		}
		d = (const struct dirent64 *)(const void *)(l->buf + l->at);
		l->at += d->d_reclen;
		if (str_to_i64(d->d_name, 0, INT32_MAX, number) == 0)
			return d->d_name;
	}
}

/* ---- one process */

static void
remember(uint32_t pid)
{
	int i = 0;

	while (i < LATELY_MAX - 1 && lately[i] != pid)
		i++;
	memmove(lately + 1, lately, (size_t)i * sizeof *lately);
	lately[0] = pid;
}

static void
program_of(int proc, uint32_t pid, char path[static FIND_PATH_MAX])
{
	char name[32];
	ssize_t n;

	snprintf(name, sizeof name, "%u/exe", pid);
	n = readlinkat(proc, name, path, FIND_PATH_MAX - 1);
	procfs_trim(path, n > 0 && n < FIND_PATH_MAX - 1 ? (size_t)n : 0);
}

/* Everybody who asks for that socket. */
static void
hit(struct search *s, uint32_t pid, uint32_t inode)
{
	static char path[FIND_PATH_MAX];
	struct sought **at = &s->bucket[inode % BUCKETS], *k;
	bool read = false;

	while ((k = *at) != NULL) {
		if (k->inode != inode) {
			at = &k->next;
			continue;
		}
		if (!read) {
			program_of(s->proc, pid, path);
			remember(pid);
			read = true;
		}
		*at = k->next;
		k->found = true;
		s->left--;
		s->cb(k, path);
	}
}

/* Is there nothing to look for any more, or no time? */
static bool
done(struct search *s)
{
	if (s->left == 0 || s->late)
		return true;
	if (++s->links >= LINKS_PER_LOOK) {
		s->links = 0;
		s->late = cpu_ms() >= s->deadline_ms;
	}
	return s->late;
}

static bool
is_sought_user(const struct search *s, uint32_t uid)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!s->list[i].found && s->list[i].uid == uid)
			return true;
	return false;
}

/* One descriptor; false: none of this process can be seen. */
static bool
look(struct search *s, uint32_t pid, int fd, const char *entry)
{
	char link[64];
	ssize_t n = readlinkat(fd, entry, link, sizeof link);
	uint32_t inode = n > 0 ? procfs_inode(link, (size_t)n) : 0;

	if (inode != 0 && s->bucket[inode % BUCKETS] != NULL)
		hit(s, pid, inode);
	return n != -1 || errno != EACCES;
}

/* Looks through the descriptors of a process, those below NEAR or the others. owners: only if it is one of the sockets' users',
 * else only if not. */
static void
search_process(struct search *s, uint32_t pid, bool owners, bool near)
{
	static struct listing fds;
	char name[64];
	const char *entry;
	int64_t number;
	struct stat st;
	int fd;

	snprintf(name, sizeof name, "%u/fd", pid);
	fd = openat(s->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return;
	if (fstat(fd, &st) == 0 && is_sought_user(s, st.st_uid) == owners) {
		list_open(&fds, fd);
		if (!near)		/* "." and ".." are the first two places, then descriptors by their number */
			lseek(fd, NEAR + 2, SEEK_SET);
		while (!done(s) && (entry = list_next(&fds, &number)) != NULL) {
			if (near && number >= NEAR) {
				s->beyond = true;
				break;
			}
			if (!look(s, pid, fd, entry))
				break;
		}
	}
	close(fd);
}

/* ---- all of them */

static void
search_all(struct search *s, bool owners, bool near)
{
	static struct listing pids;
	int64_t pid;

	if (lseek(s->proc, 0, SEEK_SET) == -1)
		return;
	list_open(&pids, s->proc);
	while (!done(s) && list_next(&pids, &pid) != NULL)
		search_process(s, (uint32_t)pid, owners, near);
}

int
procfs_open(void)
{
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd != -1 ? fd : -E_SYS;
}

bool
procfs_search(int proc, struct sought *list, unsigned n, found_cb *cb)
{
	struct search s = { .proc = proc, .list = list, .n = n, .left = n, .cb = cb, .deadline_ms = cpu_ms() + SEARCH_MS };
	uint32_t first[LATELY_MAX];

	for (unsigned i = 0; i < n; i++) {
		struct sought **b = &s.bucket[list[i].inode % BUCKETS];

		list[i].found = false;
		list[i].next = *b;
		*b = &list[i];
	}
	memcpy(first, lately, sizeof first);	/* a hit changes the order */
	for (int i = 0; i < LATELY_MAX && first[i] != 0 && !done(&s); i++)
		search_process(&s, first[i], true, true);
	search_all(&s, true, true);
	search_all(&s, false, true);
	if (s.beyond) {
		search_all(&s, true, false);
		search_all(&s, false, false);
	}
	return !s.late;
}
