/* SPDX-License-Identifier: MIT */
/* sluice-controller [--uid N] [--gid N]: the REST API. Started by the supervisor with its channel at fd 3 and the log channel
 * at fd 4; gives up every right before it reads its first message, then does what life.c says until the channel ends. */
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/ev.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/strutil.h"
#include "controller/api.h"
#include "controller/bridge.h"
#include "controller/ctl.h"
#include "controller/life.h"

enum { CHANNEL_FD = 3, LOG_FD = 4, ARENAS = 2 };

static void
take_ids(int argc, char **argv, uid_t *uid, gid_t *gid)
{
	int64_t n;

	for (int i = 1; i < argc; i += 2) {
		bool is_uid = strcmp(argv[i], "--uid") == 0;
		if ((!is_uid && strcmp(argv[i], "--gid") != 0) || i + 1 == argc ||
		    str_to_i64(argv[i + 1], 0, UINT32_MAX, &n) != 0)
			fatal("usage: sluice-controller [--uid N] [--gid N], started by sluice");
		if (is_uid)
			*uid = (uid_t)n;
		else
			*gid = (gid_t)n;
	}
}

static void
ignore(int sig)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };

	sigemptyset(&sa.sa_mask);
	if (sigaction(sig, &sa, NULL) == -1)
		fatal("controller: sigaction");
}

int
main(int argc, char **argv)
{
	static struct ctl ctl = { .conf_lock = PTHREAD_MUTEX_INITIALIZER };
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	int r;

	log_init(LOG_FD);
	log_install_crash_handler(sandbox_role_name(ROLE_CONTROLLER));
	take_ids(argc, argv, &uid, &gid);
	ignore(SIGINT);			/* both are the supervisor's to hear */
	ignore(SIGHUP);
	ignore(SIGPIPE);
	(void)mallopt(M_ARENA_MAX, ARENAS);	/* else each request thread reserves an arena of its own */
	sandbox_enter(ROLE_CONTROLLER, uid, gid, LOG_FD + 1);
	sandbox_filter(ROLE_CONTROLLER, 1);

	ctl.loop = ev_loop_new(EV_SLUICE);
	if (ctl.loop == NULL || life_new(&ctl, api_routes) != 0 || (ctl.bridge = bridge_open(&ctl, CHANNEL_FD)) == NULL)
		fatal("controller: out of memory");
	r = life_run(&ctl);
	ev_loop_destroy(ctl.loop);
	return r;
}
