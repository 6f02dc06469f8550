/* SPDX-License-Identifier: MIT */
/* `sluice convert-ruleset`: opens the input, has a loader make the other format of it, and writes what came back. This
 * process, which may be root, looks into neither. No service is needed or disturbed. IN and OUT are the operator's words and
 * opened plainly. */
#include "supervisor/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/image.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "supervisor/child.h"
#include "supervisor/programs.h"

struct convert {
	int fd;			/* the result, -1 */
	uint32_t count, line;
	char why[512];
};

static int
fail(const char *file, const char *why)
{
	fprintf(stderr, "sluice: %s: %s\n", file, why);
	return 1;
}

static int
position(const char *const *names, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (names[i] != NULL && strcmp(names[i], word) == 0)
			return (int)i;
	return -1;
}

/* By the name of the output; without a hint in it, what the reference makes: .mrs of lists, text of .mrs. */
static uint32_t
output_format(const char *path, uint32_t from)
{
	static const struct {
		const char *end;
		uint32_t format;
	} ends[] = { { ".mrs", FORMAT_MRS }, { ".txt", FORMAT_TEXT }, { ".list", FORMAT_TEXT }, { ".yaml", FORMAT_YAML },
		{ ".yml", FORMAT_YAML } };
	size_t n = strlen(path);

	for (size_t i = 0; i < countof(ends); i++)
		if (n >= strlen(ends[i].end) && strcasecmp(path + n - strlen(ends[i].end), ends[i].end) == 0)
			return ends[i].format;
	return from == FORMAT_MRS ? FORMAT_TEXT : FORMAT_MRS;
}

static int
read_words(const struct options *o, struct msg_job *job)
{
	static const char *const behaviors[] = {
		[IMAGE_DOMAIN] = "domain", [IMAGE_IPCIDR] = "ipcidr", [IMAGE_CLASSICAL] = "classical"
	};
	static const char *const formats[] = { [FORMAT_YAML] = "yaml", [FORMAT_TEXT] = "text", [FORMAT_MRS] = "mrs" };
	int kind, format;

	if (o->n_operands != 4) {
		fprintf(stderr, "usage: sluice convert-ruleset BEHAVIOR FORMAT IN OUT\n");
		return 2;
	}
	kind = position(behaviors, countof(behaviors), o->operand[0]);
	format = position(formats, countof(formats), o->operand[1]);
	if (kind == -1 || format == -1) {
		fprintf(stderr, "sluice: convert-ruleset: %s: not one of %s\n", o->operand[kind == -1 ? 0 : 1],
		    kind == -1 ? "domain, ipcidr, classical" : "yaml, text, mrs");
		return 2;
	}
	*job = (struct msg_job){ .kind = JOB_CONVERT, .image = (uint32_t)kind, .format = (uint32_t)format };
	job->to = output_format(o->operand[3], job->format);
	str_copy(job->name, sizeof job->name, o->operand[2]);
	return 0;
}

static void
on_timeout(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)loop;
	(void)events;
	list_each(n, &s->children)
		child_kill(container_of(n, struct child, link));
}

void
convert_done(struct sup *s, const struct msg_image_done *m, int fd)
{
	if (s->convert->fd != -1)
		close(s->convert->fd);
	s->convert->fd = fd;
	s->convert->count = m->count;
}

void
convert_failed(struct sup *s, const struct msg_conf_err *e)
{
	s->convert->line = e->line;
	str_copy(s->convert->why, sizeof s->convert->why, e->text);
}

static int
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t r = write(fd, p, n);

		if (r == -1 && errno == EINTR)
			continue;
		if (r <= 0)
			return -1;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

/* A file is whole or not there; what is none, a pipe or a terminal, is written to. */
static int
write_out(const char *path, const char *p, size_t n)
{
	char tmp[PATH_MAX];
	struct stat st;
	bool plain = strcmp(path, "-") != 0 && (stat(path, &st) == -1 || S_ISREG(st.st_mode));
	int fd, rc;

	if (snprintf(tmp, sizeof tmp, "%s%s", path, plain ? ".sluice-new" : "") >= (int)sizeof tmp) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (strcmp(path, "-") == 0)
		return write_all(1, p, n);
	fd = open(tmp, O_WRONLY | O_CLOEXEC | O_NOCTTY | (plain ? O_CREAT | O_TRUNC | O_NOFOLLOW : 0), 0666);
	if (fd == -1)
		return -1;
	rc = write_all(fd, p, n);
	if (rc == 0 && plain && (fsync(fd) == -1 || rename(tmp, path) == -1))
		rc = -1;
	if (rc != 0 && plain)
		(void)unlink(tmp);
	close(fd);
	return rc;
}

static int
store(const struct sup *s, const char *in, const char *out)
{
	const struct convert *c = s->convert;
	char where[PATH_MAX + 32];
	const void *p;
	size_t n;

	if (c->fd == -1) {
		snprintf(where, sizeof where, c->line > 0 ? "%s: line %u" : "%s", in, c->line);
		return fail(where, c->why[0] != '\0' ? c->why : "the loader failed");
	}
	if (memfd_map(c->fd, &p, &n, IMAGE_BYTES_MAX) != 0)
		return fail(in, "the loader's answer is damaged");
	if (write_out(out, p, n) != 0)
		return fail(out, strerror(errno));
	return 0;
}

int
convert_run(struct sup *s)
{
	struct convert c = { .fd = -1 };
	const char *in = s->opt.operand[2];
	struct msg_job job;
	struct child *loader;
	ev_timer timer;
	int rc = read_words(&s->opt, &job), fd;

	if (rc != 0)
		return rc;
	if (programs_init(s) != 0)
		return 1;
	fd = strcmp(in, "-") == 0 ? 0 : open(in, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd == -1)
		return fail(in, strerror(errno));
	loader = child_spawn(s, ROLE_LOADER, NULL, 0);
	if (loader == NULL)
		return 1;
	s->convert = &c;
	s->stopping = true;	/* the loop ends with its last child */
	child_send(loader, MSG_JOB, 0, &job, sizeof job, fd);
	ev_timer_init(&timer, on_timeout, LOADER_TIMEOUT_S, 0);
	timer.data = s;
	ev_timer_start(s->loop, &timer);
	ev_run(s->loop, 0);
	return store(s, in, s->opt.operand[3]);
}
