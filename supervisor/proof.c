/* SPDX-License-Identifier: MIT */
/* The children that upgrade.c starts to prove programs before anything depends on them: `sluice -t` and `sluice
 * --adopt-check`. They are not among the children that run the service: nothing is asked of them, they end by themselves or
 * are killed when their time is over. */
#include "supervisor/proof.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/strutil.h"
#include "supervisor/sup.h"

enum { SAID_MAX = 4096 };

/* What a log line says: the text between msg=" and its closing quote; the whole line if it is none. */
static void
line_text(char *line)
{
	char *msg = strstr(line, " msg=\"");
	size_t n;

	if (msg == NULL)
		return;
	memmove(line, msg + 6, strlen(msg + 6) + 1);
	n = strlen(line);
	if (n > 0 && line[n - 1] == '"')
		line[n - 1] = '\0';
}

/* The reason a proof gave: its last error, else its last line. */
static void
last_words(const struct proof *p, char *out, size_t cap)
{
	char said[SAID_MAX + 1], *save = NULL;
	off_t size = lseek(p->out, 0, SEEK_END);
	ssize_t n = pread(p->out, said, SAID_MAX, size > SAID_MAX ? size - SAID_MAX : 0);
	bool error = false;

	said[n > 0 ? n : 0] = '\0';
	str_copy(out, cap, "it said nothing");
	for (char *line = strtok_r(said, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		bool is = strstr(line, "level=error") != NULL;

		if (error && !is)
			continue;
		error = is;
		line_text(line);
		str_copy(out, cap, line);
	}
}

/* Between fork and exec: only system calls. */
static void
become_proof(int program, int in, int out, const int *fds, int n_fds, char *const argv[])
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (dup2(in, 0) == -1 || dup2(out, 1) == -1 || dup2(out, 2) == -1)
		_exit(126);
	for (int i = 0; i < n_fds; i++)
		fcntl(fds[i], F_SETFD, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	fcntl(program, F_SETFD, 0);	/* a program that is a script is opened again by its interpreter */
	syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
	_exit(127);
}

/* Our own command line: without "run", with extra words behind it. malloc'ed. */
static char **
command_line(char **own, const char *extra, const char *value)
{
	size_t n = 0, k = 0;
	char **out;

	while (own[n] != NULL)
		n++;
	out = calloc(n + 4, sizeof *out);
	for (size_t i = 0; out != NULL && i < n; i++)
		if (i != 1 || strcmp(own[i], "run") != 0)
			out[k++] = own[i];
	if (out != NULL) {
		out[k++] = (char *)(uintptr_t)extra;
		out[k] = (char *)(uintptr_t)value;
	}
	return out;
}

static int
open_stdin(const struct sup *s)
{
	char path[64] = "/dev/null";

	if (s->stdin_fd != -1)		/* the configuration came that way: once more from its beginning */
		snprintf(path, sizeof path, "/proc/self/fd/%d", s->stdin_fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

bool
proof_start(struct proof *p, const struct sup *s, int program, const char *extra, const char *value, const int *fds, int n_fds)
{
	char **argv = command_line(s->argv, extra, value);
	int in = open_stdin(s);

	p->out = memfd_create("proof", MFD_CLOEXEC);
	p->pid = argv != NULL && in != -1 && p->out != -1 ? fork() : -1;
	if (p->pid == 0)
		become_proof(program, in, p->out, fds, n_fds, argv);
	free(argv);
	if (in != -1)
		close(in);
	p->pidfd = p->pid > 0 ? (int)syscall(SYS_pidfd_open, p->pid, 0) : -1;
	if (p->pidfd != -1)
		return true;
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	p->pid = 0;
	if (p->out != -1)
		close(p->out);
	return false;
}

bool
proof_ended(struct proof *p, int *code, char *said, size_t cap)
{
	siginfo_t si = { 0 };

	if (waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG) == -1 || si.si_pid == 0)
		return false;
	*code = si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
	last_words(p, said, cap);
	close(p->pidfd);
	close(p->out);
	p->pid = 0;
	return true;
}
