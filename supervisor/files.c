/* SPDX-License-Identifier: MIT */
/* Paths become fds here and nowhere else. What a configuration, the API or a dashboard names is confined: the longest of the
 * working directory and the SAFE_PATHS entries that is a prefix is cut off, and the rest is opened beneath that directory by
 * openat2, which no symlink or ".." leaves. The operator's own -f is opened plainly. Nothing read here is looked at. */
#include "supervisor/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/strutil.h"

static int
make_dirs(const char *path)
{
	char p[PATH_MAX];

	str_copy(p, sizeof p, path);
	for (char *s = p + 1; *s != '\0'; s++)
		if (*s == '/') {
			*s = '\0';
			if (mkdir(p, 0777) == -1 && errno != EEXIST)
				return -E_SYS;
			*s = '/';
		}
	return mkdir(p, 0777) == -1 && errno != EEXIST ? -E_SYS : 0;
}

int
files_home(struct sup *s, bool make, bool lock)
{
	if (make && access(s->opt.home, F_OK) == -1 && make_dirs(s->opt.home) != 0) {
		log_error("can't create config directory %s: %s", s->opt.home, strerror(errno));
		return -E_SYS;
	}
	if (realpath(s->opt.home, s->home) == NULL || (s->home_fd = open(s->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1) {
		log_error("working directory %s: %s", s->opt.home, strerror(errno));
		return -E_NOTFOUND;
	}
	if (!lock)
		return 0;
	s->lock_fd = openat(s->home_fd, "sluice.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd == -1 || flock(s->lock_fd, LOCK_EX | LOCK_NB) == -1) {
		log_error("%s/sluice.lock: %s%s", s->home,
		    errno == EWOULDBLOCK ? "another sluice runs in this directory" : strerror(errno),
		    errno == EROFS || errno == EACCES ? "; the working directory must be writable" : "");
		return -E_BUSY;
	}
	return 0;	/* held for the life of the process */
}

static int
from_base64(const char *text, char *why, size_t cap)
{
	size_t n = strlen(text);
	uint8_t *p = malloc(n + 1);
	int len = p != NULL ? base64_decode(p, n, text, n) : -E_NOMEM, fd;

	if (len < 0) {
		free(p);
		snprintf(why, cap, "CLASH_CONFIG_STRING: not base64");
		return -E_INVAL;
	}
	fd = memfd_from("config", p, (size_t)len);
	free(p);
	return fd;
}

static int
from_stdin(struct sup *s, char *why, size_t cap)
{
	static char chunk[65536];
	ssize_t n;
	off_t total = 0;

	if (s->stdin_fd == -1) {	/* read once: a reload gives the same text again */
		s->stdin_fd = memfd_create("stdin", MFD_CLOEXEC);
		while (s->stdin_fd != -1 && (n = read(0, chunk, sizeof chunk)) > 0 && total < (64 << 20)) {
			if (write(s->stdin_fd, chunk, (size_t)n) != n)
				break;
			total += n;
		}
	}
	if (s->stdin_fd == -1) {
		snprintf(why, cap, "standard input cannot be read");
		return -E_SYS;
	}
	return fcntl(s->stdin_fd, F_DUPFD_CLOEXEC, 3);
}

int
files_config(struct sup *s, bool make, char *why, size_t cap)
{
	const char *path = s->opt.config[0] != '\0' ? s->opt.config : "config.yaml";
	int fd;

	if (s->opt.config_base64 != NULL)
		return from_base64(s->opt.config_base64, why, cap);
	if (!strcmp(path, "-"))
		return from_stdin(s, why, cap);
	/* a relative -f is relative to where the command was started, config.yaml to the working directory */
	fd = openat(s->opt.config[0] != '\0' ? AT_FDCWD : s->home_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd == -1 && errno == ENOENT && make && s->opt.config[0] == '\0') {
		static const char fresh[] = "mixed-port: 7890\n";

		log_info("Can't find config, create a initial config file");
		fd = openat(s->home_fd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd != -1 && write(fd, fresh, sizeof fresh - 1) != (ssize_t)sizeof fresh - 1) {
			close(fd);
			fd = -1;
		}
	}
	if (fd == -1) {
		snprintf(why, cap, "stat %s%s%s: %s", s->opt.config[0] != '\0' ? "" : s->home,
		    s->opt.config[0] != '\0' ? "" : "/", path, errno == ENOENT ? "no such file or directory" : strerror(errno));
		return -E_NOTFOUND;
	}
	return fd;
}

const char *
files_config_name(const struct sup *s, const struct msg_reload *m)
{
	static char text[PATH_MAX];

	if (m->flags & RELOAD_PAYLOAD)
		return "(payload)";
	if (m->flags & RELOAD_PATH)
		return m->path;
	if (s->opt.config_base64 != NULL)
		return "(base64)";
	if (s->opt.config[0] != '\0')
		return s->opt.config;
	snprintf(text, sizeof text, "%.4000s/config.yaml", s->home);
	return text;
}

static int
open_beneath(int dir, const char *relative, uint64_t resolve)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, .resolve = resolve };
	struct stat st;
	int fd;

	while (*relative == '/')
		relative++;
	fd = (int)syscall(SYS_openat2, dir, *relative != '\0' ? relative : ".", &how, sizeof how);
	if (fd != -1 && (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
		return -1;
	}
	return fd;
}

/* Is path under root? Then *rest is what follows. Both absolute; root without a trailing slash. */
static bool
under(const char *path, const char *root, const char **rest)
{
	size_t n = strlen(root);

	while (n > 1 && root[n - 1] == '/')
		n--;
	if (n == 0 || strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != '\0' && n > 1))
		return false;
	*rest = path + n;
	return true;
}

static bool
has_dotdot(const char *p)
{
	for (; *p != '\0'; p += *p == '/')
		if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0'))
			return true;
		else
			p += strcspn(p, "/");
	return false;
}

/* The directory that a path must stay beneath, as an O_PATH fd, and the rest of the path; -1: none is allowed, or it cannot
 * be opened (*inside). */
static int
confine(struct sup *s, const char *path, const char **rest, bool *inside)
{
	char entry[PATH_MAX];

	*rest = path;
	*inside = path[0] != '/' || under(path, s->home, rest) || under(path, s->opt.home, rest);
	/* a name from a configuration may say "..": openat2 judges it where it is relative; an absolute one must be plain */
	if (path[0] == '/' && has_dotdot(path))
		*inside = false;
	if (*inside)
		return fcntl(s->home_fd, F_DUPFD_CLOEXEC, 3);
	if (s->opt.skip_safe_paths)
		return open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (path[0] == '/' && !has_dotdot(path))
		for (const char *p = s->opt.safe_paths; p != NULL && *p != '\0'; p += *p == ':') {
			size_t n = strcspn(p, ":");

			snprintf(entry, sizeof entry, "%.*s", (int)(n < sizeof entry ? n : 0), p);
			if (entry[0] == '/' && under(path, entry, rest)) {
				*inside = true;
				return open(entry, O_PATH | O_DIRECTORY | O_CLOEXEC);
			}
			p += n;
		}
	errno = EACCES;
	return -1;
}

static int
explain(struct sup *s, const char *path, bool inside, const char *what, char *why, size_t cap)
{
	int saved = errno;

	if ((!inside && !s->opt.skip_safe_paths) || saved == EXDEV) {
		snprintf(why, cap, "path is not subpath of home directory or SAFE_PATHS: %s \n allowed paths: [%s%s%s]", path,
		    s->home, s->opt.safe_paths != NULL && *s->opt.safe_paths != '\0' ? " " : "",
		    s->opt.safe_paths != NULL ? s->opt.safe_paths : "");
		return -E_PERM;
	}
	snprintf(why, cap, "%s %s: %s", what, path, saved == ENOENT ? "no such file or directory" : strerror(saved));
	return saved == ENOENT ? -E_NOTFOUND : -E_SYS;
}

static void
close_keeping_errno(int fd)
{
	int saved = errno;

	if (fd != -1)
		close(fd);
	errno = saved;
}

int
files_open(struct sup *s, const char *path, char *why, size_t cap)
{
	const char *rest;
	bool inside;
	int dir = confine(s, path, &rest, &inside), fd = -1;

	if (dir != -1)
		fd = open_beneath(dir, rest, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	close_keeping_errno(dir);
	return fd != -1 ? fd : explain(s, path, inside, "stat", why, cap);
}

/* Steps from dir (taken) down to the folder of a file, making what is missing; the folder's fd and the file's name. */
static int
enter_folders(int dir, const char *rest, const char **name)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	char folder[PATH_MAX];
	const char *slash;
	int fd;

	while (*rest == '/')
		rest++;
	*name = (slash = strrchr(rest, '/')) != NULL ? slash + 1 : rest;
	if (slash == NULL)
		return dir;
	if ((size_t)(slash - rest) >= sizeof folder) {
		close(dir);
		errno = ENAMETOOLONG;
		return -1;
	}
	for (const char *p = rest; p <= slash; p++) {
		if (*p != '/')
			continue;
		memcpy(folder, rest, (size_t)(p - rest));
		folder[p - rest] = '\0';
		fd = (int)syscall(SYS_openat2, dir, folder, &how, sizeof how);
		/* openat2 has judged the folders above; a last one that is missing is made in the one before it */
		if (fd == -1 && errno == ENOENT && mkdirat(dir, folder, 0755) == 0)
			fd = (int)syscall(SYS_openat2, dir, folder, &how, sizeof how);
		if (fd == -1 || p == slash) {
			close_keeping_errno(dir);
			return fd;
		}
		close(fd);
	}
	return dir;
}

static bool
write_all(int fd, const struct iovec *v)
{
	const char *at = v->iov_base;

	for (size_t left = v->iov_len; left > 0;) {
		ssize_t n = write(fd, at, left);

		if (n <= 0)
			return false;
		at += n;
		left -= (size_t)n;
	}
	return true;
}

int
files_write(int dir, const char *name, const struct iovec *v, int n)
{
	static const char tmp[] = ".sluice.tmp";	/* one at a time: nothing here waits */
	int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), saved;
	bool good = fd != -1;

	for (int i = 0; i < n && good; i++)
		good = write_all(fd, &v[i]);
	good = good && fsync(fd) == 0 && renameat(dir, tmp, dir, name) == 0;
	saved = errno;
	if (fd != -1 && !good)
		unlinkat(dir, tmp, 0);	/* a full disk needs its place most */
	if (fd != -1)
		close(fd);
	errno = saved;
	return good ? 0 : -E_SYS;
}

int
files_replace(struct sup *s, const char *path, int content, char *why, size_t cap)
{
	const char *rest, *name = "";
	const void *p;
	size_t n;
	bool inside;
	int dir, rc = -1;

	if (memfd_map(content, &p, &n, FILES_CONTENT_MAX) != 0) {
		str_copy(why, cap, "the content is no sealed memory file");
		return -E_PROTO;
	}
	dir = confine(s, path, &rest, &inside);
	if (dir != -1)
		dir = enter_folders(dir, rest, &name);
	if (dir != -1 && *name != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		rc = files_write(dir, name, &(struct iovec){ (void *)(uintptr_t)p, n }, 1);
	else if (dir != -1)
		errno = EISDIR;
	close_keeping_errno(dir);
	if (p != NULL) {
		int saved = errno;

		munmap((void *)(uintptr_t)p, n);
		errno = saved;
	}
	return rc == 0 ? 0 : explain(s, path, inside, "write", why, cap);
}

int
files_open_ui(struct sup *s, const char *relative, char *why, size_t cap)
{
	const char *root = s->opt.ext_ui != NULL && *s->opt.ext_ui != '\0' ? s->opt.ext_ui : s->ctl_opts.external_ui;
	int dir = -1, fd;

	if (*root == '\0') {
		str_copy(why, cap, "external-ui is not set");
		return -E_NOTFOUND;
	}
	if (root[0] != '/' || under(root, s->home, &root)) {
		struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };

		while (*root == '/')
			root++;
		dir = (int)syscall(SYS_openat2, s->home_fd, *root != '\0' ? root : ".", &how, sizeof how);
	} else if (s->opt.skip_safe_paths || s->opt.ext_ui != NULL)
		dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);	/* the operator's word */
	else
		for (const char *p = s->opt.safe_paths, *rest; p != NULL && *p != '\0' && dir == -1;
		     p += strcspn(p, ":"), p += *p == ':') {
			char entry[PATH_MAX];

			snprintf(entry, sizeof entry, "%.*s", (int)strcspn(p, ":"), p);
			if (entry[0] == '/' && !has_dotdot(root) && under(root, entry, &rest))
				dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		}
	if (dir == -1) {
		snprintf(why, cap, "external-ui cannot be opened");
		return -E_NOTFOUND;
	}
	fd = open_beneath(dir, relative, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (fd == -1)
		snprintf(why, cap, "%s", strerror(errno));
	dir = (close(dir), errno);
	return fd != -1 ? fd : dir == EISDIR ? -E_INVAL : -E_NOTFOUND;
}

int
files_open_authorities(void)
{
	int fd = open("/etc/ssl/certs/ca-certificates.crt", O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd == -1 ? -E_NOTFOUND : fd;
}

/* ---- /storage */

/* Keys are the clients' text: every byte that is not a plain letter, digit, '-' or '_' is written as %XX. */
static bool
store_name(char *out, size_t cap, const char *key)
{
	size_t n = 0;

	if (*key == '\0')
		return false;
	for (; *key != '\0'; key++) {
		unsigned char c = (unsigned char)*key;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';

		if (n + 4 > cap)
			return false;
		n += (size_t)snprintf(out + n, cap - n, plain ? "%c" : "%%%02X", c);
	}
	return true;
}

static int
store_count(int dir)
{
	int n = 0, fd = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	char buf[8192];
	long got;

	if (fd == -1 || lseek(fd, 0, SEEK_SET) == -1)
		return STORE_FILES_MAX;
	while ((got = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0)
		for (long at = 0; at < got; n++)
			at += *(unsigned short *)(void *)(buf + at + 16);	/* d_reclen */
	close(fd);
	return n - 2;
}

static int
store_put(int dir, const char *name, int value_fd)
{
	const void *p = NULL;
	size_t n = 0;
	struct stat st;
	int status = 500;

	errno = EPROTO;
	if (memfd_map(value_fd, &p, &n, STORE_VALUE_MAX) != 0)
		return 500;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == -1 && store_count(dir) >= STORE_FILES_MAX)
		status = 507;
	else if (files_write(dir, name, &(struct iovec){ (void *)(uintptr_t)p, n }, 1) == 0)
		status = 204;
	if (p != NULL) {
		int saved = errno;

		munmap((void *)(uintptr_t)p, n);
		errno = saved;
	}
	return status;
}

int
files_store(struct sup *s, const struct msg_store *m, int value_fd, int *out, char *why, size_t cap)
{
	char name[3 * STORE_KEY_MAX + 32];
	int dir = -1, status = 500;

	*out = -1;
	if (!store_name(name, 256, m->key)) {	/* NAME_MAX */
		status = 400;
		goto done;
	}
	if (mkdirat(s->home_fd, "storage", 0700) == -1 && errno != EEXIST)
		goto done;
	dir = openat(s->home_fd, "storage", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir == -1)
		goto done;
	switch (m->op) {
	case STORE_GET:
		*out = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		status = *out != -1 ? 200 : 404;
		break;
	case STORE_PUT:
		status = store_put(dir, name, value_fd);
		break;
	case STORE_DELETE:
		status = unlinkat(dir, name, 0) == 0 || errno == ENOENT ? 204 : 500;
		break;
	}
done:
	if (status == 507)
		snprintf(why, cap, "the storage is full");
	else if (status == 400)
		snprintf(why, cap, "the key is too long");
	else if (status == 500)
		snprintf(why, cap, "%s/storage: %s", s->home, strerror(errno));
	if (dir != -1)
		close(dir);
	if (value_fd != -1)
		close(value_fd);
	return status;
}
