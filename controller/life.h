/* SPDX-License-Identifier: MIT */
/* What the supervisor orders the controller: configuration, serve, stop. Called by bridge.c's handlers on the loop; acts in the
 * loop's next turn, since a configuration asks the supervisor things and waits for the answers. */
#ifndef SLUICE_CONTROLLER_LIFE_H
#define SLUICE_CONTROLLER_LIFE_H

#include <stdint.h>

#include "common/imsg_types.h"
#include "controller/api.h"

struct ctl;

enum {
	LIFE_ASK_MS = 10000,		/* the supervisor's time to open a file or bind an address */
	LIFE_STOP_MS = 800,		/* from a stop to the end of the process, whatever is still under way */
	LIFE_IDLE_MS = 1000		/* a relieved one: kept-alive connections without a request are closed then */
};

int life_new(struct ctl *ctl, const struct api_route *routes);
/* Runs the loop until the stop, then ends threads, streams and clients. The exit code. */
int life_run(struct ctl *ctl);

void life_hello(struct ctl *ctl, const struct msg_hello *m);
void life_config(struct ctl *ctl, const struct msg_ctl_config *m, int fd);	/* takes fd */
void life_serve(struct ctl *ctl);
void life_stop(struct ctl *ctl, uint32_t grace_ms);
/* Another controller has the listeners: ends when every client has its answers, at the latest after grace_ms. */
void life_relieved(struct ctl *ctl, uint32_t grace_ms);

#endif
