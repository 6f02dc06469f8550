/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_CONTROLLER_H
#define SLUICE_SUPERVISOR_CONTROLLER_H

#include "supervisor/sup.h"

enum {
	RELIEVED_GRACE_S = 100,	/* a relieved one still owes answers: to delay tests, and to the /upgrade that relieved it */
	RELIEVED_MAX = 2	/* at once; an older one is ended. With the one in service fewer than a worker has room for */
};

void controller_init(struct sup *s);
/* Starts one and sends it the configuration of the tree; NULL with the reason logged. */
struct child *controller_spawn(struct sup *s, int tree_fd);
void controller_configure(struct sup *s, struct child *c, int tree_fd);
/* A channel between the controller and a worker, and the word that it drains; also for a relieved one that still answers. */
void controller_introduce(struct sup *s, struct child *w);
void controller_draining(struct sup *s, const struct child *w);
void controller_note(struct sup *s);		/* tells it s->upgrade_note, for /version */
/* READY came. True when it was the one in service, at its start or after a new configuration. It serves now, or (wait) by
 * controller_serve() with the generation: an API that answers has somebody to ask. */
bool controller_ready(struct sup *s, struct child *c, bool wait);
void controller_serve(struct sup *s);
/* One ended. True when it was the one in service: it is started again. */
bool controller_gone(struct sup *s, struct child *c, const char *why);
bool controller_crowd(const struct sup *s);	/* RELIEVED_MAX still answer: another one would end the oldest */
void controller_resume(struct sup *s);		/* after an execve: starts it when there is none */

#endif
