/* SPDX-License-Identifier: MIT */
/* What the supervisor wants /version to say beside the version: written on the loop when it tells (bridge.c), read by any thread (api/version.c). */
#include <pthread.h>

#include "common/strutil.h"
#include "controller/ctl.h"

void
ctl_note(struct ctl *ctl, const char *text)
{
	pthread_mutex_lock(&ctl->conf_lock);
	str_copy(ctl->note, sizeof(ctl->note), text);
	pthread_mutex_unlock(&ctl->conf_lock);
}

void
ctl_note_get(struct ctl *ctl, char *out, size_t cap)
{
	pthread_mutex_lock(&ctl->conf_lock);
	str_copy(out, cap, ctl->note);
	pthread_mutex_unlock(&ctl->conf_lock);
}
