/* SPDX-License-Identifier: MIT */
/* The crash report: one log record with the signal, the address and a backtrace, sent from the signal handler on a stack of
 * its own. Everything that could allocate or open a file is done at installation, before the sandbox closes: libgcc's
 * unwinder is loaded, and the places of the loaded objects are noted so that addresses can be given as object+offset. The
 * handler itself only writes. */
#include "common/log.h"

#include <elf.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "common/log_sink.h"
#include "common/strutil.h"

enum {
	CRASH_STACK = 64 << 10,
	CRASH_FRAMES = 40,
	CRASH_OBJECTS = 32,		/* further ones are printed as bare addresses */
	CRASH_NAME_MAX = 24
};

struct object {
	uintptr_t base, end;
	char name[CRASH_NAME_MAX];
};

static char role_name[32];
static struct object objects[CRASH_OBJECTS];
static unsigned nobjects;
static _Alignas(16) char stack_memory[CRASH_STACK];

struct text {
	char b[LOG_TEXT_MAX];
	size_t n;
};

static void
add(struct text *t, const char *s)
{
	while (*s != '\0' && t->n < sizeof(t->b))
		t->b[t->n++] = *s++;
}

static void
add_number(struct text *t, uintptr_t v, unsigned radix)
{
	char d[24];
	size_t i = sizeof(d) - 1;

	d[i] = '\0';
	do {
		d[--i] = "0123456789abcdef"[v % radix];
		v /= radix;
	} while (v != 0);
	if (radix == 16)
		add(t, "0x");
	add(t, d + i);
}

static const char *
signal_name(int sig)
{
	switch (sig) {
	case SIGSEGV:
		return "SIGSEGV";
	case SIGBUS:
		return "SIGBUS";
	case SIGILL:
		return "SIGILL";
	case SIGFPE:
		return "SIGFPE";
	default:
		return "SIGABRT";
	}
}

static void
add_frame(struct text *t, uintptr_t at)
{
	add(t, " ");
	for (unsigned i = 0; i < nobjects; i++) {
		if (at >= objects[i].base && at < objects[i].end) {
			add(t, objects[i].name);
			add(t, "+");
			at -= objects[i].base;
			break;
		}
	}
	add_number(t, at, 16);
}

static void
on_crash(int sig, siginfo_t *info, void *context)
{
	struct text t = { .n = 0 };
	void *frames[CRASH_FRAMES];
	int n;

	(void)context;
	add(&t, role_name);
	add(&t, " crashed: ");
	add(&t, signal_name(sig));
	if (sig != SIGABRT && info->si_code > 0) {
		add(&t, " at ");
		add_number(&t, (uintptr_t)info->si_addr, 16);
	}
	add(&t, ", pid ");
	add_number(&t, (uintptr_t)getpid(), 10);
	add(&t, ", backtrace:");
	n = backtrace(frames, CRASH_FRAMES);
	for (int i = 1; i < n; i++)
		add_frame(&t, (uintptr_t)frames[i]);
	if (log_sink_fd() == -1 || !log_sink_send(LL_ERROR, t.b, t.n)) {
		t.b[t.n < sizeof(t.b) ? t.n++ : t.n - 1] = '\n';
		(void)!write(STDERR_FILENO, t.b, t.n);
	}
	/* SA_RESETHAND has put the default action back (the filter may refuse sigaction() now); delivered on return. */
	(void)raise(sig);
}

static int
note_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct object *o = &objects[nobjects];
	const char *name = info->dlpi_name, *slash;
	uintptr_t end = 0;

	(void)size;
	(void)arg;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && info->dlpi_addr + ph->p_vaddr + ph->p_memsz > end)
			end = info->dlpi_addr + ph->p_vaddr + ph->p_memsz;
	}
	slash = strrchr(name, '/');
	name = slash != NULL ? slash + 1 : name;
	(void)str_copy(o->name, sizeof(o->name), *name != '\0' ? name : "self");
	o->base = info->dlpi_addr;
	o->end = end;
	return ++nobjects == CRASH_OBJECTS;
}

void
log_install_crash_handler(const char *role)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	stack_t st = { .ss_sp = stack_memory, .ss_size = sizeof(stack_memory) };
	struct sigaction sa = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND };
	void *frames[2];

	(void)str_copy(role_name, sizeof(role_name), role);
	(void)backtrace(frames, (int)countof(frames));
	nobjects = 0;
	(void)dl_iterate_phdr(note_object, NULL);
	if (sigaltstack(&st, NULL) == -1)
		sa.sa_flags &= ~SA_ONSTACK;
	(void)sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < countof(signals); i++) {
		if (sigaction(signals[i], &sa, NULL) == -1)
			log_warn("no crash report for signal %d", signals[i]);
	}
}
