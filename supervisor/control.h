/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_CONTROL_H
#define SLUICE_SUPERVISOR_CONTROL_H

#include <sys/un.h>

#include "supervisor/sup.h"

/* The control socket HOME/sluice.sock, 0600, for the commands of options.c. A failure is logged and not fatal. */
#define CONTROL_SOCKET "sluice.sock"
void control_address(int home_fd, const char *home, struct sockaddr_un *out);	/* home_fd is to stay open while it is used */
void control_init(struct sup *s);
void control_open(struct sup *s);
void control_end(struct sup *s);
struct adopt;
void control_save(struct sup *s, struct adopt *a);
int control_load(struct sup *s, struct adopt *a);
void control_forget(struct sup *s);
uint32_t control_client_number(const struct sup *s, const struct peer *p);	/* 0: it is none */
struct peer *control_client_peer(struct sup *s, uint32_t number);
bool control_quiet(const struct sup *s);	/* nothing waits to be sent */
/* client.c, the other side: runs one command against a running service. The exit code: 0 done, 1 refused or failed (said why),
 * 3 nobody answers. */
int control_client(const struct options *o);
const char *control_state_name(const struct child *c);
uint64_t control_resident(const struct child *c);		/* bytes */
/* Resident memory of every process: private parts, and what they share once. */
void control_memory(struct sup *s, struct msg_memory *m);

#endif
