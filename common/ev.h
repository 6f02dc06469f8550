/* SPDX-License-Identifier: MIT */
/* libev, whose macros warn under our flags. */
#ifndef SLUICE_COMMON_EV_H
#define SLUICE_COMMON_EV_H

#include <time.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-aliasing"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#include <ev.h>
#pragma GCC diagnostic pop

/* NOENV: LIBEV_FLAGS must not change what a sandboxed process calls (libraries.md 2). */
#define EV_SLUICE (EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOSIGMASK)

/* Seconds for spans and deadlines. ev_now() is the wall clock: it steps when somebody sets it, also backwards. */
static inline ev_tstamp
ev_steady(void)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (ev_tstamp)ts.tv_sec + (ev_tstamp)ts.tv_nsec / 1e9;
}

#endif
