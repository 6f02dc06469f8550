/* SPDX-License-Identifier: MIT */
/* The header Subscription-Userinfo of a provider's answer. */
#ifndef SLUICE_WORKER_PROVIDER_USERINFO_H
#define SLUICE_WORKER_PROVIDER_USERINFO_H

#include <stdbool.h>
#include <stdint.h>

struct userinfo {
	bool seen;
	int64_t upload, download, total, expire; /* bytes; Unix seconds; 0 = not said */
};

/* "upload=1; download=2.5; total=3; expire=4" in any order and case; fields that cannot be read are passed over
 * (spec/config.md 9). An empty text leaves *out as it was. */
void userinfo_parse(struct userinfo *out, const char *text);

#endif
