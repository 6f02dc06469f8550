/* SPDX-License-Identifier: MIT */
/* The parameters and the answer of a delay test: shared by proxies.c, group.c and providers_proxies.c. */
#ifndef SLUICE_CONTROLLER_API_DELAY_H
#define SLUICE_CONTROLLER_API_DELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/api/ask.h"

enum { DELAY_MAX_MS = 600000 };

/* Reads timeout, url and expected into a. A bad one sets a->status and a->message: what to answer once it is known that the name
 * exists. limit: the largest timeout taken as a number; more than DELAY_MAX_MS is then cut to that. */
void delay_read(struct api_req *req, struct ask *a, int64_t limit, int late_status, const char *late);
/* Writes str name, url, u32 timeout, str expected: the arguments of QUERY_DELAY and QUERY_GROUP_DELAY. */
void delay_put(struct ask *a, const char *name);
/* How long the bridge waits for such a test. */
unsigned delay_wait(const struct ask *a);
/* The answer of QUERY_DELAY, and of a look-up made only because the parameters were bad. Bridge callbacks. */
void delay_on_answer(struct ctl *ctl, int err, struct bridge_reply *r, void *arg);
void delay_on_lookup(struct ctl *ctl, int err, struct bridge_reply *r, void *arg);
/* Whether the text is a list of status ranges (spec/api.md 2.8). */
bool delay_expected_valid(const char *s);

#endif
