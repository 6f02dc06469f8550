/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_CONVERT_H
#define SLUICE_SUPERVISOR_CONVERT_H

#include "supervisor/sup.h"

/* `sluice convert-ruleset BEHAVIOR FORMAT IN OUT`: the exit status. */
int convert_run(struct sup *s);
/* What its loader says; fd is taken. */
void convert_done(struct sup *s, const struct msg_image_done *m, int fd);
void convert_failed(struct sup *s, const struct msg_conf_err *e);

#endif
