/* SPDX-License-Identifier: MIT */
/* Where the programs are and which build they are. The path that sluice was started by is remembered as it was given, so a
 * symbolic link that a package moves to another versioned directory is followed at the next upgrade; the others sit beside the
 * file it leads to. Called by main.c at start and by upgrade.c. */
#include "supervisor/programs.h"

#include "common/ev.h"		/* before <sys/auxv.h>, which brings macros of its names */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg.h"
#include "common/log.h"
#include "common/strutil.h"
#include "common/version.h"
#include "supervisor/sup.h"

static const char *const program_name[ROLE_MAX_] = {
	[ROLE_SUPERVISOR] = "sluice",
	[ROLE_LOADER] = "sluice-loader",
	[ROLE_WORKER] = "sluice-worker",
	[ROLE_CONTROLLER] = "sluice-controller",
	[ROLE_NETHELPER] = "sluice-nethelper",
};

const char *
programs_name(enum sandbox_role role)
{
	return program_name[role];
}

void
programs_clear(struct program_set *set)
{
	memset(set, 0, sizeof *set);
	for (int r = 0; r < ROLE_MAX_; r++)
		set->fd[r] = -1;
}

void
programs_close(struct program_set *set)
{
	for (int r = 0; r < ROLE_MAX_; r++)
		if (set->fd[r] != -1)
			close(set->fd[r]);
	programs_clear(set);
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool
programs_same(const struct program_set *a, const struct program_set *b)
{
	struct stat sa, sb;

	for (int r = 0; r < ROLE_MAX_; r++) {
		if (a->fd[r] == -1 && b->fd[r] == -1)
			continue;
		if (a->fd[r] == -1 || b->fd[r] == -1 || fstat(a->fd[r], &sa) == -1 || fstat(b->fd[r], &sb) == -1 ||
		    !same_file(&sa, &sb))
			return false;
	}
	return true;
}

int
programs_remember(struct sup *s)
{
	unsigned long at = getauxval(AT_EXECFN);	/* as execve was given it: a shell's search of PATH is done by then */
	const char *given = at != 0 ? (const char *)at : "";
	char cwd[PATH_MAX], path[PATH_MAX];
	struct stat a, b;
	ssize_t n;

	while (given[0] == '.' && given[1] == '/')
		given += 2;
	if (given[0] == '/')
		str_copy(path, sizeof path, given);
	else if (given[0] == '\0' || getcwd(cwd, sizeof cwd) == NULL ||
	    snprintf(path, sizeof path, "%.4000s/%.90s", cwd, given) >= (int)sizeof path)
		path[0] = '\0';
	if (path[0] != '\0' && stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && same_file(&a, &b)) {
		str_copy(s->program_path, sizeof s->program_path, path);
		return 0;
	}
	n = readlink("/proc/self/exe", s->program_path, sizeof s->program_path - 1);
	if (n == -1) {
		log_error("cannot read /proc/self/exe: %s", strerror(errno));
		return -E_NOTFOUND;
	}
	s->program_path[n] = '\0';
	return 0;
}

/* The programs beside the executable self, into the places of set that are still empty. */
static int
open_beside(const char *self, struct program_set *set, char *why, size_t cap)
{
	static const char *const places[] = { "libexec", "." };	/* in a build tree; installed, where each version has a directory */
	char dir[PATH_MAX - 64], path[PATH_MAX];
	char *slash;

	str_copy(dir, sizeof dir, self);
	slash = strrchr(dir, '/');
	if (slash == NULL)
		slash = dir;
	*slash = '\0';
	for (int r = 0; r < ROLE_MAX_; r++) {
		for (size_t p = 0; p < countof(places) && program_name[r] != NULL && set->fd[r] == -1; p++) {
			snprintf(path, sizeof path, "%s/%s/%s", dir, places[p], program_name[r]);
			set->fd[r] = open(path, O_PATH | O_CLOEXEC);
		}
		if (program_name[r] != NULL && set->fd[r] == -1) {
			snprintf(why, cap, "program %s not found beside %s/sluice: is the installation complete?",
			    program_name[r], dir);
			return -E_NOTFOUND;
		}
	}
	return 0;
}

int
programs_init(struct sup *s)
{
	char self[PATH_MAX], why[PATH_MAX + 128];

	programs_clear(&s->programs);
	programs_clear(&s->held);
	if (programs_remember(s) != 0)
		return -E_NOTFOUND;
	s->programs.fd[ROLE_SUPERVISOR] = open("/proc/self/exe", O_PATH | O_CLOEXEC);	/* the image itself, also when it has no name any more */
	if (realpath(s->program_path, self) == NULL)
		str_copy(self, sizeof self, s->program_path);
	if (open_beside(self, &s->programs, why, sizeof why) != 0) {
		log_error("%s", why);
		return -E_NOTFOUND;
	}
	s->programs.serial = 1;
	s->programs.ipc = IMSG_VERSION;
	str_copy(s->programs.build, sizeof s->programs.build, version_text());
	return 0;
}

void
programs_complete(struct sup *s)
{
	char self[PATH_MAX], why[PATH_MAX + 128];

	if (realpath(s->program_path, self) == NULL)
		str_copy(self, sizeof self, s->program_path);
	if (open_beside(self, &s->programs, why, sizeof why) != 0)
		log_warn("%s", why);
}

/* What we are about to give our privilege to must not be writable by others, and must be ours or root's. */
static int
check_owner(const struct program_set *set, char *why, size_t cap)
{
	struct stat st;

	for (int r = 0; r < ROLE_MAX_; r++) {
		if (set->fd[r] == -1)
			continue;
		if (fstat(set->fd[r], &st) == -1 || !S_ISREG(st.st_mode)) {
			snprintf(why, cap, "%s is not a file", program_name[r]);
			return -E_PERM;
		}
		if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & S_IWOTH) != 0 ||
		    ((st.st_mode & S_IWGRP) != 0 && st.st_gid != 0 && geteuid() == 0)) {
			snprintf(why, cap, "%s can be written by others (owner %u, mode %03o): make it root's, mode 755",
			    program_name[r], (unsigned)st.st_uid, (unsigned)st.st_mode & 0777);
			return -E_PERM;
		}
		if (faccessat(set->fd[r], "", X_OK, AT_EMPTY_PATH | AT_EACCESS) == -1) {
			snprintf(why, cap, "%s cannot be executed by uid %u: %s; make it mode 755", program_name[r],
			    (unsigned)geteuid(), strerror(errno));
			return -E_PERM;
		}
	}
	return 0;
}

/* The one place that knows where an upgrade comes from: the disk, where a package manager or `make install` put it. A signed
 * download plugs in here: fetched by the lead, its manifest verified in a loader, unpacked by us into a versioned directory of
 * its own, whose sluice is then opened instead. */
int
programs_candidate(struct sup *s, struct program_set *set, char *why, size_t cap)
{
	char self[PATH_MAX];
	int rc = -E_NOTFOUND;

	programs_clear(set);
	if (realpath(s->program_path, self) == NULL || (set->fd[ROLE_SUPERVISOR] = open(self, O_PATH | O_CLOEXEC)) == -1)
		snprintf(why, cap, "%.400s: %s; install a package there, then call /upgrade", s->program_path, strerror(errno));
	else if ((rc = open_beside(self, set, why, cap)) == 0)
		rc = check_owner(set, why, cap);
	if (rc != 0) {
		programs_close(set);
		return rc;
	}
	set->serial = (s->programs.serial > s->held.serial ? s->programs.serial : s->held.serial) + 1;
	str_copy(set->build, sizeof set->build, "unknown");
	return 0;
}
