/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_MESSAGES_H
#define SLUICE_SUPERVISOR_MESSAGES_H

#include "supervisor/sup.h"

extern const struct imsg_handler messages_table[];
extern const unsigned messages_count;

/* The only writer of child.state; keeps the peer's state bits (role and state) in step. */
void messages_set_state(struct child *c, enum child_state state);
/* Handles what an ended child left in its channel. */
void messages_drain(struct child *c);
/* Fills and sends a msg_result. */
void messages_result(struct peer *p, uint32_t id, int status, const struct msg_conf_err *err, const char *text);

#endif
