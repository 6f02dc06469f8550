/* SPDX-License-Identifier: MIT */
/* Buffers and splice pipes of the data path, kept in small free lists: see pool.h for the caps. Called by the relay and by
 * layers that hold bytes; owns what lies in the lists, the takers own the rest. One set per process, because the limits behind
 * them are the process's. */
#include "worker/loop/pool.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIPE_MIN = 65536, PIPE_REST = 1000 };

static struct {
	struct buf *free;
	size_t n_free, used;
} bufs;

static struct {
	struct pipe *free;
	size_t n_free, used;
	unsigned rest;		/* calls to answer with NULL before the kernel is asked again, after it gave crumbs */
} pipes;

static ptrdiff_t charged;

void
mem_charge(ptrdiff_t n)
{
	charged += n;
}

void *
mem_got(void *p)
{
	charged += (ptrdiff_t)malloc_usable_size(p);
	return p;
}

void
mem_free(void *p)
{
	charged -= (ptrdiff_t)malloc_usable_size(p);
	free(p);
}

size_t
mem_in_use(void)
{
	size_t pooled = (bufs.used + bufs.n_free) * sizeof(struct buf);

	return charged > 0 ? (size_t)charged + pooled : pooled;
}

struct buf *
buf_get(void)
{
	struct buf *b = bufs.free;

	if (bufs.used >= BUF_MAX)
		return NULL;
	if (b != NULL) {
		bufs.free = b->next;
		bufs.n_free--;
	} else if ((b = malloc(sizeof(*b))) == NULL) {
		return NULL;
	}
	bufs.used++;
	b->next = NULL;
	b->off = b->len = 0;
	return b;
}

void
buf_put(struct buf *b)
{
	if (b == NULL)
		return;
	bufs.used--;
	if (bufs.n_free >= BUF_FREE_MAX) {
		free(b);
		return;
	}
	b->next = bufs.free;
	bufs.free = b;
	bufs.n_free++;
}

size_t
buf_in_use(void)
{
	return bufs.used;
}

static void
pipe_close(struct pipe *p)
{
	close(p->r);
	close(p->w);
	free(p);
}

/* The kernel gives less when the user's share of pipe pages is used up; a pipe smaller than PIPE_MIN is slower than copying. */
static struct pipe *
pipe_open(void)
{
	struct pipe *p = malloc(sizeof(*p));
	int fd[2], size;

	if (p == NULL)
		return NULL;
	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) == -1) {
		free(p);
		return NULL;
	}
	size = fcntl(fd[1], F_SETPIPE_SZ, PIPE_SIZE);
	if (size == -1)
		size = fcntl(fd[1], F_SETPIPE_SZ, PIPE_SIZE_LESS);
	if (size == -1)
		size = fcntl(fd[1], F_GETPIPE_SZ);
	*p = (struct pipe){ .r = fd[0], .w = fd[1], .size = size > 0 ? (uint32_t)size : 0 };
	if (p->size < PIPE_MIN) {
		pipe_close(p);
		return NULL;
	}
	return p;
}

struct pipe *
pipe_get(void)
{
	struct pipe *p = pipes.free;

	if (pipes.used >= PIPE_MAX)
		return NULL;
	if (p != NULL) {
		pipes.free = p->next;
		pipes.n_free--;
	} else if (pipes.rest > 0) {
		pipes.rest--;
		return NULL;
	} else if ((p = pipe_open()) == NULL) {
		pipes.rest = PIPE_REST;
		return NULL;
	}
	p->next = NULL;
	pipes.used++;
	return p;
}

/* A pipe that came with a connection of another process. */
struct pipe *
pipe_adopt(int r, int w, uint32_t fill)
{
	struct pipe *p = pipes.used >= PIPE_MAX ? NULL : malloc(sizeof(*p));
	int size = fcntl(w, F_GETPIPE_SZ);

	if (p == NULL || size <= 0) {
		free(p);
		return NULL;
	}
	*p = (struct pipe){ .r = r, .w = w, .size = (uint32_t)size, .fill = fill };
	pipes.used++;
	return p;
}

void
pipe_release(struct pipe *p)
{
	pipes.used--;
	free(p);
}

void
pipe_put(struct pipe *p)
{
	if (p == NULL)
		return;
	pipes.used--;
	if (p->fill != 0 || p->size < PIPE_MIN || pipes.n_free >= PIPE_FREE_MAX) {
		pipe_close(p);
		return;
	}
	p->next = pipes.free;
	pipes.free = p;
	pipes.n_free++;
}

void
pool_trim(void)
{
	while (bufs.free != NULL) {
		struct buf *b = bufs.free;

		bufs.free = b->next;
		free(b);
	}
	bufs.n_free = 0;
	while (pipes.free != NULL) {
		struct pipe *p = pipes.free;

		pipes.free = p->next;
		pipe_close(p);
	}
	pipes.n_free = 0;
}
