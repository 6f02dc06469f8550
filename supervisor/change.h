/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_CHANGE_H
#define SLUICE_SUPERVISOR_CHANGE_H

#include "supervisor/sup.h"

void changes_init(struct sup *s);
/* Broadcasts a change to every worker that serves or starts, but except (the lead, for its own). asker (NULL: nobody) is sent
 * the result with id once every serving worker has acknowledged. */
void changes_start(struct sup *s, struct child *asker, uint32_t id, struct child *except, const struct msg_change *m,
    const void *payload, size_t len);
void changes_ack(struct sup *s, struct child *c, uint32_t seq, const struct msg_result *r);
void changes_child_gone(struct sup *s, struct child *c);
bool changes_busy(const struct sup *s);
uint32_t changes_sequence(const struct sup *s);
void changes_resume(struct sup *s, uint32_t last_seq);	/* an earlier build's numbers go on */

#endif
