/* SPDX-License-Identifier: MIT */
/* load NAME=NUMBER...: the ports echo and nameserver are served; socks, mixed, http, tunnel and dns are the proxy's; ping,
 * busy, assoc, tunnels and churn say how many clients of each kind (load.h), rate, ping-rate, busy-rate, udp-rate and dns-rate
 * how fast. Reads commands, a line each:
 *
 *   start                  opens all of them            phase        the histograms begin anew
 *   set NAME NUMBER        changes a number             report       prints all counters
 *   pause | go             new connections, UDP, DNS    quiet        answers when nothing is under way
 *   kill PID OTHER...      kill -9; OTHER: the other processes of the proxy
 *
 * and ends at the end of its input. Every answer and every failure is a JSON object on a line of its own. */
#include "tests/reload/load/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

enum { OPTIONS_MAX = 48, EVENTS = 256, QUIET_MS = 8000 };
static struct {
	char name[24];
	int value;
} options[OPTIONS_MAX];
static int n_options, ep;
static bool started, stopping;
static uint64_t turn_us, quiet_until;
struct sockaddr_in target;

void
die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t
clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t
now_us(void)
{
	return turn_us;
}

int
option(const char *name, int otherwise)
{
	for (int i = 0; i < n_options; i++)
		if (!strcmp(options[i].name, name))
			return options[i].value;
	return otherwise;
}

static void
set_option(const char *name, int value)
{
	int i = 0;

	while (i < n_options && strcmp(options[i].name, name) != 0)
		i++;
	if (i == OPTIONS_MAX)
		return;
	n_options += i == n_options;
	snprintf(options[i].name, sizeof options[i].name, "%s", name);
	options[i].value = value;
}

void
watch(struct src *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	if (epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &e) == -1 && epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e) == -1)
		die("epoll_ctl");
}

/* Events that were taken in this turn may still point to it. */
static struct epoll_event events[EVENTS];
static int n_events;

void
unwatch(struct src *s)
{
	for (int i = 0; i < n_events; i++)
		if (events[i].data.ptr == s)
			events[i].data.ptr = NULL;
	close(s->fd);
	s->fd = -1;
}

/* ---- commands */

static void
do_kill(char *line)
{
	pid_t others[64], victim;
	int n = 0;
	char *save, *word = strtok_r(line, " ", &save);

	word = strtok_r(NULL, " ", &save);
	victim = word != NULL ? (pid_t)strtol(word, NULL, 10) : 0;
	while (n < 64 && (word = strtok_r(NULL, " ", &save)) != NULL)
		others[n++] = (pid_t)strtol(word, NULL, 10);
	if (victim > 1)
		kill_noted(victim, others, n);
}

static void
command(char *line)
{
	char name[24];
	int value;

	if (!strcmp(line, "start")) {
		flow_open_all();
		udp_open_all();
		started = true;
	} else if (!strcmp(line, "report"))
		tally_print();
	else if (!strcmp(line, "phase"))
		tally_phase();
	else if (!strcmp(line, "pause") || !strcmp(line, "go")) {
		flow_pause(line[0] == 'p');
		udp_pause(line[0] == 'p');
	} else if (!strcmp(line, "quiet"))
		quiet_until = clock_us() + QUIET_MS * 1000;
	else if (sscanf(line, "set %23s %d", name, &value) == 2)
		set_option(name, value);
	else if (!strncmp(line, "kill ", 5))
		do_kill(line);
	else
		fprintf(stderr, "load: what is %s?\n", line);
}

static void
on_input(struct src *s, uint32_t e)
{
	static char text[4096];
	static size_t len;
	ssize_t n = read(s->fd, text + len, sizeof text - 1 - len);
	char *at = text, *end;

	(void)e;
	if (n <= 0) {
		stopping = true;
		return;
	}
	len += (size_t)n;
	text[len] = '\0';
	while ((end = strchr(at, '\n')) != NULL) {
		*end = '\0';
		command(at);
		at = end + 1;
	}
	len -= (size_t)(at - text);
	memmove(text, at, len);
}

static void
answer_quiet(void)
{
	bool yes = flow_quiet() && udp_quiet();

	if (quiet_until == 0 || (!yes && turn_us < quiet_until))
		return;
	quiet_until = 0;
	tally_note("{\"event\":\"quiet\",\"yes\":%s}", yes ? "true" : "false");
}

static void
ticks(void)
{
	static uint64_t ticked, scanned;
	uint64_t ms = (turn_us - ticked) / 1000;

	if (ticked == 0)
		ticked = turn_us;
	else if (ms > 0) {
		ticked += ms * 1000;
		if (started) {
			flow_tick(ms);
			udp_tick(ms);
		}
	}
	if (turn_us - scanned > 100000) {
		scanned = turn_us;
		if (started) {
			flow_scan();
			udp_scan();
		}
		answer_quiet();
	}
}

int
main(int argc, char **argv)
{
	struct src input = { STDIN_FILENO, on_input };
	struct rlimit lim;

	for (int i = 1; i < argc; i++) {
		char *eq = strchr(argv[i], '=');

		if (eq == NULL) {
			fprintf(stderr, "load: %s is not NAME=NUMBER\n", argv[i]);
			return 2;
		}
		*eq = '\0';
		set_option(argv[i], (int)strtol(eq + 1, NULL, 10));
	}
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep == -1)
		die("epoll_create1");
	target = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)option("echo", 0)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	serve_open();
	watch(&input, EPOLLIN);
	tally_note("{\"event\":\"ready\"}");
	while (!stopping) {
		n_events = epoll_wait(ep, events, EVENTS, 1);
		turn_us = clock_us();
		for (int i = 0; i < n_events; i++) {
			struct src *s = events[i].data.ptr;

			if (s != NULL)
				s->fn(s, events[i].events);
		}
		n_events = 0;
		ticks();
	}
	return 0;
}
