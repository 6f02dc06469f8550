/* SPDX-License-Identifier: MIT */
/* libev, whose macros warn under our flags. */
#ifndef SLUICE_COMMON_EV_H
#define SLUICE_COMMON_EV_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-aliasing"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#include <ev.h>
#pragma GCC diagnostic pop

/* NOENV: LIBEV_FLAGS must not change what a sandboxed process calls (libraries.md 2). */
#define EV_SLUICE (EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOSIGMASK)

#endif
