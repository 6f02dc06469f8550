/* SPDX-License-Identifier: MIT */
/* The hosts: section (spec/config.md 3) and the system's hosts file: names with fixed addresses and aliases of names. Built
 * while CONFIGURING by hosts_parse() and, if dns: wants it, hosts_set_system(), which is called again when that file changes;
 * read by the rules and by everything that dials. Owned by the generation: values in its arena; the system's names have an arena
 * of their own, which hosts_free() frees too. */
#include "worker/dns/hosts.h"

#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/resolver.h"
#include "worker/match/domain.h"

struct host_ip {
	struct host_ip *next;
	struct ip ip;
};
struct host_value {		/* either an alias or addresses (maybe none: "lan" without a network) */
	const char *alias;
	struct host_ip *first, **last;
};
struct hosts {
	struct domain_trie trie;
	struct map system;	/* lower-case name -> struct host_value */
	struct arena system_arena;
};

static struct host_value *
value_new(struct arena *a)
{
	struct host_value *v = arena_alloc(a, sizeof(*v));

	v->last = &v->first;
	return v;
}

static void
value_add(struct arena *a, struct host_value *v, const struct ip *ip)
{
	struct host_ip *h;

	for (h = v->first; h != NULL; h = h->next)
		if (ip_equal(&h->ip, ip))
			return;
	h = arena_alloc(a, sizeof(*h));
	h->ip = *ip;
	*v->last = h;
	v->last = &h->next;
}

/* ---- the section */

static bool
link_local(const struct ip *ip)
{
	if (ip->family == 4)
		return ip->b[0] == 169 && ip->b[1] == 254;		/* RFC 3927 */
	return ip->b[0] == 0xfe && (ip->b[1] & 0xc0) == 0x80;		/* RFC 4291 2.4 */
}

/* This process cannot list interfaces (no netlink socket), but routing tells the address that it would send from: towards
 * the rest of the world and towards the private networks. connect() of a UDP socket sends nothing. */
static void
add_local(struct gen *g, struct host_value *v)
{
	static const char *const towards[] = { "192.0.2.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "2001:db8::1", "fd00::1" };

	for (size_t i = 0; i < countof(towards); i++) {
		union sockaddr_any sa;
		struct ip ip;
		socklen_t n;
		int fd;

		if (ip_parse(&ip, towards[i]) != 0)
			continue;
		n = ip_to_sockaddr(&sa, &ip, 53);
		fd = socket(sa.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd == -1)
			continue;
		if (connect(fd, &sa.sa, n) == 0) {
			n = sizeof(sa);
			if (getsockname(fd, &sa.sa, &n) == 0) {
				ip_from_sockaddr(&ip, NULL, &sa.sa);
				if (ip.family != 0 && !ip_is_loopback(&ip) && !ip_is_unspecified(&ip) && !link_local(&ip))
					value_add(&g->arena, v, &ip);
			}
		}
		close(fd);
	}
}

/* A text that is no address: the name it is another name of. Dots at both ends are dropped, one inside is needed. */
static const char *
alias_of(struct gen *g, const char *text)
{
	size_t n;
	char *s;

	text += strspn(text, ".");
	for (n = strlen(text); n > 0 && text[n - 1] == '.'; n--)
		;
	if (n == 0 || n > HOST_MAX || memchr(text, '.', n) == NULL)
		return NULL;
	s = arena_strndup(&g->arena, text, n);
	str_lower(s);
	return s;
}

static int
invalid(const struct cfg_node *n, const char *key, struct cfg_err *err)
{
	static const char *const kinds[] = { [CFG_NULL] = "<nil>", [CFG_SCALAR] = "", [CFG_LIST] = "[]", [CFG_MAP] = "map[]" };
	const char *text = n->type == CFG_SCALAR ? cfg_text(n) : kinds[n->type];

	return cfg_fail(err, n, key, "%s is not a valid value", text);
}

static int
read_value(struct gen *g, const struct cfg_node *n, const char *key, struct host_value *v, struct cfg_err *err)
{
	const struct cfg_node *only = n->type == CFG_LIST && cfg_count(n) == 1 ? cfg_first(n) : n;
	struct ip ip;

	if (n->type == CFG_SCALAR && str_equal(cfg_text(n), "lan")) {
		add_local(g, v);
		if (v->first == NULL)
			log_warn("line %u: hosts: this machine has no address that lan could stand for", n->line);
		return 0;
	}
	if (only->type == CFG_SCALAR) {
		if (ip_parse(&ip, cfg_text(only)) == 0) {
			value_add(&g->arena, v, &ip);
			return 0;
		}
		v->alias = alias_of(g, cfg_text(only));
		return v->alias != NULL ? 0 : invalid(only, key, err);
	}
	if (n->type != CFG_LIST || cfg_count(n) == 0)
		return invalid(n, key, err);
	cfg_each(c, n) {
		if (c->type != CFG_SCALAR || ip_parse(&ip, cfg_text(c)) != 0)
			return invalid(c, key, err);
		value_add(&g->arena, v, &ip);
	}
	return 0;
}

/* A cycle that comes into being by a new entry goes through that entry. */
static int
check_chain(const struct hosts *h, const struct host_value *added, const struct cfg_node *n, const char *key, struct cfg_err *err)
{
	const struct host_value *v = added;

	for (int i = 0; i < HOSTS_CHAIN_MAX; i++) {
		v = domain_trie_search(&h->trie, v->alias);
		if (v == NULL || v->alias == NULL)
			return 0;
		if (v == added)
			return cfg_fail(err, n, key, "%s, there is a cycle in domain name mapping", cfg_key(n));
	}
	return cfg_fail(err, n, key, "%s, there are more than %d aliases in a row", cfg_key(n), HOSTS_CHAIN_MAX);
}

static int
add_entry(struct gen *g, const struct cfg_node *n, struct cfg_err *err)
{
	struct host_value *v = value_new(&g->arena);
	const char *key = arena_printf(&g->arena, "hosts.%s", cfg_key(n));
	int rc = read_value(g, n, key, v, err);

	if (rc != 0)
		return rc;
	if (domain_trie_insert(&g->hosts->trie, cfg_key(n), v) != 0) {
		log_warn("line %u: hosts: %s is no valid domain pattern, the entry is ignored", n->line, cfg_key(n));
		return 0;
	}
	return v->alias != NULL ? check_chain(g->hosts, v, n, key, err) : 0;
}

int
hosts_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct ip loopback = { .family = 4, .b = { 127, 0, 0, 1 } };
	struct host_value *v = value_new(&g->arena);
	const struct cfg_node *map;
	int rc;

	g->hosts = arena_alloc(&g->arena, sizeof(*g->hosts));
	domain_trie_init(&g->hosts->trie, &g->arena);
	map_init(&g->hosts->system);
	arena_init(&g->hosts->system_arena);
	value_add(&g->arena, v, &loopback);
	(void)domain_trie_insert(&g->hosts->trie, "localhost", v);
	rc = cfg_map(cfg_get(root, "hosts"), "hosts", &map, err);
	if (rc != 0)
		return rc;
	cfg_each(n, map) {
		rc = add_entry(g, n, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- the system's file */

static void
clear_system(struct hosts *h)
{
	map_free(&h->system);		/* both are empty then */
	arena_free(&h->system_arena);
}

/* One line, NUL-terminated: address, then names. False when the table is full. */
static bool
add_line(struct hosts *h, char *line)
{
	static const char blanks[] = " \t\r\v\f";
	struct arena *a = &h->system_arena;
	struct map *m = &h->system;
	char *save = NULL, *word;
	struct ip ip;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, blanks, &save);
	if (word == NULL || ip_parse(&ip, word) != 0)
		return true;
	while ((word = strtok_r(NULL, blanks, &save)) != NULL) {
		struct host_value *v;

		if (strlen(word) > HOST_MAX)
			continue;
		str_lower(word);
		v = map_get(m, word);
		if (v == NULL) {
			if (m->count == HOSTS_SYSTEM_MAX)
				return false;
			v = value_new(a);
			(void)map_put(m, arena_strdup(a, word), v);
		}
		value_add(a, v, &ip);
	}
	return true;
}

void
hosts_set_system(struct gen *g, const char *text, size_t n)
{
	const char *end = text + n;

	clear_system(g->hosts);
	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t len = (size_t)((nl != NULL ? nl : end) - text);
		char line[4096];

		if (len < sizeof(line) && memchr(text, '\0', len) == NULL) {
			memcpy(line, text, len);
			line[len] = '\0';
			if (!add_line(g->hosts, line)) {
				log_warn("the system's hosts file has more than %d names, the rest is ignored", HOSTS_SYSTEM_MAX);
				return;
			}
		}
		text += len + 1;
	}
}

void
hosts_free(struct gen *g)
{
	if (g->hosts != NULL)
		clear_system(g->hosts);
	g->hosts = NULL;
}

/* ---- looking up */

static int
copy_ips(const struct host_value *v, struct ip *out, int max)
{
	int n = 0;

	/* IPv4 first, as every answer of the resolver */
	for (int family = 4; family <= 6; family += 2)
		for (const struct host_ip *h = v->first; h != NULL && n < max; h = h->next)
			if (h->ip.family == family)
				out[n++] = h->ip;
	return n;
}

static const struct host_value *
find_system(const struct hosts *h, const char *name)
{
	char lower[HOST_MAX + 1];

	if (h->system.count == 0 || str_copy(lower, sizeof(lower), name) >= sizeof(lower))
		return NULL;
	str_lower(lower);
	return map_get(&h->system, lower);
}

int
hosts_find(const struct gen *g, const char *host, struct ip *out, int max, const char **alias)
{
	const struct host_value *v = NULL;
	const char *name = host;

	if (alias != NULL)
		*alias = NULL;
	if (g->hosts == NULL || host == NULL || host[0] == '\0')
		return 0;
	for (int i = 0; i <= HOSTS_CHAIN_MAX; i++) {
		v = domain_trie_search(&g->hosts->trie, name);
		if (v == NULL || v->alias == NULL)
			break;
		name = v->alias;
	}
	if (v == NULL)
		v = find_system(g->hosts, name);
	if (v != NULL)
		return v->alias == NULL ? copy_ips(v, out, max) : 0;
	if (alias != NULL && name != host)
		*alias = name;
	return 0;
}
