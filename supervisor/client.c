/* SPDX-License-Identifier: MIT */
/* The sluice command: one order or question to a running service over its control socket, or, for explain, over a channel
 * to the worker that the service hands out. A short-lived process with the rights of whoever typed it. Called by main.c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg.h"
#include "common/imsg_types.h"
#include "common/strutil.h"
#include "common/wire.h"
#include "supervisor/control.h"

enum { CLIENT_WAIT_MS = 180000, EXPLAIN_WAIT_MS = 10000, TEXT_MAX = 8 << 20 };

static int
print_result(const struct imsg *m)
{
	struct msg_result r;

	if (m->hdr.len < sizeof r)
		return 1;
	memcpy(&r, m->body, sizeof r);
	r.text[sizeof r.text - 1] = '\0';
	if (r.status < 400)
		return 0;
	fprintf(stderr, "sluice: %s", r.text);
	if (r.line > 0)
		fprintf(stderr, " (line %u, column %u)", r.line, r.column);
	fputc('\n', stderr);
	return 1;
}

static int
ask(int fd, const struct options *o)
{
	struct msg_reload reload = { .flags = o->command == CMD_RESTART ? RELOAD_SAME : RELOAD_FORCE | RELOAD_CONTROLLER };
	struct msg_upgrade upgrade = { .flags = o->force ? UPGRADE_FORCE : 0 };

	switch (o->command) {
	case CMD_STATUS:
		return imsg_send_as(fd, IMSG_VERSION_CONTROL, MSG_STATUS, 1, NULL, 0, NULL, 0);
	case CMD_STOP:
		return imsg_send_as(fd, IMSG_VERSION_CONTROL, MSG_SHUTDOWN, 1, NULL, 0, NULL, 0);
	case CMD_EXPLAIN:
		return imsg_send_as(fd, IMSG_VERSION_CONTROL, MSG_INTRODUCE, 1, NULL, 0, NULL, 0);
	case CMD_UPGRADE:
		return imsg_send_as(fd, IMSG_VERSION_CONTROL, MSG_UPGRADE, 1, &upgrade, sizeof upgrade, NULL, 0);
	default:
		return imsg_send_as(fd, IMSG_VERSION_CONTROL, MSG_RELOAD, 1, &reload, sizeof reload, NULL, 0);
	}
}

/* The text comes from a process that talks to the network: what could steer a terminal is not shown. */
static int
print_text(FILE *to, const void *data, size_t n)
{
	struct wire w;
	const void *text;
	size_t len;

	wire_read(&w, data, n);
	if (wire_get_bytes(&w, &text, &len, TEXT_MAX) != 0)
		return -E_PROTO;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = ((const unsigned char *)text)[i];

		putc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : c, to);
	}
	return 0;
}

static int
print_answer(const struct imsg *m)
{
	struct msg_answer a;
	struct stat st;
	void *map;
	int rc;

	memcpy(&a, m->body, sizeof a);
	if (a.status != 200) {
		fprintf(stderr, "sluice: ");
		(void)print_text(stderr, m->body + sizeof a, m->hdr.len - sizeof a);
		putc('\n', stderr);
		return 1;
	}
	if (m->nfds == 0)
		return print_text(stdout, m->body + sizeof a, m->hdr.len - sizeof a) == 0 ? 0 : 1;
	if (fstat(m->fds[0], &st) == -1 || st.st_size <= 0 || st.st_size > TEXT_MAX)
		return 1;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, m->fds[0], 0);
	if (map == MAP_FAILED)
		return 1;
	rc = print_text(stdout, map, (size_t)st.st_size);
	munmap(map, (size_t)st.st_size);
	return rc == 0 ? 0 : 1;
}

static int
explain(int fd, const struct options *o)
{
	struct msg_query q = { .kind = QUERY_EXPLAIN };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static struct imsg m;
	struct wire w;
	int code = 1, rc;

	wire_init(&w);
	wire_put(&w, &q, sizeof q);
	wire_put_bool(&w, true);
	for (int i = 0; i < o->n_words; i++) {
		wire_put_str(&w, o->words[i].key);
		wire_put_str(&w, o->words[i].word);
	}
	rc = w.failed ? -E_NOMEM : imsg_send(fd, MSG_QUERY, 1, w.p, w.len, NULL, 0);
	wire_free(&w);
	while (rc == 0 && poll(&p, 1, EXPLAIN_WAIT_MS) == 1) {
		rc = imsg_recv(fd, &m);
		if (rc == -E_AGAIN) {
			rc = 0;
			continue;
		}
		if (rc == 0 && m.hdr.type == MSG_ANSWER && m.hdr.len >= sizeof(struct msg_answer)) {
			code = print_answer(&m);
			imsg_close_fds(m.fds, m.nfds);
			close(fd);
			return code;
		}
	}
	fprintf(stderr, "sluice: the worker did not answer%s\n", rc == -E_LIMIT ? ": the question is too long" : "");
	close(fd);
	return 1;
}

static int
talk(int fd, const struct options *o)
{
	enum command command = o->command;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static struct imsg m;
	int code = 1;

	if (ask(fd, o) != 0)
		return 3;
	while (poll(&p, 1, CLIENT_WAIT_MS) == 1) {
		int rc = imsg_recv(fd, &m);

		if (rc == -E_AGAIN)
			continue;
		if (rc != 0)	/* for stop this end of file is the answer: the service has ended */
			return command == CMD_STOP ? code : (fprintf(stderr, "sluice: the service went away\n"), 1);
		if (m.hdr.type == MSG_RESULT) {
			code = print_result(&m);
			if (command != CMD_STOP || code != 0)
				return code;
		} else if (m.hdr.type == MSG_TEXT) {
			print_text(stdout, m.body, m.hdr.len);
			return 0;
		} else if (m.hdr.type == MSG_PEER && m.nfds == 1) {
			return explain(m.fds[0], o);
		}
	}
	fprintf(stderr, "sluice: no answer within %d s\n", CLIENT_WAIT_MS / 1000);
	return 1;
}

int
control_client(const struct options *o)
{
	struct sockaddr_un a;
	int home = open(o->home, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), code;

	control_address(home, o->home, &a);
	if (fd == -1 || connect(fd, (struct sockaddr *)&a, sizeof a) == -1) {
		bool there = errno == EACCES || errno == EPERM || errno == EAGAIN;

		fprintf(stderr, "sluice: %s %s: %s\n", there ? "cannot reach the service in" : "no service runs in", o->home,
		    strerror(errno));
		return 3;
	}
	code = talk(fd, o);
	close(fd);
	close(home);
	return code;
}
