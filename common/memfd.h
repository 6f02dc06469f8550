/* SPDX-License-Identifier: MIT */
/* Sealed memory files: how anything larger than one message travels between processes. */
#ifndef SLUICE_COMMON_MEMFD_H
#define SLUICE_COMMON_MEMFD_H

#include <stddef.h>

/* A new sealed (no write, no grow, no shrink) memfd that holds n bytes of p; >= 0, or -E_SYS. Caller closes. */
int memfd_from(const char *name, const void *p, size_t n);
/* An empty one that its maker writes and then seals for good; >= 0, or -E_SYS; 0 or -E_SYS. */
int memfd_open(const char *name);
int memfd_seal(int fd);
/* An unsealed memfd of n zero bytes, for pages that are shared on purpose (counters); size seals set. */
int memfd_shared(const char *name, size_t n);
/* Maps a memfd that a peer sent, read only, after checking that it is a memfd with the three seals and at most max bytes. The
 * mapping is the caller's (munmap); fd stays the caller's. An empty file gives *p = NULL, *n = 0. -E_PROTO on anything else. */
int memfd_map(int fd, const void **p, size_t *n, size_t max);
/* Maps a memfd_shared() file of at least n bytes read/write or read only; NULL on failure. */
void *memfd_map_shared(int fd, size_t n, int writable);

#endif
