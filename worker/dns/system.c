/* SPDX-License-Identifier: MIT */
/* What the resolver takes from the operating system: name servers of resolv.conf and names of the hosts file. Both texts
 * come from the supervisor as file descriptors: while CONFIGURING it is asked for them, later it sends them when they have
 * changed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/hosts.h"
#include "worker/dns/internal.h"
#include "worker/worker.h"

enum { RESOLV_BYTES_MAX = 64 << 10, HOSTS_BYTES_MAX = 16 << 20 };	/* what is longer is cut, with a warning */

/* The whole file in malloc'ed memory with a NUL behind it, at most max bytes; NULL when it cannot be read. Takes fd. */
static char *
read_all(int fd, size_t max, const char *what, size_t *n)
{
	size_t cap = 4096, len = 0;
	char *p = malloc(cap);

	while (p != NULL) {
		ssize_t got = pread(fd, p + len, cap - len - 1, (off_t)len);	/* wherever another reader of it stands */

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		len += (size_t)got;
		if (len >= max) {
			log_warn("the system's %s is longer than %zu bytes, the rest is ignored", what, max);
			break;
		}
		if (cap - len < 2) {
			char *more = realloc(p, cap * 2);

			if (more == NULL)
				break;
			p = more;
			cap *= 2;
		}
	}
	close(fd);
	if (p != NULL)
		p[len] = '\0';
	*n = len;
	return p;
}

static char *
open_text(struct worker *w, enum open_kind kind, size_t max, const char *what, size_t *n)
{
	struct cfg_err err = { .text = "" };
	int fd = priv_open(w, kind, "", &err);

	if (fd < 0) {
		log_debug("the system's %s cannot be read: %s", what, err.text[0] != '\0' ? err.text : err_text(fd));
		return NULL;
	}
	return read_all(fd, max, what, n);
}

int
resolv_conf_read(char *text, struct ip out[static SYSTEM_SERVERS_MAX])
{
	static const char blanks[] = " \t\r\v\f";
	char *lines = NULL;
	int n = 0;

	for (char *line = strtok_r(text, "\n", &lines); line != NULL && n < SYSTEM_SERVERS_MAX;
	     line = strtok_r(NULL, "\n", &lines)) {
		char *words = NULL, *word = strtok_r(line, blanks, &words), *address = strtok_r(NULL, blanks, &words);

		if (word == NULL || address == NULL || !str_equal(word, "nameserver"))
			continue;
		/* a link-local server needs its interface, which this process cannot look up */
		if (ip_parse(&out[n], address) != 0 || strchr(address, '%') != NULL)
			log_warn("resolv.conf: the name server %s cannot be used", address);
		else
			n++;
	}
	return n;
}

int
system_servers(struct worker *w, struct ip out[static SYSTEM_SERVERS_MAX])
{
	size_t n;
	char *text = open_text(w, OPEN_RESOLV, RESOLV_BYTES_MAX, "resolv.conf", &n);
	int count = text != NULL ? resolv_conf_read(text, out) : 0;

	free(text);
	return count;
}

void
system_hosts(struct gen *g)
{
	size_t n;
	char *text = open_text(g->w, OPEN_HOSTS, HOSTS_BYTES_MAX, "hosts file", &n);

	if (text != NULL)
		hosts_set_system(g, text, n);
	free(text);
}

static void
new_servers(struct resolver *r, char *text)
{
	struct ip ips[SYSTEM_SERVERS_MAX];
	int n = resolv_conf_read(text, ips);

	if (n == 0 || !r->system.read)		/* it is being written, perhaps */
		return;
	memcpy(r->system.ips, ips, (size_t)n * sizeof(*ips));
	r->system.n = n;
	memset(r->system.ignored, 0, sizeof(r->system.ignored));
	upstreams_make(r);
	log_info("resolv.conf has changed: %d name server%s", n, n == 1 ? "" : "s");
}

void
resolver_sysfile(struct gen *g, enum open_kind kind, int fd)
{
	bool hosts = kind == OPEN_HOSTS;
	size_t n;
	char *text = read_all(fd, hosts ? HOSTS_BYTES_MAX : RESOLV_BYTES_MAX, hosts ? "hosts file" : "resolv.conf", &n);

	if (text != NULL && hosts) {
		hosts_set_system(g, text, n);
		log_info("the system's hosts file has changed and is read again");
	} else if (text != NULL && g->resolver != NULL && g->resolver->loop != NULL) {
		new_servers(g->resolver, text);
	}
	free(text);
}
