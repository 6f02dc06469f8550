/* SPDX-License-Identifier: MIT */
/* The part of hosts.c that only dns/ uses; hosts_parse() and hosts_find() are in resolver.h. */
#ifndef SLUICE_WORKER_DNS_HOSTS_H
#define SLUICE_WORKER_DNS_HOSTS_H

#include <stddef.h>

#include "worker/gen.h"

enum {
	HOSTS_CHAIN_MAX = 64,		/* aliases in a row: more are refused, or lead nowhere where later entries made them */
	HOSTS_SYSTEM_MAX = 262144	/* names taken from the system's hosts file; the rest is ignored with a warning */
};

/* The text of the system's hosts file (hosts(5)), asked after the configured entries, instead of any before. After
 * hosts_parse(). */
void hosts_set_system(struct gen *g, const char *text, size_t n);
void hosts_free(struct gen *g);

#endif
