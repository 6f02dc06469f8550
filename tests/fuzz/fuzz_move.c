/* SPDX-License-Identifier: MIT */
/* What another worker hands over: any bytes with any sockets make a connection that can be closed, or none, and every fd is
 * closed in the end. Input: number of fds and their kinds (1 byte), the frozen connection. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/core/conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct worker w;
static struct gen gen;
static struct shm_stat counters;
static struct udp_port port;

/* Nothing is ever dialled, and all sockets are Unix ones: no byte leaves the process. */
static struct dgram *
no_packet(struct outbound *ob, const struct dial *dial)
{
	(void)ob;
	(void)dial;
	return NULL;
}

static const struct outbound_type nowhere = { .name = "direct", .api_name = "Direct", .flags = OB_UDP, .packet = no_packet };
static struct outbound direct = { .type = &nowhere, .name = "DIRECT", .flags = OB_UDP };

static void
start(void)
{
	log_set_level(LL_SILENT);
	loop_init(&w.loop);
	w.gen = direct.gen = &gen;
	w.stat = &counters;
	w.conn_limit = 100;
	gen.w = &w;
	gen.direct = &direct;
	gen.general.mode = MODE_DIRECT;
	map_init(&gen.proxies);
	map_init(&gen.sub_rules);
	conns_start(&w);
	port = (struct udp_port){ .w = &w, .fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .in_port = 1 };
	udp_port_init(&port);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int fds[CONN_FDS_MAX], n_fds;
	struct wire in;
	uint8_t *copy;

	if (w.gen == NULL)
		start();
	if (n < 1)
		return 0;
	n_fds = p[0] % (CONN_FDS_MAX + 1);
	for (int i = 0; i < n_fds; i++)
		fds[i] =
		    socket(AF_UNIX, ((p[0] >> 3) & (1 << i % 5) ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	copy = malloc(n);	/* of its own, so that reading past it is seen */
	if (copy == NULL)
		return 0;
	memcpy(copy, p + 1, n - 1);
	wire_read(&in, copy, n - 1);
	(void)conn_thaw(&w, &in, fds, n_fds);
	free(copy);
	loop_turn(&w.loop);
	conns_close_all(&w, BY_STOP);
	loop_turn(&w.loop);
	loop_turn(&w.loop);
	if (w.n_conns != 0)
		abort();
	for (int i = 0; i < n_fds; i++)
		if (fcntl(fds[i], F_GETFD) != -1)
			abort();
	return 0;
}
