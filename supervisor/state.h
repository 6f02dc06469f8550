/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_STATE_H
#define SLUICE_SUPERVISOR_STATE_H

#include "supervisor/sup.h"

/* Takes back what a crashed supervisor left in the descriptor store, or reads the selections of an earlier run. */
void state_init(struct sup *s);
/* A worker's new blob of a kind; takes fd. SELECT also goes to disk. 0 or -E_PROTO. */
int state_save(struct sup *s, uint32_t kind, int fd);
/* Sends a starting worker every blob it shall begin with. keep: bits (1 << kind). */
void state_send(struct sup *s, struct child *c, unsigned keep);
/* Forgets the blobs of the kinds not in keep, when a generation made without them serves. */
void state_forget(struct sup *s, unsigned keep);
void state_end(struct sup *s);			/* an orderly end: nothing but the file remains */
uint64_t state_open_connections(const struct sup *s);	/* of all workers, as they say */

/* Counter pages: a free one for a new worker (a duplicate fd, *slot set), or -E_LIMIT. */
int state_page_take(struct sup *s, struct child *c);
void state_page_release(struct sup *s, struct child *c);
int state_page_dup(struct sup *s, uint32_t slot);	/* for the controller */

/* Memory of common/shm_fakeip.h by its name (OPEN_SHARED), made when first asked for; a fd, read-only unless writable, or -E_*
 * with why. */
int state_open_shared(struct sup *s, const char *name, bool writable, char *why, size_t cap);
int state_shared_dup(struct sup *s, int kind, char *name, size_t cap);	/* of what was opened before: a writable fd and its name, or -1 */

#endif
