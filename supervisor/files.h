/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_FILES_H
#define SLUICE_SUPERVISOR_FILES_H

#include <sys/uio.h>

#include "supervisor/sup.h"

/* Resolves the working directory (made when missing, unless testing), opens and locks it. 0 or -E_* with the reason logged. */
int files_home(struct sup *s, bool make, bool lock);
/* The configuration named on the command line, standard input, or base64; a fresh default file is written when none is there
 * and make is set. >= 0, or -E_NOTFOUND with why filled. */
int files_config(struct sup *s, bool make, char *why, size_t cap);
/* What a reload reads, for messages; valid until the next call. */
const char *files_config_name(const struct sup *s, const struct msg_reload *m);
/* A path that a configuration or the API named: inside the working directory or SAFE_PATHS, by openat2(RESOLVE_BENEATH). >= 0
 * or -E_*. */
int files_open(struct sup *s, const char *path, char *why, size_t cap);
/* Puts a sealed memory file's content in the place of a file that files_open() would open (tmp, fsync, rename); missing
 * folders are made. content stays the caller's. 0, or -E_* with why filled. */
enum { FILES_CONTENT_MAX = 64 << 20 };
int files_replace(struct sup *s, const char *path, int content, char *why, size_t cap);
/* A file of the folder dir gets this content: beside it first, fsync, rename; of a failure nothing is left. 0, or -E_SYS with
 * errno. */
int files_write(int dir, const char *name, const struct iovec *v, int n);
/* A dashboard file: relative to external-ui, no symlinks. */
int files_open_ui(struct sup *s, const char *relative, char *why, size_t cap);
/* The certificate authorities of the system. */
int files_open_authorities(void);
/* /storage: one file per key. Writes value_fd's content (taken) / reads. Status for the API: 200 (fd in *out), 204, 404; 400,
 * 500, 507 with why filled. */
int files_store(struct sup *s, const struct msg_store *m, int value_fd, int *out, char *why, size_t cap);

#endif
