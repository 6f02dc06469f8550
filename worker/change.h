/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_CHANGE_H
#define SLUICE_WORKER_CHANGE_H

#include "common/imsg_types.h"
#include "common/wire.h"
#include "worker/worker.h"

/* Applies one broadcast change and acknowledges it. */
void change_apply(struct worker *w, const struct msg_change *m, struct wire *payload);
/* Rule switches as a blob (STATE_RULES), and back; indexes past the list are skipped. */
void change_save_rules(const struct gen *g, struct wire *out);
void change_load_rules(struct gen *g, struct wire *in);
/* The lead has taken a rule set, the nodes of a proxy-provider, or a geodata file anew (kind: CHANGE_RULE_SET, CHANGE_NODES,
 * CHANGE_GEO): the others do the same. cb is called once, later, with what they said together. At most 64 at once: then at
 * once, with 503. */
typedef void change_cb(void *arg, const struct msg_result *r);
void change_tell_provider(struct worker *w, enum change_kind kind, const char *name, change_cb *cb, void *arg);
/* MSG_RESULT of the supervisor. */
void change_result(uint32_t id, struct msg_result *r);

#endif
