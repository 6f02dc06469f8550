/* SPDX-License-Identifier: MIT */
/* The load of tests/reload/torture.py: one process, one epoll loop, that is every client of the proxy and every server behind
 * it, so that a machine with few cores is left to the program under test. main.c reads commands and owns the loop; flow.c are
 * the TCP clients, udp.c the UDP and DNS ones, serve.c the servers, kill.c ends a process of the proxy after noting what it
 * holds; tally.c counts.
 *
 * Nothing here tolerates: a connection that fails in any way is a failure, unless the process that held it was killed (own). */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { FLOWS_MAX = 16384, CHURN_MAX = 256, UDP_MAX = 4096, RING = 64 /* unanswered datagrams of a flow */, MESSAGE = 16, TIMEOUT_MS = 10000, LOST_MS = 5000 };

struct src {			/* what an fd in the epoll set points to */
	int fd;
	void (*fn)(struct src *, uint32_t events);
};

enum why { BAD_REFUSED, BAD_RESET, BAD_CLOSED, BAD_REPLY, BAD_TIMEOUT, BAD_CORRUPT, BAD_SHORT, BAD_OTHER, BAD_COUNT };
enum kind { K_CHURN, K_PING, K_BUSY, K_ASSOC, K_COUNT };
enum hist { H_CONNECT, H_PING, H_UDP, H_DNS, H_COUNT };

/* ---- main.c */
extern struct sockaddr_in target;		/* the echo, as the proxy is asked for it */
uint64_t now_us(void);				/* of the turn */
uint64_t clock_us(void);			/* this moment */
int option(const char *name, int otherwise);
void watch(struct src *, uint32_t events);	/* adds or changes */
void unwatch(struct src *);			/* and closes; takes fd */
void die(const char *what);

/* ---- tally.c */
struct tally {
	uint64_t ok, bad[BAD_COUNT], own[BAD_COUNT];
};
extern struct tally tally[K_COUNT];
extern struct counts {
	uint64_t transfers, bytes, accepted;
	uint64_t udp_sent, udp_answered, udp_lost, udp_own, udp_twice, udp_corrupt, udp_astray, udp_ports;
	uint64_t dns_sent, dns_answered, dns_lost, dns_own, dns_wrong, dns_twice;
} counts;
void tally_fail(enum kind, enum why, bool own, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void tally_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* one JSON object to the driver */
void tally_time(enum hist, uint64_t us);
void tally_phase(void);				/* histograms begin anew */
void tally_print(void);
enum why tally_errno(int e);

/* ---- serve.c */
void serve_open(void);
uint16_t serve_udp_port(uint32_t flow);		/* from which the flow's last datagram came; 0: none yet */

/* ---- flow.c */
void flow_open_all(void);
void flow_tick(uint64_t ms);			/* every ms */
void flow_scan(void);				/* every 100 ms: time-outs, what is to be opened again */
void flow_pause(bool churn);
bool flow_quiet(void);				/* nothing is under way */
int flow_assoc(uint32_t udp, int via, struct sockaddr_in *relay);
void flow_each_open(void (*fn)(const struct sockaddr_in *local, bool *own, void *arg), void *arg);
unsigned flow_living(enum kind);

/* ---- udp.c */
void udp_open_all(void);
void udp_tick(uint64_t ms);
void udp_scan(void);
void udp_relay(uint32_t i, const struct sockaddr_in *relay);	/* an association is there; NULL: it ended */
void udp_pause(bool on);
bool udp_quiet(void);
unsigned udp_living(void);
void udp_own(bool (*held)(uint16_t port, void *arg), void *arg);	/* at a kill */

/* ---- kill.c */
void kill_noted(pid_t victim, const pid_t *others, int n);
