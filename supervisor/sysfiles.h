/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_SYSFILES_H
#define SLUICE_SUPERVISOR_SYSFILES_H

#include "supervisor/sup.h"

/* resolv.conf or the hosts file for a worker (RESOLV, HOSTS), which is told from then on when it changes; >= 0 or -E_NOTFOUND. */
int sysfiles_open(struct child *c, enum open_kind kind);
void sysfiles_init(struct sup *s);

#endif
