/* SPDX-License-Identifier: MIT */
/* What this build is, and which release of the reference its API claims to be (clients decide features by it, spec/api.md
 * 5.3). */
#ifndef SLUICE_COMMON_VERSION_H
#define SLUICE_COMMON_VERSION_H

#define SLUICE_COMPAT "v1.19.2"

const char *version_text(void);		/* own version, e.g. "0.1-12-gabcdef0" */

#endif
