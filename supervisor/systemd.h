/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_SYSTEMD_H
#define SLUICE_SUPERVISOR_SYSTEMD_H

#include "supervisor/sup.h"

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them, before a child starts. Without them, and when testing
 * a configuration, every function here does nothing. Needs the loop. */
void systemd_init(struct sup *s);
/* Puts the variables back, for the program that takes this process over by execve. */
void systemd_export(const struct sup *s);
void systemd_unexport(void);			/* it did not */
bool systemd_quiet(const struct sup *s);	/* nothing waits to be sent */

void systemd_serving(struct sup *s);		/* a generation serves: READY=1 the first time, STATUS= always */
void systemd_reloading(struct sup *s);		/* SIGHUP came: RELOADING=1, as Type=notify-reload asks */
void systemd_idle(struct sup *s, bool refused);	/* no reload runs or waits: READY=1 after RELOADING=1 */
void systemd_stopping(struct sup *s, uint32_t grace_ms);
void systemd_end(struct sup *s);		/* the last call: sends what still waits */
void systemd_pong(struct child *c);		/* a child answered a ping */

/* The descriptor store; fd stays the caller's. A name that is there already is to be removed first. */
bool systemd_stores(const struct sup *s);	/* is there one to ask? Whether it keeps anything is the unit's FileDescriptorStoreMax= */
void systemd_store(struct sup *s, const char *name, int fd);
void systemd_unstore(struct sup *s, const char *name);
/* True when descriptors were removed since the last call and the manager has closed them by now: a port may be free again.
 * Waits BARRIER_MS at most. */
bool systemd_settle(struct sup *s);

#endif
