/* SPDX-License-Identifier: MIT */
/* The answers of the last seconds, each in the one place that its inode allows. Called by main.c. The kernel counts inodes of
 * sockets up, so one is not soon another socket's; that it is still this one, sock_diag has just said. */
#include "supervisor/helper/cache.h"

#include <stddef.h>
#include <string.h>

#include "common/strutil.h"

static struct entry {
	uint32_t inode;			/* 0 = empty */
	uint64_t until_ms;
	char path[CACHE_PATH_MAX];
} table[CACHE_MAX];

const char *
cache_get(uint32_t inode, uint64_t now_ms)
{
	const struct entry *e = &table[inode % CACHE_MAX];

	return inode != 0 && e->inode == inode && now_ms < e->until_ms ? e->path : NULL;
}

void
cache_put(uint32_t inode, const char *path, uint64_t now_ms)
{
	struct entry *e = &table[inode % CACHE_MAX];

	if (strlen(path) >= sizeof e->path)
		return;
	e->inode = inode;
	e->until_ms = now_ms + CACHE_MS;
	str_copy(e->path, sizeof e->path, path);
}
