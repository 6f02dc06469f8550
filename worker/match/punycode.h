/* SPDX-License-Identifier: MIT */
/* Internationalised names in rules: hosts arrive in their ASCII form. */
#ifndef SLUICE_WORKER_MATCH_PUNYCODE_H
#define SLUICE_WORKER_MATCH_PUNYCODE_H

#include <stddef.h>

/* Every label with other than ASCII characters becomes "xn--...", ASCII letters become lower case. The text itself
 * (lower-cased, cut at cap) when it is no UTF-8 or the result does not fit. Returns out. */
const char *punycode_name(char *out, size_t cap, const char *name);

#endif
