/* SPDX-License-Identifier: MIT */
/* Is an address one of this machine's? A UDP socket that is bound to every address answers for a stranger's port number, too. */
#ifndef SLUICE_SUPERVISOR_HELPER_LOCAL_H
#define SLUICE_SUPERVISOR_HELPER_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

/* The netlink socket, or -E_SYS. */
int local_open(void);
/* fd may be negative: then only loopback addresses are known to be local. */
bool local_has(int fd, const struct ip *ip);

/* For local_has() and its tests: what one read() of the socket gave. 1 local, 0 not, -E_AGAIN (an answer to another question),
 * -E_PROTO. */
int local_read(const void *p, size_t n, uint32_t seq);

#endif
