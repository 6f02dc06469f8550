/* SPDX-License-Identifier: MIT */
/* Moves bytes between the two streams of a connection. Started by dispatch.c when both are open, stopped by conn_close(). Each
 * direction pulls only what it can pass on: first by a scratch buffer that all connections share, and only what the sink did
 * not take is copied and owned, so an idle connection holds nothing. Where both ends are plain sockets and full reads tell
 * bulk, bytes go by splice through a pooled pipe and are not copied. Reading stays armed on both ends while nothing changes: a
 * change of interest is a system call. SIGPIPE must be ignored: splice() raises it. */
#include "worker/core/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	SCRATCH = 65536,
	BULK_AFTER = 1,			/* full reads before splice */
	NO_SPLICE = 255,		/* the kernel refused: never again for this direction */
	BUDGET_READ = 4 * SCRATCH,	/* a turn and direction, so that one transfer does not hold up the others */
	BUDGET_SPLICE = 4 << 20,	/* measured: ending earlier lets the source's queue fill, and the sender's work is ours */
	BULK_MIN = 16384		/* a turn that spliced less ends bulk */
};

static uint8_t scratch[SCRATCH];

static struct stream *
source(const struct conn *c, int i)
{
	return i == 0 ? c->in : c->out;
}

static struct stream *
sink(const struct conn *c, int i)
{
	return i == 0 ? c->out : c->in;
}

static void
count(struct conn *c, int i, size_t n)
{
	struct shm_stat *st = c->w->stat;

	if (i == 0)
		c->up += n;
	else
		c->down += n;
	if (st != NULL)
		stat_add(i == 0 ? &st->up : &st->down, n);
	conn_touch(c);
}

static bool
holds(const struct relay_dir *d)
{
	return d->buf != NULL || d->sealed || (d->pipe != NULL && d->pipe->fill != 0);
}

static unsigned
interest(const struct relay_dir *reads, const struct relay_dir *writes)
{
	unsigned want = 0;

	if (!reads->eof && !reads->starved && !holds(reads))
		want |= ST_READ;
	if (holds(writes) || (writes->eof && !writes->shut))
		want |= ST_WRITE;
	return want;
}

static void
arm(struct conn *c)
{
	unsigned in, out;

	if (c->state != CONN_RELAY)
		return;
	in = interest(&c->dir[0], &c->dir[1]);
	out = interest(&c->dir[1], &c->dir[0]);
	if (c->in->wanted != in)
		stream_want(c->in, (int)in);
	if (c->out->wanted != out)
		stream_want(c->out, (int)out);
}

static int
flush_buffers(struct relay_dir *d, struct stream *to)
{
	while (d->buf != NULL) {
		struct buf *b = d->buf;
		ssize_t n = stream_write(to, b->data + b->off, b->len - b->off);

		if (n < 0)
			return (int)n;
		b->off += (uint32_t)n;
		if (b->off < b->len)
			continue;
		d->buf = b->next;
		buf_put(b);
	}
	return 0;
}

static int
flush_pipe(struct relay_dir *d, struct stream *to)
{
	while (d->pipe->fill != 0) {
		int fd = stream_raw_fd(to, ST_WRITE);
		ssize_t n = fd == -1 ? -1 : splice(d->pipe->r, NULL, fd, NULL, d->pipe->fill, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (fd == -1)
			return -E_CLOSED;
		if (n <= 0)
			return n == 0 ? -E_CLOSED : -err_from_errno(errno);
		d->pipe->fill -= (uint32_t)n;
		if (to->ops->bypassed != NULL)
			to->ops->bypassed(to, ST_WRITE, (size_t)n);
	}
	return 0;
}

static void
pipe_back(struct relay_dir *d)
{
	pipe_put(d->pipe);
	d->pipe = NULL;
}

/* Everything held goes out: 0, -E_AGAIN, or what broke the sink. */
static int
drain(struct relay_dir *d, struct stream *to)
{
	int r = 0;

	if (d->buf != NULL)
		r = flush_buffers(d, to);
	if (r == 0 && d->pipe != NULL)
		r = flush_pipe(d, to);
	if (r == 0 && d->sealed) {
		r = stream_flush(to);
		d->sealed = r == -E_AGAIN;
	}
	return r;
}

/* Copies what the sink did not take. */
static int
keep(struct relay_dir *d, const uint8_t *p, size_t n)
{
	struct buf **tail = &d->buf;

	while (*tail != NULL)
		tail = &(*tail)->next;
	while (n > 0) {
		struct buf *b = buf_get();
		size_t k = n < BUF_SIZE ? n : BUF_SIZE;

		if (b == NULL)
			return -E_NOMEM;
		memcpy(b->data, p, k);
		b->len = (uint32_t)k;
		*tail = b;
		tail = &b->next;
		p += k;
		n -= k;
	}
	return 0;
}

static void
broken(struct conn *c, int i, bool reading, int err)
{
	bool client = (i == 0) == reading;

	if (err == -E_NOMEM)
		conn_close(c, BY_LIMIT);
	else if (err == -E_RESET || err == -E_CLOSED)
		conn_close(c, client ? BY_CLIENT : BY_REMOTE);
	else
		conn_close(c, BY_ERROR);
}

/* The source ended and everything is passed on: pass the end on, too. */
static void
end_direction(struct conn *c, int i)
{
	struct relay_dir *d = &c->dir[i];
	int r;

	if (d->shut)
		return;
	if (c->dir[1 - i].shut) {
		conn_close(c, BY_EOF);
		return;
	}
	r = stream_shut_wr(sink(c, i));
	if (r == -E_AGAIN)
		return;
	if (r != 0 && r != -E_UNSUP) {
		broken(c, i, false, r);
		return;
	}
	d->shut = true;
	d->one_way = r == -E_UNSUP;
}

/* One splice into the pipe. Bytes, 0 = end, -E_AGAIN, -E_UNSUP = read instead, -E_*. */
static ssize_t
splice_in(struct conn *c, int i)
{
	struct relay_dir *d = &c->dir[i];
	struct stream *from = source(c, i);
	int fd = stream_raw_fd(from, ST_READ);
	ssize_t n;

	if (fd == -1 || stream_raw_fd(sink(c, i), ST_WRITE) == -1)
		return -E_UNSUP;
	if (d->pipe == NULL)
		d->pipe = pipe_get();
	if (d->pipe == NULL)
		return -E_UNSUP;
	n = splice(fd, NULL, d->pipe->w, NULL, d->pipe->size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n == -1 && errno == EINVAL) {
		d->full = NO_SPLICE;
		return -E_UNSUP;
	}
	if (n == -1)
		return -err_from_errno(errno);
	d->pipe->fill += (uint32_t)n;
	if (n > 0 && from->ops->bypassed != NULL)
		from->ops->bypassed(from, ST_READ, (size_t)n);
	return n;
}

/* One read, written at once; the rest is kept. As splice_in(). *sink_err is set when it was the sink that broke. */
static ssize_t
copy_in(struct conn *c, int i, int *sink_err)
{
	struct relay_dir *d = &c->dir[i];
	struct stream *to = sink(c, i);
	ssize_t n, out;

	if (buf_in_use() + SCRATCH / BUF_SIZE > BUF_MAX) {
		d->starved = true;
		return -E_AGAIN;
	}
	n = stream_read(source(c, i), scratch, SCRATCH);
	if (n <= 0)
		return n;
	if (d->full != NO_SPLICE)
		d->full = n < SCRATCH ? 0 : d->full < BULK_AFTER ? (uint8_t)(d->full + 1) : BULK_AFTER;
	for (out = 0; out < n;) {
		ssize_t k = stream_write(to, scratch + out, (size_t)(n - out));

		if (k == -E_AGAIN)
			break;
		if (k < 0) {
			*sink_err = (int)k;
			return n;
		}
		out += k;
	}
	if (out < n)
		*sink_err = keep(d, scratch + out, (size_t)(n - out));
	else if (to->ops->flush != NULL)
		d->sealed = stream_flush(to) == -E_AGAIN;
	return n;
}

static bool
bulk(const struct relay_dir *d)
{
	return d->full >= BULK_AFTER && d->full != NO_SPLICE;
}

/* Pulls once. True to go on: bytes came, and more may be there. */
static bool
pull(struct conn *c, int i, size_t *moved)
{
	struct relay_dir *d = &c->dir[i];
	bool spliced = bulk(d);
	int sink_err = 0;
	ssize_t n = spliced ? splice_in(c, i) : copy_in(c, i, &sink_err);

	if (n == -E_UNSUP && spliced) {
		spliced = false;
		n = copy_in(c, i, &sink_err);
	}
	if (n > 0) {
		count(c, i, (size_t)n);
		*moved += (size_t)n;
		if (sink_err != 0)
			broken(c, i, false, sink_err);
		return sink_err == 0 && (spliced || n == SCRATCH || holds(d));
	}
	if (n == 0)
		d->eof = true;
	else if (n != -E_AGAIN)
		broken(c, i, true, (int)n);
	return n == 0;
}

static void
pump(struct conn *c, int i)
{
	struct relay_dir *d = &c->dir[i];
	size_t moved = 0;
	bool more = true;
	int r;

	for (;;) {
		r = drain(d, sink(c, i));
		if (r == -E_AGAIN)
			return;
		if (r != 0) {
			broken(c, i, false, r);
			return;
		}
		if (d->eof) {
			if (d->pipe != NULL)
				pipe_back(d);
			end_direction(c, i);
			return;
		}
		if (!more || d->starved || moved >= (bulk(d) ? BUDGET_SPLICE : BUDGET_READ))
			break;
		more = pull(c, i, &moved);
		if (c->state != CONN_RELAY)
			return;
	}
	if (d->pipe != NULL) {
		pipe_back(d);
		if (moved < BULK_MIN && bulk(d))
			d->full = 0;
	}
}

static void
on_stream(struct conn *c, int events, int reads)
{
	if ((events & ST_FAIL) != 0) {
		conn_close(c, reads == 0 ? BY_CLIENT : BY_REMOTE);
		return;
	}
	if ((events & ST_READ) != 0 && !c->dir[reads].eof && !holds(&c->dir[reads]))
		pump(c, reads);
	if ((events & ST_WRITE) != 0 && c->state == CONN_RELAY)
		pump(c, 1 - reads);
	arm(c);
}

static void
on_in(struct stream *s, int events, void *arg)
{
	(void)s;
	on_stream(arg, events, 0);
}

static void
on_out(struct stream *s, int events, void *arg)
{
	(void)s;
	on_stream(arg, events, 1);
}

void
relay_start(struct conn *c)
{
	struct relay_dir *d = &c->dir[0];
	int r;

	c->state = CONN_RELAY;
	c->deadline_ms = 0;
	conn_touch(c);
	stream_set_cb(c->in, on_in, c);
	stream_set_cb(c->out, on_out, c);
	if (c->early != NULL) {
		for (const struct buf *b = c->early; b != NULL; b = b->next)
			count(c, 0, b->len - b->off);
		d->buf = c->early;
		c->early = NULL;
		d->sealed = c->out->ops->flush != NULL;
		r = drain(d, c->out);
		if (r != 0 && r != -E_AGAIN)
			broken(c, 0, false, r);
	}
	arm(c);
}

void
relay_kick(struct conn *c)
{
	c->dir[0].starved = c->dir[1].starved = false;
	arm(c);
}

static void
drop_buffers(struct relay_dir *d)
{
	while (d->buf != NULL) {
		struct buf *b = d->buf;

		d->buf = b->next;
		buf_put(b);
	}
}

void
relay_stop(struct conn *c)
{
	for (int i = 0; i < 2; i++) {
		drop_buffers(&c->dir[i]);
		pipe_back(&c->dir[i]);
	}
}

/* ---- hand-over; the bytes' layout is known to the two functions below only */

int
relay_freeze(const struct conn *c, struct wire *out, int *fds)
{
	int n = 0;

	for (int i = 0; i < 2; i++) {
		const struct relay_dir *d = &c->dir[i];
		size_t at, len = 0;

		wire_put_bool(out, d->eof);
		wire_put_bool(out, d->shut);
		wire_put_bool(out, d->one_way);
		at = out->len;
		wire_put_u32(out, 0);
		for (const struct buf *b = d->buf; b != NULL; b = b->next) {
			wire_put(out, b->data + b->off, b->len - b->off);
			len += b->len - b->off;
		}
		wire_set_u32(out, at, (uint32_t)len);
		wire_put_u32(out, d->pipe != NULL ? d->pipe->fill : 0);
		if (d->pipe != NULL && d->pipe->fill != 0) {
			fds[n++] = d->pipe->r;
			fds[n++] = d->pipe->w;
		}
	}
	return n;
}

void
relay_gone(struct conn *c)
{
	for (int i = 0; i < 2; i++) {
		struct relay_dir *d = &c->dir[i];

		drop_buffers(d);
		if (d->pipe != NULL && d->pipe->fill != 0)
			pipe_release(d->pipe);
		else
			pipe_put(d->pipe);
		d->pipe = NULL;
	}
}

int
relay_thaw(struct conn *c, struct wire *in, const int *fds, int nfds)
{
	uint32_t fill[2] = { 0, 0 };
	int used = 0;

	for (int i = 0; i < 2; i++) {
		struct relay_dir *d = &c->dir[i];
		const void *p;
		size_t n;
		int r;

		if (wire_get_bool(in, &d->eof) != 0 || wire_get_bool(in, &d->shut) != 0 || wire_get_bool(in, &d->one_way) != 0 ||
		    wire_get_bytes(in, &p, &n, CONN_MOVE_BYTES) != 0 || wire_get_u32(in, &fill[i]) != 0)
			return -E_PROTO;
		r = keep(d, p, n);
		if (r != 0)
			return r;
		used += fill[i] != 0 ? 2 : 0;
	}
	if (used != nfds)
		return -E_PROTO;
	for (int i = 0; i < 2; i++) {
		if (fill[i] == 0)
			continue;
		c->dir[i].pipe = pipe_adopt(fds[0], fds[1], fill[i]);
		if (c->dir[i].pipe == NULL) {
			relay_gone(c);		/* the fds stay the caller's, those of the first pipe too */
			return -E_LIMIT;
		}
		fds += 2;
	}
	return 0;
}
