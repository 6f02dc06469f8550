/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_RELOAD_H
#define SLUICE_SUPERVISOR_RELOAD_H

#include "supervisor/sup.h"

/* Who waits for the end of a reload. peer NULL: nobody (SIGHUP, start). */
struct reload_waiter {
	struct peer *peer;
	uint32_t id;
};

void reload_init(struct sup *s);
/* Asks for a new generation; payload fd (or -1) is taken. One runs at a time, others wait; equal ones that wait are merged.
 * The waiter gets a MSG_RESULT with the truth. */
void reload_request(struct sup *s, const struct msg_reload *m, int payload, struct reload_waiter w);
void reload_forget_peer(struct sup *s, struct peer *p);		/* a waiter went away: the reload itself goes on */

/* What children of a starting generation say. */
void reload_job_done(struct sup *s, struct child *loader, const struct msg_job_done *m, int tree_fd);
void reload_ready(struct sup *s, struct child *c);
void reload_pong(struct sup *s, struct child *c);
void reload_conf_err(struct sup *s, struct child *c, const struct msg_conf_err *e);
void reload_child_gone(struct sup *s, struct child *c, const char *why);
bool reload_busy(const struct sup *s);		/* one runs or waits */
/* For an upgrade: what waited while it held everything up goes on, or is answered 503. */
void reload_go_on(struct sup *s);
void reload_refuse_waiting(struct sup *s, const char *text);
/* After an execve: the generations were put back; what is missing of them and the controller is started. */
void reload_resume(struct sup *s);

#endif
