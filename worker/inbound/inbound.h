/* SPDX-License-Identifier: MIT */
/* An inbound: one configured listener (top-level port, listeners: item, tunnel). A protocol is one file and one line in
 * registry.c. */
#ifndef SLUICE_WORKER_INBOUND_INBOUND_H
#define SLUICE_WORKER_INBOUND_INBOUND_H

#include "worker/core/conn.h"

enum { IN_STREAM = 1, IN_DGRAM = 2, IN_TRANSPARENT = 4 };	/* which listeners to ask the supervisor for */

struct inbound;
struct inbound_type {
	const char *name, *api_name;	/* "mixed", "Mixed" */
	unsigned needs;
	size_t size;
	const char *const *keys;	/* own keys of listeners: items */
	int (*init)(struct inbound *, const struct cfg_node *, struct cfg_err *);	/* node NULL for top-level ports */
	void (*accept)(struct inbound *, struct conn *);	/* conn in CONN_HANDSHAKE, its stream open and unread; ends in conn_dispatch() or conn_close() */
	/* One datagram of a client: parse and udp_input() on that port; p stays as it is until the batch's udp_flush(). */
	void (*packet)(struct inbound *, struct udp_port *port, const union sockaddr_any *client, const struct ip *local, const uint8_t *p, size_t n);
	/* Wraps an answer for the client: writes a header of at most UDP_HEADER_MAX bytes before the payload; its length, or
	 * -E_*. */
	int (*wrap)(struct inbound *, const struct target *from, uint8_t *header);
	void (*fini)(struct inbound *);
};
enum { UDP_HEADER_MAX = UDP_WRAP_MAX };

struct user {
	const char *name, *password;
};
struct user_list {		/* NULL pointer in an inbound: the global authentication */
	struct user *u;
	int n;
};

struct listener {		/* one socket of an inbound */
	struct inbound *inbound;
	int fd;
	ev_io io;
	bool dgram;
	bool adopted;		/* of a worker that died; in inbound.adopted, else in its array */
	bool returned;		/* read by its own worker again; answers of flows that began here still leave by it */
	uint8_t slot, index;	/* of the listener; of the worker it belongs to, where adopted */
	struct listener *next;	/* adopted */
	struct ip local;	/* bound address; none for the wildcard (asked per connection then) */
	uint16_t port;
	struct udp_port udp;	/* dgram */
};

struct inbound {		/* first member of every type's struct */
	const struct inbound_type *type;
	struct worker *w;
	const char *name;		/* in-name */
	struct msg_listen key;		/* TCP; UDP is the same with kind LISTEN_UDP */
	bool udp;			/* wants the UDP listener too */
	bool no_stream;			/* wants no TCP listener: a tunnel of network udp */
	bool top_level;			/* obeys allow-lan, bind-address, lan lists, global authentication */
	struct user_list *users;	/* NULL: global */
	bool acl;			/* lan-allowed-ips etc. apply: top level, and items without `users` */
	const char *special_proxy, *special_rules;
	struct listener *listeners;	/* array, n_listeners */
	int n_listeners;
	struct listener *adopted;	/* list, owned; at most one for each slot of TCP and UDP */
	uint16_t extra_ports;		/* listeners: items may have several ports: each is an inbound of its own sharing the name */
	/* listen.c: */
	bool serving;
	ev_timer resume;		/* accepts again after no file descriptor was left */
	uint64_t starved, starved_log_ms;	/* how often that was so; when it was last logged */
};

extern const struct inbound_type *const inbound_types[];	/* registry.c, ended by NULL */

/* parse.c: top-level ports, listeners:, tunnels:, authentication; makes gen->inbounds, binds nothing. */
int inbounds_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* The inbounds of the top-level ports anew from gen->general (PATCH of ports, allow-lan, bind-address), then all others as
 * they are: the list that should be; unchanged keys keep their struct. */
int inbounds_ports(struct gen *g, struct inbound **out, int max);
/* listen.c: asks for the sockets (priv_listen) of one inbound, and starts or stops accepting. */
int inbound_open(struct inbound *inb, char *why, size_t cap);
void inbound_serve(struct inbound *inb);		/* datagrams not while worker.udp_held, */
void inbound_read_udp(struct inbound *inb);		/* then here: the old worker has handed its sessions over */
/* Slots of a worker that died, read from now on; takes fds on 0. -E_NOTFOUND: not this inbound's key. */
int inbound_adopt(struct inbound *inb, const struct msg_adopt *m, const int *fds);
void inbound_return(struct inbound *inb, uint32_t index);	/* stops reading what was adopted of that worker */
void inbound_pause(struct inbound *inb);		/* stops reading; sockets stay open (draining: answers of UDP flows still leave by them); idle HTTP clients end soon */
void inbound_close(struct inbound *inb);		/* pause, close, priv_unlisten */

/* auth.c: spec/config.md 2 authentication, skip-auth-prefixes, lan lists */
bool inbound_admits(const struct inbound *inb, const struct ip *src);	/* lan-allowed-ips, lan-disallowed-ips */
bool inbound_needs_auth(const struct inbound *inb, const struct ip *src);
bool inbound_check(const struct inbound *inb, const char *user, size_t nu, const char *password, size_t np);	/* constant time per entry */

#endif
