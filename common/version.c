/* SPDX-License-Identifier: MIT */
/* The build's own version, given by the Makefile. Only this file is rebuilt when it changes. */
#include "common/version.h"

#ifndef SLUICE_BUILD
#define SLUICE_BUILD "unknown"
#endif

const char *
version_text(void)
{
	return SLUICE_BUILD;
}
