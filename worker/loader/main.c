/* SPDX-License-Identifier: MIT */
/* sluice-loader: one job, then exit. Started by the supervisor with its channel at fd 3 and the log channel at fd 4; has no
 * network and no file system, and what its input can do to it ends with it. Reads one MSG_JOB with the input's fd, answers
 * with MSG_JOB_DONE and the sealed tree, with MSG_IMAGE_DONE and the sealed image or list, or with MSG_CONF_ERR. Exit status:
 * 0 when an answer was sent. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/config_tree.h"
#include "common/err.h"
#include "common/imsg.h"
#include "common/imsg_types.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/sandbox.h"
#include "common/strutil.h"
#include "worker/loader/convert.h"
#include "worker/loader/limits.h"
#include "worker/loader/provider_proxy.h"
#include "worker/loader/ruleset.h"
#include "worker/loader/settings.h"
#include "worker/loader/yaml.h"

enum { CHANNEL = 3, LOG = 4, KEEP_FDS = 5 };

struct input {
	char *p;
	size_t n, cap;
};

/* --uid N --gid N; absent keeps. The supervisor is the only caller, so anything else is its fault. */
static void
parse_args(int argc, char **argv, uid_t *uid, gid_t *gid)
{
	for (int i = 1; i < argc; i += 2) {
		bool is_uid = strcmp(argv[i], "--uid") == 0;
		int64_t v;

		if ((!is_uid && strcmp(argv[i], "--gid") != 0) || i + 1 == argc ||
		    str_to_i64(argv[i + 1], 0, UINT32_MAX - 1, &v) != 0)
			fatal("usage: sluice-loader [--uid N] [--gid N]");
		if (is_uid)
			*uid = (uid_t)v;
		else
			*gid = (gid_t)v;
	}
}

/* Waits until the channel is ready for events; its end also counts, the call that follows will tell. */
static int
await(short events)
{
	struct pollfd p = { .fd = CHANNEL, .events = events };
	int r;

	do
		r = poll(&p, 1, -1);
	while (r == -1 && errno == EINTR);
	return r == -1 ? -E_SYS : 0;
}

/* The job; *fd is the input, the caller's. */
static int
receive_job(struct msg_job *job, uint32_t *id, int *fd)
{
	static struct imsg m;
	int rc;

	do {
		rc = await(POLLIN);
		if (rc == 0)
			rc = imsg_recv(CHANNEL, &m);
	} while (rc == -E_AGAIN);
	if (rc != 0)
		return rc;
	if (m.hdr.type != MSG_JOB || m.hdr.len != sizeof *job || m.nfds != 1) {
		imsg_close_fds(m.fds, m.nfds);
		return -E_PROTO;
	}
	memcpy(job, m.body, sizeof *job);
	*id = m.hdr.id;
	*fd = m.fds[0];
	return 0;
}

static int
answer(uint16_t type, uint32_t id, const void *body, size_t len, const int *fd)
{
	int rc;

	while ((rc = imsg_send(CHANNEL, type, id, body, len, fd, fd != NULL ? 1 : 0)) == -E_AGAIN) {
		if (errno == ETOOMANYREFS)	/* counts against our small limit of fds; nothing tells when it is over */
			(void)poll(NULL, 0, 1);
		rc = await(POLLOUT);
		if (rc != 0)
			break;
	}
	return rc;
}

/* Reads at the current end of in; from the start of a file, or what comes of a pipe. */
static ssize_t
read_some(int fd, struct input *in)
{
	ssize_t r;

	do {
		r = pread(fd, in->p + in->n, in->cap - in->n, (off_t)in->n);
		if (r == -1 && errno == ESPIPE)
			r = read(fd, in->p + in->n, in->cap - in->n);
	} while (r == -1 && errno == EINTR);
	return r;
}

/* The whole input, at most one byte over the cap, which yaml_load() and load_image() then refuse. */
static int
read_input(int fd, struct input *in, struct cfg_err *err)
{
	for (;;) {
		ssize_t r;

		if (in->n == in->cap) {
			size_t cap = in->cap == 0 ? 65536 : in->cap * 2;
			char *p;

			if (in->n > INPUT_BYTES_MAX)
				return 0;
			p = realloc(in->p, cap);
			if (p == NULL)
				return -E_NOMEM;
			in->p = p;
			in->cap = cap;
		}
		r = read_some(fd, in);
		if (r == -1) {
			(void)cfg_fail(err, NULL, NULL, "cannot read the input: %s", strerror(errno));
			return -E_SYS;
		}
		if (r == 0)
			return 0;
		in->n += (size_t)r;
	}
}

/* Makes the tree and its sealed memfd; 0, or a code with err filled. */
static int
load_config(int input, struct msg_job_done *done, int *fd, struct cfg_err *err)
{
	struct input in = { 0 };
	struct tree t;
	void *image = NULL;
	size_t size = 0;
	int rc;

	rc = read_input(input, &in, err);
	if (rc == 0)
		rc = yaml_load(in.p, in.n, &image, &size, err);
	free(in.p);
	if (rc == 0)
		rc = tree_from_memory(&t, image, size, err);
	if (rc == 0)
		rc = settings_read(t.root, done, err);
	if (rc == 0) {
		*fd = memfd_from("config", image, size);
		rc = *fd < 0 ? *fd : 0;
	}
	free(image);
	return rc;
}

/* Makes a tree of a proxy-provider's bytes. */
static int
load_proxies(const struct input *in, struct msg_image_done *done, int *fd, struct cfg_err *err)
{
	void *image = NULL;
	size_t size = 0;
	int rc = proxies_load(in->p, in->n, &image, &size, &done->count, err);

	if (rc == 0) {
		*fd = memfd_from("proxies", image, size);
		rc = *fd < 0 ? *fd : 0;
	}
	free(image);
	return rc;
}

/* Makes an image of rule data, or of proxies; or another format of a rule set. */
static int
load_image(int input, struct msg_job *job, struct msg_image_done *done, int *fd, struct cfg_err *err)
{
	bool convert = job->kind == JOB_CONVERT;
	struct ruleset_job r = { .kind = job->image, .format = job->format, .name = job->name, .is_file = convert };
	struct input in = { 0 };
	int rc;

	job->name[sizeof job->name - 1] = '\0';
	if (job->image == 0 || job->image >= IMAGE_KINDS_ || job->format == 0 || job->format >= FORMAT_KINDS_)
		return -E_PROTO;
	rc = read_input(input, &in, err);
	if (rc == 0 && in.n > INPUT_BYTES_MAX) {
		(void)cfg_fail(err, NULL, NULL, "the file is larger than %d MiB", INPUT_BYTES_MAX >> 20);
		rc = -E_LIMIT;
	}
	if (rc == 0 && job->image == IMAGE_PROXIES) {
		rc = load_proxies(&in, done, fd, err);
	} else if (rc == 0) {
		r.p = in.p;
		r.n = in.n;
		rc = convert ? ruleset_convert(&r, job->to, fd, &done->count, err) : ruleset_compile(&r, fd, &done->count, err);
	}
	free(in.p);
	return rc;
}

static int
answer_error(uint32_t id, int code, const struct cfg_err *err)
{
	struct msg_conf_err m = { .code = (uint32_t)-code, .line = err->line, .column = err->column };

	(void)str_copy(m.key, sizeof m.key, err->key);
	(void)str_copy(m.text, sizeof m.text, err->text[0] != '\0' ? err->text : err_text(code));
	return answer(MSG_CONF_ERR, id, &m, sizeof m, NULL);
}

int
main(int argc, char **argv)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	struct cfg_err err = { 0 };
	struct msg_image_done image = { 0 };
	struct msg_job_done done;
	struct msg_job job;
	uint32_t id;
	int rc, input, fd = -1;

	log_init(LOG);
	log_install_crash_handler("loader");
	parse_args(argc, argv, &uid, &gid);
	sandbox_enter(ROLE_LOADER, uid, gid, KEEP_FDS);
	sandbox_filter(ROLE_LOADER, 1);
	sandbox_filter(ROLE_LOADER, 2);

	rc = receive_job(&job, &id, &input);
	if (rc != 0) {
		if (rc != -E_CLOSED)
			log_error("loader: no job: %s", err_text(rc));
		return 1;
	}
	if (job.kind < JOB_CONFIG || job.kind > JOB_CONVERT) {
		log_error("loader: unknown job %u", job.kind);
		return 1;
	}
	rc = job.kind == JOB_CONFIG ? load_config(input, &done, &fd, &err) : load_image(input, &job, &image, &fd, &err);
	if (rc != 0)
		rc = answer_error(id, rc, &err);
	else if (job.kind == JOB_CONFIG)
		rc = answer(MSG_JOB_DONE, id, &done, sizeof done, &fd);
	else
		rc = answer(MSG_IMAGE_DONE, id, &image, sizeof image, &fd);
	if (rc != 0)
		log_error("loader: cannot answer: %s", err_text(rc));
	return rc == 0 ? 0 : 1;
}
