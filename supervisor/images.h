/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_IMAGES_H
#define SLUICE_SUPERVISOR_IMAGES_H

#include "supervisor/sup.h"

enum {
	IMAGES_MAX = 2048,	/* kept; a worker that asks for more is answered E_LIMIT */
	IMAGE_JOBS_MAX = 4	/* loaders at once, not more than CPUs; the others wait their turn */
};

void images_init(struct sup *s);
/* A worker's question, answered by MSG_IMAGE now or later. payload (or -1) is taken. */
void images_ask(struct sup *s, struct child *w, uint32_t id, const struct msg_compile *m, int payload);
/* What a loader with child.image says; fd is taken. */
void images_done(struct sup *s, struct child *loader, const struct msg_image_done *m, int fd);
void images_failed(struct sup *s, struct child *loader, const struct msg_conf_err *e);
/* A worker, or a loader with child.image, has ended. */
void images_child_gone(struct sup *s, struct child *c);
/* The generation of this number serves now: what none of its workers asked for is dropped. */
void images_settle(struct sup *s, uint32_t generation);

/* Over an execve: what was declared; the images themselves are made anew by the next build's loader when they are asked for. */
struct adopt;
void images_save(struct sup *s, struct adopt *a);
int images_load(struct sup *s, struct adopt *a);
void images_forget(struct sup *s);

#endif
