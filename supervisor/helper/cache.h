/* SPDX-License-Identifier: MIT */
/* What was found lately, by the socket: a client that sends many requests over one connection is asked for once. */
#ifndef SLUICE_SUPERVISOR_HELPER_CACHE_H
#define SLUICE_SUPERVISOR_HELPER_CACHE_H

#include <stdint.h>

enum {
	CACHE_MAX = 256,		/* sockets; a newer one takes the place of an older one */
	CACHE_PATH_MAX = 240,		/* a longer path is not kept */
	CACHE_MS = 10000		/* then it is asked for anew: the process may have become another program */
};

/* The path found for a socket, "" when nothing was; NULL: not known, or no more. Lends. */
const char *cache_get(uint32_t inode, uint64_t now_ms);
void cache_put(uint32_t inode, const char *path, uint64_t now_ms);

#endif
