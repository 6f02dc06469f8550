/* SPDX-License-Identifier: MIT */
/* Where every log record ends: standard error in the reference's line format, or journald. Only the supervisor writes; records
 * of children come by datagrams. Nothing blocks: a record that the reader has no room for is dropped and counted, and so is
 * one for the API when the controller lags. */
#include "supervisor/logsink.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "supervisor/child.h"

enum { LOG_BATCH = 64, LINE_MAX_BYTES = 4096 /* PIPE_BUF: poll() promises room for this much */ };

static int journal_fd = -1;
static uint32_t lines_lost;

/* systemd sets JOURNAL_STREAM to the device and inode of the stream it gave us (systemd.exec(5)). */
static bool
stderr_is_journal(void)
{
	const char *v = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return v != NULL && sscanf(v, "%llu:%llu", &dev, &ino) == 2 && fstat(2, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static void
to_journal(int level, const char *text, size_t len)
{
	static const char priority[] = { '7', '6', '4', '3' };	/* debug info warning err */
	char head[96];
	uint64_t le = len;
	int n = snprintf(head, sizeof head, "PRIORITY=%c\nSYSLOG_IDENTIFIER=sluice\nMESSAGE\n", priority[level & 3]);
	struct iovec v[] = { { head, (size_t)n }, { &le, 8 }, { (void *)(uintptr_t)text, len }, { (void *)(uintptr_t)"\n", 1 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 4 };

	if (sendmsg(journal_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == -1)
		lines_lost++;
}

static void
to_stderr(int level, const char *text, size_t len)
{
	char line[LINE_MAX_BYTES];
	struct pollfd p = { .fd = 2, .events = POLLOUT };
	struct timespec now;
	size_t n;

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
		lines_lost++;
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	if (lines_lost > 0) {
		char lost[64];
		int k = snprintf(lost, sizeof lost, "%u log records were dropped: the reader is too slow", lines_lost);

		lines_lost = 0;
		n = log_format(line, sizeof line, now.tv_sec * 1000000000LL + now.tv_nsec, LL_WARNING, lost, (size_t)k);
		if (write(2, line, n) == -1)
			return;
		if (poll(&p, 1, 0) != 1)
			return;
	}
	n = log_format(line, sizeof line, now.tv_sec * 1000000000LL + now.tv_nsec, level, text, len);
	if (write(2, line, n) == -1)
		lines_lost++;
}

/* One record, of a child or our own. */
static void
sink(struct sup *s, int level, const char *text, size_t len)
{
	struct { struct msg_log_rec h; char text[LOG_TEXT_MAX]; } m;

	if (level >= s->log_level && level < LL_SILENT) {
		if (journal_fd != -1)
			to_journal(level, text, len);
		else
			to_stderr(level, text, len);
	}
	if (level < s->log_tap || s->log_tap == LL_SILENT || s->controller == NULL || s->controller->state != CH_SERVING)
		return;
	if (s->controller->peer.queued > PEER_QUEUE_MAX / 2) {
		s->tap_lost++;
		return;
	}
	m.h = (struct msg_log_rec){ .level = (uint32_t)level, .dropped = s->tap_lost };
	s->tap_lost = 0;
	if (len > sizeof m.text)
		len = sizeof m.text;
	memcpy(m.text, text, len);
	child_send(s->controller, MSG_LOG_REC, 0, &m, sizeof m.h + len, -1);
}

static struct sup *own;

static void
own_record(int level, const char *text, size_t len)
{
	sink(own, level, text, len);
}

void
logsink_init(struct sup *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };

	own = s;
	if (stderr_is_journal()) {
		journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (journal_fd != -1 && connect(journal_fd, (struct sockaddr *)&a, sizeof a) == -1) {
			close(journal_fd);
			journal_fd = -1;
		}
	}
	log_set_sink(own_record);
	log_set_level(logsink_level(s));
}

int
logsink_drain(struct child *c)
{
	struct { struct log_record h; char text[LOG_TEXT_MAX + 64]; } r;

	for (int i = 0; i < LOG_BATCH; i++) {
		ssize_t n = recv(c->log_fd, &r, sizeof r, MSG_DONTWAIT);

		if (n == 0)
			return -E_CLOSED;
		if (n == -1)
			return errno == EAGAIN || errno == EINTR ? -E_AGAIN : -E_CLOSED;
		if (n < (ssize_t)sizeof r.h || r.h.len > (size_t)n - sizeof r.h || r.h.level >= LL_SILENT)
			continue;	/* a sibling is not believed; nothing is lost but its own line */
		if (r.h.dropped > 0)
			log_warn("%s: %u log records were dropped", c->name, r.h.dropped);
		sink(c->sup, r.h.level, r.text, r.h.len);
	}
	return 0;
}

int
logsink_level(const struct sup *s)
{
	return s->log_tap < s->log_level ? s->log_tap : s->log_level;
}

void
logsink_level_changed(struct sup *s)
{
	struct msg_log_level m = { .level = logsink_level(s) };

	log_set_level(m.level);
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c->role != ROLE_LOADER)
			child_send(c, MSG_LOG_LEVEL, 0, &m, sizeof m, -1);
	}
}
