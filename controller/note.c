/* SPDX-License-Identifier: MIT */
/* What the supervisor wants /version to say beside the version: written on the loop when it tells (bridge.c), read by any
 * thread (api/version.c). */
#include <pthread.h>

#include "controller/ctl.h"

void
ctl_note(struct ctl *ctl, const struct msg_note *note)
{
	pthread_mutex_lock(&ctl->conf_lock);
	ctl->note = *note;
	pthread_mutex_unlock(&ctl->conf_lock);
}

void
ctl_note_get(struct ctl *ctl, struct msg_note *out)
{
	pthread_mutex_lock(&ctl->conf_lock);
	*out = ctl->note;
	pthread_mutex_unlock(&ctl->conf_lock);
}
