/* SPDX-License-Identifier: MIT */
/* The log sink as log.c shares it with the handlers of crashes and refused system calls. Both functions are async-signal-safe. */
#ifndef SLUICE_COMMON_LOG_SINK_H
#define SLUICE_COMMON_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

/* Sends one record on the log channel without waiting; a record that cannot go is counted. Needs log_sink_fd() != -1. */
bool log_sink_send(int level, const char *text, size_t len);
int log_sink_fd(void);			/* -1: standard error, lines */

#endif
