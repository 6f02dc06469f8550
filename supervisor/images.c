/* SPDX-License-Identifier: MIT */
/* Compiled rule data (common/image.h): a worker names a file and what to make of it, the supervisor opens the file, a
 * loader compiles it, and every worker that asks gets the same sealed memory file. Nothing is looked at here.
 *
 * One record per (kind, format, list, path). It remembers which file (device, inode, size, time; for inline sets the
 * configuration tree's) its image was made of, so the other workers and the next generations get it without another
 * compilation, and its memory is paid for once. Workers keep what they have mapped; a record that the serving generation
 * does not use is dropped. A record is
 *
 *   IDLE -> WAITING (for a place among IMAGE_JOBS_MAX) -> RUNNING (a loader) -> IDLE, with the image or the reason there is none
 *
 * A new content of a file, a download of the lead's, is compiled for every record of that file (a geodata file has one for
 * each list) before any of it counts: then it is written, and all of them have their images; or one reason refuses it. One
 * without a file is only compiled: the lead wants to look at it before it lets it be written.
 *
 * A serving worker may only ask for what its generation asked for while it was built: it has met the network since. */
#include "supervisor/images.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/image.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/adopt.h"
#include "supervisor/child.h"
#include "supervisor/files.h"

enum { WAITERS_MAX = 8 * WORKERS_MAX };
enum record_state { IDLE, WAITING, RUNNING };

struct identity {
	dev_t dev;
	ino_t ino;
	off_t size;
	int64_t mtime_ns;
};
struct waiter {
	struct list link;
	struct child *worker;
	uint32_t id;
};
struct content {			/* a new one, for all the records of a file */
	struct sup *sup;
	struct msg_compile what;	/* as asked */
	struct child *asker;		/* NULL: gone */
	uint32_t id;
	int fd;				/* a sealed memfd */
	unsigned left;			/* jobs that are not over */
	uint32_t err;			/* enum err_code: the first that failed */
	char text[512];
};
struct image {
	struct list link;
	struct sup *sup;
	struct msg_compile what;
	enum record_state state;
	struct identity of;		/* what fd, or err, was made of */
	struct identity next;		/* what input is */
	int input;			/* while WAITING */
	struct content *content;	/* NULL, or this is no record of a file but a job of that content; content counts it */
	int fd;				/* the image, -1 */
	uint32_t err, count;		/* enum err_code */
	char text[512];
	bool known;			/* fd or err holds for `of` */
	bool again;			/* the file has changed under a running job */
	bool lacking;			/* geodata: its file was damaged already when the generation that serves was built */
	uint32_t declared;		/* the last generation that asked while it was built */
	struct list waiters;		/* at most WAITERS_MAX; then E_LIMIT */
	unsigned n_waiters;
	struct child *loader;
	ev_timer timer;
};
struct images {
	struct list all;		/* in the order they wait */
	unsigned count, running, jobs_max;
	bool starting;			/* run_next() is at work */
};

static void run_next(struct sup *s);

void
images_init(struct sup *s)
{
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

	s->images = calloc(1, sizeof *s->images);
	if (s->images == NULL)
		fatal("out of memory");
	list_init(&s->images->all);
	s->images->jobs_max = cpus < IMAGE_JOBS_MAX ? (unsigned)cpus : IMAGE_JOBS_MAX;
}

static void
close_fd(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

/* ---- records */

static bool
same(const struct image *im, const struct msg_compile *m)
{
	/* the name says what to make of the file only for geodata, and inline where to look */
	bool named = (m->kind >= IMAGE_GEOSITE && m->kind != IMAGE_PROXIES) || m->format == FORMAT_INLINE;

	return im->what.kind == m->kind && im->what.format == m->format && !strcmp(im->what.path, m->path) &&
	    (!named || !strcmp(im->what.name, m->name));
}

static bool
same_file(const struct image *im, const struct msg_compile *m)
{
	return im->what.kind == m->kind && im->what.format == m->format && m->path[0] != '\0' && !strcmp(im->what.path, m->path);
}

static struct image *
find(struct sup *s, const struct msg_compile *m)
{
	list_each(n, &s->images->all) {
		struct image *im = container_of(n, struct image, link);

		if (im->content == NULL && same(im, m))
			return im;
	}
	return NULL;
}

static void on_timeout(struct ev_loop *loop, ev_timer *t, int events);

static struct image *
make(struct sup *s, const struct msg_compile *m)
{
	struct image *im = s->images->count < IMAGES_MAX ? calloc(1, sizeof *im) : NULL;

	if (im == NULL)
		return NULL;
	im->sup = s;
	im->what = *m;
	im->input = im->fd = -1;
	list_init(&im->waiters);
	ev_timer_init(&im->timer, on_timeout, LOADER_TIMEOUT_S, 0);
	im->timer.data = im;
	list_append(&s->images->all, &im->link);
	s->images->count++;
	return im;
}

static void
drop(struct image *im)
{
	close_fd(&im->fd);
	list_remove(&im->link);
	im->sup->images->count--;
	free(im);
}

/* ---- answers */

static bool
is_geodata(const struct image *im)
{
	return im->what.kind >= IMAGE_GEOSITE && im->what.kind <= IMAGE_ASN;
}

/* A damaged geodata file (E_PROTO) is a missing one to a start, to a worker that replaces another, and where the generation
 * that serves does without it, too. Anybody else would lose what works now: a reload is refused, and so is a test. */
static bool
does_without(const struct image *im, const struct child *w)
{
	const struct sup *s = im->sup;

	return s->opt.command != CMD_TEST && (im->lacking || w->gen == s->serving);
}

static void
answer(struct child *w, uint32_t id, struct image *im)
{
	struct msg_image m = { .err = im->err, .count = im->count, .mtime_ns = im->of.mtime_ns };

	if (im->err == E_PROTO && is_geodata(im)) {
		im->lacking |= im->sup->serving == NULL;
		m.err = does_without(im, w) ? E_PROTO : E_INVAL;
	}
	str_copy(m.text, sizeof m.text, im->text);
	child_send(w, MSG_IMAGE, id, &m, sizeof m, im->err == 0 ? fcntl(im->fd, F_DUPFD_CLOEXEC, 3) : -1);
}

static void
answer_error(struct child *w, uint32_t id, int code, const char *text)
{
	struct msg_image m = { .err = (uint32_t)abs(code) };

	str_copy(m.text, sizeof m.text, text);
	child_send(w, MSG_IMAGE, id, &m, sizeof m, -1);
}

static bool
wait_for(struct image *im, struct child *w, uint32_t id)
{
	struct waiter *k = im->n_waiters < WAITERS_MAX ? calloc(1, sizeof *k) : NULL;

	if (k == NULL) {
		answer_error(w, id, E_LIMIT, "too many ask for this rule set");
		return false;
	}
	im->n_waiters++;
	k->worker = w;
	k->id = id;
	list_append(&im->waiters, &k->link);
	return true;
}

static void
answer_all(struct image *im)
{
	list_each_safe(n, tmp, &im->waiters) {
		struct waiter *k = container_of(n, struct waiter, link);

		answer(k->worker, k->id, im);
		list_remove(&k->link);
		free(k);
	}
	im->n_waiters = 0;
}

/* ---- jobs */

static struct identity
identify(int fd)
{
	struct stat st = { 0 };
	struct identity id = { 0 };

	if (fstat(fd, &st) == 0)
		id = (struct identity){ st.st_dev, st.st_ino, st.st_size, st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec };
	return id;
}

static bool
identical(const struct identity *a, const struct identity *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

/* Gives the images of a content that was written to the records of its file; file: what is there now. */
static void
give_out(struct content *c, int file)
{
	list_each(n, &c->sup->images->all) {
		struct image *im = container_of(n, struct image, link);
		struct image *main = im->content == c ? find(c->sup, &im->what) : NULL;

		if (im->content != c)
			continue;
		im->of = identify(file);
		if (c->asker != NULL && same(im, &c->what))
			answer(c->asker, c->id, im);
		if (main == NULL)
			continue;
		close_fd(&main->fd);
		main->fd = im->fd;
		main->of = im->of;
		main->known = main->fd != -1;
		main->err = 0;
		main->lacking = false;
		main->count = im->count;
		im->fd = -1;
	}
}

/* Every job of a content is over. If it has a file it is written there first, so that who asks for the file gets these images;
 * a file that cannot be written refuses the content, because the other workers could not have it. */
static void
finish_content(struct content *c)
{
	struct sup *s = c->sup;
	int file = -1;

	/* another generation has looked at the file already, and nobody would tell its workers */
	if (c->err == 0 && (c->asker == NULL || c->asker->gen != s->serving)) {
		c->err = E_BUSY;
		str_copy(c->text, sizeof c->text, "the configuration was replaced meanwhile");
	}
	if (c->err == 0 && c->what.path[0] != '\0') {
		int rc = files_replace(s, c->what.path, c->fd, c->text, sizeof c->text);

		file = rc == 0 ? files_open(s, c->what.path, c->text, sizeof c->text) : rc;
		c->err = file < 0 ? (uint32_t)-file : 0;
	}
	if (c->err == 0)
		give_out(c, file);
	else if (c->asker != NULL)
		answer_error(c->asker, c->id, (int)c->err, c->text);
	if (file >= 0)
		close(file);
	list_each_safe(n, tmp, &s->images->all) {
		struct image *im = container_of(n, struct image, link);

		if (im->content == c)
			drop(im);
	}
	close(c->fd);
	free(c);
}

static void
content_settle(struct content *c, uint32_t err, const char *text)
{
	if (err != 0 && c->err == 0) {
		c->err = err;
		str_copy(c->text, sizeof c->text, text);
	}
	if (--c->left == 0)
		finish_content(c);
}

/* The job is over: err, text, fd and count are set. */
static void
finish(struct image *im)
{
	struct sup *s = im->sup;

	if (im->state == RUNNING) {
		ev_timer_stop(s->loop, &im->timer);
		s->images->running--;
		if (im->loader != NULL) {
			im->loader->image = NULL;
			im->loader->stopping = true;
		}
		im->loader = NULL;
	}
	close_fd(&im->input);
	im->state = IDLE;
	if (im->content != NULL) {
		content_settle(im->content, im->err, im->text);
		run_next(s);
		return;
	}
	im->known = true;
	im->of = im->next;
	if (im->again) {	/* somebody asked for what the file holds now */
		char why[512] = "";

		im->again = false;
		im->input = files_open(s, im->what.path, why, sizeof why);
		if (im->input >= 0) {
			im->next = identify(im->input);
			im->state = WAITING;
			run_next(s);
			return;
		}
		im->input = -1;
	}
	answer_all(im);
	run_next(s);
}

static void
fail(struct image *im, uint32_t code, const char *text)
{
	close_fd(&im->fd);
	im->err = code != 0 && code < E_MAX_ ? code : E_SYS;
	str_copy(im->text, sizeof im->text, text);
	finish(im);
}

static void
start(struct image *im)
{
	struct msg_job job = { .kind = JOB_IMAGE, .image = im->what.kind, .format = im->what.format };
	struct child *c;
	int input = im->input;

	if (im->content != NULL && im->content->err != 0) {	/* refused already */
		finish(im);
		return;
	}
	c = child_spawn(im->sup, ROLE_LOADER, NULL, 0);
	if (c == NULL) {
		fail(im, E_SYS, "the loader cannot be started");
		return;
	}
	memcpy(job.name, im->what.name, sizeof job.name);
	c->image = im;
	c->compiles = true;
	im->loader = c;
	im->state = RUNNING;
	im->input = -1;
	im->sup->images->running++;
	ev_timer_set(&im->timer, LOADER_TIMEOUT_S, 0);
	ev_timer_start(im->sup->loop, &im->timer);
	child_send(c, MSG_JOB, 0, &job, sizeof job, input);
}

static struct image *
next_waiting(struct sup *s)
{
	if (s->images->running >= s->images->jobs_max || s->stopping)
		return NULL;
	list_each(n, &s->images->all) {
		struct image *im = container_of(n, struct image, link);

		if (im->state == WAITING)
			return im;
	}
	return NULL;
}

/* A job that ends at once calls this again, while the list is walked. */
static void
run_next(struct sup *s)
{
	struct image *im;

	if (s->images->starting)
		return;
	s->images->starting = true;
	while ((im = next_waiting(s)) != NULL)
		start(im);
	s->images->starting = false;
}

static void
on_timeout(struct ev_loop *loop, ev_timer *t, int events)
{
	struct image *im = t->data;
	struct child *c = im->loader;

	(void)loop;
	(void)events;
	fail(im, E_TIMEOUT, "compiling took too long");
	if (c != NULL)
		child_kill(c);
}

/* ---- what others call */

static bool
valid(struct msg_compile *m, bool payload)
{
	m->name[sizeof m->name - 1] = m->path[sizeof m->path - 1] = '\0';
	return m->kind > 0 && m->kind < IMAGE_KINDS_ && m->format > 0 && m->format < FORMAT_KINDS_ &&
	    (payload ? m->format != FORMAT_INLINE : (m->path[0] == '\0') == (m->format == FORMAT_INLINE));
}

/* Whether a's first bytes, that many, are b's. */
static bool
same_bytes(int a, int b, off_t size)
{
	static char x[65536], y[65536];
	ssize_t n;

	for (off_t at = 0; at < size; at += n) {
		n = pread(a, x, sizeof x, at);
		if (n <= 0 || pread(b, y, (size_t)n, at) != n || memcmp(x, y, (size_t)n) != 0)
			return false;
	}
	return true;
}

/* Of a geodata file it is the time alone that tells when it was last looked for; its images are still of it. */
static void
touch(struct sup *s, const struct image *of, int file)
{
	struct identity old = of->of;

	if (futimens(file, NULL) == -1)
		return;
	list_each(n, &s->images->all) {
		struct image *im = container_of(n, struct image, link);

		if (same_file(im, &of->what) && im->state == IDLE && identical(&im->of, &old))
			im->of = identify(file);
	}
}

/* Whether the file of a record holds these bytes already, and its image is of them: then nothing is compiled or written. */
static bool
holds(struct sup *s, const struct image *im, int payload)
{
	struct identity now, new = identify(payload);
	char why[512] = "";
	bool same;
	int file;

	if (im->state != IDLE || !im->known || im->err != 0)
		return false;
	file = files_open(s, im->what.path, why, sizeof why);
	if (file < 0)
		return false;
	now = identify(file);
	same = identical(&im->of, &now) && new.size == now.size && same_bytes(file, payload, now.size);
	if (same && is_geodata(im))
		touch(s, im, file);
	close(file);
	return same;
}

static int
add_job(struct content *c, const struct msg_compile *what)
{
	struct image *im = make(c->sup, what);

	if (im == NULL)
		return -E_LIMIT;
	im->input = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
	if (im->input == -1) {
		drop(im);
		return -E_SYS;
	}
	im->content = c;
	im->state = WAITING;
	c->left++;
	return 0;
}

/* A new content for a file, or for none, from the lead of the generation that serves. */
static void
ask_with_payload(struct sup *s, struct child *w, uint32_t id, const struct msg_compile *m, int payload)
{
	struct image *asked = m->path[0] != '\0' ? find(s, m) : NULL;
	bool declared = m->path[0] == '\0' || (asked != NULL && asked->declared >= w->gen->number);
	struct content *c;
	int rc = 0;

	if (w->index != 0 || w->gen != s->serving || w->state != CH_SERVING || !declared) {
		answer_error(w, id, E_PERM, "this file is not of the configuration");
		close(payload);
		return;
	}
	if (asked != NULL && holds(s, asked, payload)) {
		answer(w, id, asked);
		close(payload);
		return;
	}
	c = calloc(1, sizeof *c);
	if (c == NULL) {
		answer_error(w, id, E_NOMEM, err_text(E_NOMEM));
		close(payload);
		return;
	}
	*c = (struct content){ .sup = s, .what = *m, .asker = w, .id = id, .fd = payload, .left = 1 };
	if (asked == NULL)
		rc = add_job(c, m);
	list_each(n, &s->images->all) {		/* jobs are appended, and passed over */
		const struct image *im = container_of(n, struct image, link);

		if (rc == 0 && im->content == NULL && same_file(im, m) && im->declared >= w->gen->number)
			rc = add_job(c, &im->what);
	}
	content_settle(c, (uint32_t)-rc, "too many rule sets");
	run_next(s);
}

void
images_ask(struct sup *s, struct child *w, uint32_t id, const struct msg_compile *asked, int payload)
{
	struct msg_compile m = *asked;
	bool ok = valid(&m, payload != -1);
	struct image *im = ok ? find(s, &m) : NULL;
	char why[512] = "";
	struct identity now;
	int fd;

	if (ok && payload != -1) {
		ask_with_payload(s, w, id, &m, payload);
		return;
	}
	close_fd(&payload);
	if (!ok || (w->state != CH_CONFIGURING && (im == NULL || im->declared < w->gen->number))) {
		answer_error(w, id, E_PERM, "this file is not of the configuration");
		return;
	}
	if (im == NULL)
		im = make(s, &m);
	if (im == NULL) {
		answer_error(w, id, E_LIMIT, "too many rule sets");
		return;
	}
	if (w->state == CH_CONFIGURING && w->gen->number > im->declared)
		im->declared = w->gen->number;
	fd = m.format == FORMAT_INLINE ? fcntl(w->gen->tree_fd, F_DUPFD_CLOEXEC, 3) : files_open(s, m.path, why, sizeof why);
	if (fd < 0) {
		answer_error(w, id, fd, why[0] != '\0' ? why : strerror(errno));
		return;
	}
	now = identify(fd);
	if (im->state == IDLE && im->known && identical(&im->of, &now)) {
		close(fd);
		answer(w, id, im);
		return;
	}
	if (!wait_for(im, w, id)) {
		close(fd);
		return;
	}
	if (im->state != IDLE) {
		im->again |= !identical(&im->next, &now);
		close(fd);
		return;
	}
	im->next = now;
	im->input = fd;
	im->state = WAITING;
	run_next(s);
}

void
images_done(struct sup *s, struct child *loader, const struct msg_image_done *m, int fd)
{
	struct image *im = loader->image;

	(void)s;
	if (im == NULL || im->state != RUNNING) {
		close(fd);
		return;
	}
	close_fd(&im->fd);
	im->fd = fd;
	im->err = 0;
	im->text[0] = '\0';
	im->count = m->count;
	im->lacking = false;
	finish(im);
}

void
images_failed(struct sup *s, struct child *loader, const struct msg_conf_err *e)
{
	char text[sizeof e->text];

	(void)s;
	str_copy(text, sizeof text, e->text);
	if (loader->image != NULL)
		fail(loader->image, e->code, text);
}

void
images_child_gone(struct sup *s, struct child *c)
{
	struct image *im = c->image;

	if (c->role == ROLE_LOADER) {
		if (im != NULL) {
			im->loader = NULL;
			fail(im, E_SYS, "the loader failed");
		}
		return;
	}
	list_each(n, &s->images->all) {
		im = container_of(n, struct image, link);
		if (im->content != NULL && im->content->asker == c)
			im->content->asker = NULL;
		list_each_safe(k, tmp, &im->waiters) {
			struct waiter *wt = container_of(k, struct waiter, link);

			if (wt->worker == c) {
				list_remove(k);
				free(wt);
				im->n_waiters--;
			}
		}
	}
}

void
images_settle(struct sup *s, uint32_t generation)
{
	list_each_safe(n, tmp, &s->images->all) {
		struct image *im = container_of(n, struct image, link);

		if (im->declared < generation && im->state == IDLE && im->content == NULL)
			drop(im);
	}
}

/* ---- over an execve */

_Static_assert(sizeof(struct msg_compile) == 2 * 4 + COMPILE_NAME_MAX + 1024, "msg_compile changed: its fields are written one by one here");

void
images_save(struct sup *s, struct adopt *a)
{
	uint32_t count = 0;

	list_each(n, &s->images->all)
		count += container_of(n, struct image, link)->content == NULL;
	wire_put_u32(&a->w, count);
	list_each(n, &s->images->all) {
		const struct image *im = container_of(n, struct image, link);

		if (im->content != NULL)
			continue;
		wire_put_u32(&a->w, im->what.kind);
		wire_put_u32(&a->w, im->what.format);
		wire_put_str(&a->w, im->what.name);
		wire_put_str(&a->w, im->what.path);
		wire_put_u32(&a->w, im->declared);
	}
}

int
images_load(struct sup *s, struct adopt *a)
{
	uint32_t n;

	if (adopt_get_u32(a, IMAGES_MAX, "the number of rule sets", &n) != 0)
		return -E_PROTO;
	for (uint32_t i = 0; i < n; i++) {
		struct msg_compile m = { 0 };
		struct image *im;
		uint32_t declared = 0;

		if (wire_get_u32(&a->w, &m.kind) != 0 || wire_get_u32(&a->w, &m.format) != 0 ||
		    wire_get_str(&a->w, m.name, sizeof m.name) != 0 || wire_get_str(&a->w, m.path, sizeof m.path) != 0 ||
		    wire_get_u32(&a->w, &declared) != 0 || !valid(&m, false) || find(s, &m) != NULL)
			return adopt_bad(a, "a rule set");
		im = make(s, &m);
		if (im == NULL)
			return adopt_bad(a, "out of memory");
		im->declared = declared;
		im->lacking = is_geodata(im);	/* it is not known; an upgrade is refused by nothing that was so before */
	}
	return 0;
}

void
images_forget(struct sup *s)
{
	list_each_safe(n, tmp, &s->images->all)
		drop(container_of(n, struct image, link));
}
