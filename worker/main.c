/* SPDX-License-Identifier: MIT */
/* sluice-worker: a sandboxed data-plane process. Everything that needs a right was given up before the first byte is read.
 * Started by the supervisor only: the channel is fd 3, the log fd 4. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/list.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/strutil.h"
#include "worker/core/conn.h"
#include "worker/ipc.h"
#include "worker/worker.h"

enum { FD_RESERVE = 512 };	/* listeners, channels, pipes, resolver sockets */

static uid_t
id_option(int argc, char **argv, const char *name)
{
	int64_t v;

	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name) && str_to_i64(argv[i + 1], 0, UINT32_MAX - 1, &v) == 0)
			return (uid_t)v;
	return (uid_t)-1;
}

static uint32_t
conn_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur < 2 * FD_RESERVE)
		return 64;
	return (uint32_t)((r.rlim_cur - FD_RESERVE) / 2 > 1000000 ? 1000000 : (r.rlim_cur - FD_RESERVE) / 2);
}

int
main(int argc, char **argv)
{
	static struct worker w;

	log_init(4);
	log_install_crash_handler("worker");
	sandbox_enter(ROLE_WORKER, id_option(argc, argv, "--uid"), (gid_t)id_option(argc, argv, "--gid"), 5);
	sandbox_filter(ROLE_WORKER, 1);
	list_init(&w.conns);
	w.conn_limit = conn_limit();
	loop_init(&w.loop);
	conns_start(&w);
	ipc_start(&w);
	loop_run(&w.loop);
	return 0;	/* connections that are left end with the process; LeakSanitizer looks at what is lost by now */
}
