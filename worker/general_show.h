/* SPDX-License-Identifier: MIT */
/* The general section as the API shows it, and the names of its enums. */
#ifndef SLUICE_WORKER_GENERAL_SHOW_H
#define SLUICE_WORKER_GENERAL_SHOW_H

#include "common/wire.h"
#include "worker/gen.h"

/* GET /configs as one value map, keys in the order of spec/api.md 3.8. Secrets are masked. */
void general_show(struct gen *g, struct wire *w);

/* general.c: -1 for no such name; "" for no such value. */
int general_mode_parse(const char *s);
const char *general_mode_name(int mode);
int general_find_parse(const char *s);
const char *general_find_name(int mode);

#endif
