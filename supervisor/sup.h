/* SPDX-License-Identifier: MIT */
/* The supervisor: the only process that keeps privilege, and the only one that opens paths and binds ports. It parses nothing
 * but fixed structs. One instance, owned by main.c, used from its single loop.
 *
 *   main       options, start, signals, end                     child      fork + exec, channels, ends of processes
 *   reload     the generation machine                            messages   who may ask what, when: the handler table
 *   workers    the workers of the generation that serves
 *   listeners  every listening socket, its slots and users       change     acknowledged changes
 *   images     rule data, compiled once for all workers
 *   files      paths -> fds, confined                            state      blobs that outlive workers; counter pages
 *   sysfiles   /etc/hosts and /etc/resolv.conf, again when they change
 *   control    the socket of `sluice reload|status|stop`         logsink    records -> standard error or the journal
 *   systemd    what the service manager is told and keeps        inherit    what it gives us at the start
 *   programs   sets of programs held open                        upgrade    from one set to another; adopt carries the state over execve
 *   nethelper  the process that looks processes up, while a worker wants one; helper/ is that program */
#ifndef SLUICE_SUPERVISOR_SUP_H
#define SLUICE_SUPERVISOR_SUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ev.h"
#include "common/imsg_types.h"
#include "common/list.h"
#include "common/peer.h"
#include "common/sandbox.h"
#include "supervisor/options.h"
#include "supervisor/programs.h"

enum {
	WORKERS_MAX = 16,
	WORKERS_AUTO_MAX = 4,
	GENERATIONS_MAX = 32,
	LOADER_TIMEOUT_S = 30,
	START_TIMEOUT_S = 60,
	PROVE_TIMEOUT_S = 5,
	SETTLE_TIMEOUT_S = 2,
	GENERATION_GRACE_MS = 3000,	/* what a generation is given to hand over before one too many closes it: the next reload waits */
	STOP_SLACK_MS = 1500,		/* after the grace: then SIGKILL; the tree ends within 2 s */
	CHANGE_TIMEOUT_S = 6,		/* a worker that has not acknowledged by then is replaced; ports may need binding */
	CHILDREN_MAX = 1024,		/* adopted; more generations and workers than there can be */
	CHANGES_MAX = 256,		/* in flight */
	RELOADS_MAX = 32,		/* waiting; more are answered 503 */
	SHARED_KINDS = 5,
	SYSFILES = 2
};

struct sup;
struct generation;
struct image;

struct file_stamp {			/* of a version of a file */
	int64_t mtime_ns;
	uint64_t size, inode;
	bool asked;
};
struct child {
	struct list link;		/* sup.children */
	struct sup *sup;
	enum sandbox_role role;
	struct generation *gen;		/* workers and loaders of a reload */
	struct image *image;		/* loader: what it compiles, NULL once it has answered */
	bool compiles;			/* loader: of an image, not of a configuration */
	uint32_t index, slot;		/* worker: its number; counter page, STAT_SLOTS = none */
	uint32_t set;			/* serial of the programs it runs */
	uint16_t ipc;			/* the IMSG_VERSION it speaks */
	pid_t pid;
	int pidfd, log_fd;
	int statm_fd;			/* its memory, opened while it still had our user: /proc may hide others' (ProtectProc=) */
	ev_io ended_io, log_io;
	struct peer peer;
	enum child_state state;
	bool stopping;			/* told to end: its end is no crash */
	bool wants_helper;		/* worker: it asks the nethelper */
	ev_tstamp helper_asked;		/* when it last asked for a channel to it */
	pid_t heir;			/* worker that drains: the one that takes its connections; 0 = none, or another supervisor knew */
	uint32_t log_lost;
	ev_tstamp started;
	ev_tstamp asked;		/* when the watchdog's ping went out that it has not answered yet; 0 = none */
	struct file_stamp sysfile[SYSFILES];	/* what it has read of sysfiles.c's */
	char name[40];
};

enum { NOBODY = 255 };
enum generation_state { GEN_STARTING, GEN_SERVING, GEN_DRAINING };
struct generation {
	struct list link;		/* sup.generations, oldest first */
	struct sup *sup;
	uint32_t number;
	uint32_t set;			/* serial of the programs its workers run */
	enum generation_state state;
	int tree_fd;
	struct msg_job_done opts;
	int n_workers;
	struct child *worker[WORKERS_MAX];
	struct child *successor[WORKERS_MAX];	/* starting, for one that grew over its memory limit */
	uint8_t reader[WORKERS_MAX];	/* which worker reads the listener slots of this one: itself, a stand-in, NOBODY */
	uint32_t failures[WORKERS_MAX];	/* crashes in a row, for the back-off */
	ev_timer respawn[WORKERS_MAX];
	ev_timer drain_timer;
	ev_tstamp born, drain_since;
	uint64_t hash;			/* of the tree: names the configuration */
	char build[64];			/* of its programs */
};

struct stat_page {
	int fd;				/* -1 = not made yet */
	bool used;			/* a living worker has it */
};

struct listeners;
struct reload;
struct changes;
struct control;
struct systemd;
struct inherited;
struct images;
struct upgrade;
struct convert;

struct sup {
	struct ev_loop *loop;
	struct options opt;
	char **argv;			/* as given; an upgrade starts the next supervisor with it */
	char home[PATH_MAX];		/* real path */
	int home_fd, lock_fd;
	int stdin_fd;			/* -f -: the text, read once; -1 = not */
	char program_path[PATH_MAX];	/* of this executable, as it was started */
	struct program_set programs;	/* held open: what runs and what a restart starts again */
	struct program_set held;	/* what ran before the last upgrade, until that has proven itself; else empty */
	bool root;			/* children can have users of their own */
	uid_t worker_uid, api_uid, helper_uid;	/* (uid_t)-1: stay */
	gid_t worker_gid, api_gid, helper_gid;
	struct list children;
	struct list generations;
	uint32_t last_generation;
	struct generation *serving;	/* NULL before the first */
	struct child *controller;
	struct child *controller_next;	/* of an upgrade: it starts while the other still serves */
	uint32_t controller_failures, helper_failures;
	ev_timer controller_timer, helper_timer;
	int ctl_tree_fd;		/* the tree whose controller keys are in force */
	struct msg_job_done ctl_opts;
	int state_fd[STATE_KINDS_];	/* sealed memfds, -1 = none */
	struct stat_page page[STAT_SLOTS];
	int shared_fd;			/* the page all workers share */
	int dns_fd[SHARED_KINDS];	/* memory of common/shm_fakeip.h, -1 = not asked for yet */
	struct listeners *listeners;
	struct reload *reload;
	struct changes *changes;
	struct control *control;
	struct systemd *systemd;	/* NULL: no service manager */
	struct inherited *inherited;	/* NULL: nothing given, or the first generation serves */
	struct images *images;
	struct upgrade *upgrade;
	struct convert *convert;	/* NULL but for that command */
	char rollback_note[512];	/* why the last good configuration was put back; "" = it was not, or another has come since */
	char upgrade_note[512];		/* why the last upgrade was rolled back; "" = it was not */
	int log_level;			/* of standard error */
	int log_tap;			/* lowest level an API subscriber wants; LL_SILENT = none */
	uint32_t tap_lost;
	bool stopping;
	int exit_code;
	uint32_t rolled_back;		/* times a crashing generation was replaced by the last good configuration */
	ev_timer stop_timer;
	ev_timer sysfiles_timer;
	ev_signal sig[4];
};

/* main.c */
void sup_stop(struct sup *s, int exit_code);		/* begins the orderly end; a second call ends at once */
void sup_child_gone(struct sup *s);			/* a child ended: when stopping, ends the loop after the last one */

#endif
