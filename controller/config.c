/* SPDX-License-Identifier: MIT */
/* What the controller uses of a configuration, from the neutral tree and the overrides of command line and environment. Called
 * by life.c. The closed defaults of the API are decided here: an address that other hosts can reach needs a secret, or an
 * explicit word that it does not.
 *
 * A struct ctl_conf is never changed once made: the loop swaps the pointer, threads hold references. */
#include <stdlib.h>
#include <string.h>

#include "common/addr.h"
#include "common/config_tree.h"
#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "controller/ctl.h"

enum { UNIX_MODE_DEFAULT = 0660 };

/* ---- references */

struct ctl_conf *
ctl_conf(struct ctl *ctl)
{
	struct ctl_conf *c;

	pthread_mutex_lock(&ctl->conf_lock);
	c = atomic_load(&ctl->conf);
	if (c != NULL)
		atomic_fetch_add(&c->refs, 1);
	pthread_mutex_unlock(&ctl->conf_lock);
	return c;
}

void
ctl_conf_put(struct ctl_conf *c)
{
	void *p;

	if (c == NULL || atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	for (int i = 0; i < c->norigins; i++)
		free(c->origins[i]);
	memcpy(&p, &c->cert, sizeof(p));
	free(p);
	if (c->key != NULL) {
		memcpy(&p, &c->key, sizeof(p));
		explicit_bzero(p, strlen(c->key));
		free(p);
	}
	explicit_bzero(c->secret, sizeof(c->secret));
	free(c);
}

void
ctl_conf_swap(struct ctl *ctl, struct ctl_conf *next)
{
	struct ctl_conf *old;

	pthread_mutex_lock(&ctl->conf_lock);
	old = atomic_exchange(&ctl->conf, next);
	pthread_mutex_unlock(&ctl->conf_lock);
	ctl_conf_put(old);
}

/* ---- reading */

/* A text into a fixed field; what does not fit is refused, never cut. */
static int
take_text(const struct cfg_node *n, const char *key, char *out, size_t cap, struct cfg_err *err)
{
	const char *s = "";

	if (cfg_str(n, key, &s, err) != 0)
		return -E_INVAL;
	if (str_copy(out, cap, s) >= cap)
		return cfg_fail(err, n, key, "%s is longer than %zu bytes", key, cap - 1);
	return 0;
}

static int
take_origins(struct ctl_conf *c, const struct cfg_node *cors, struct cfg_err *err)
{
	const struct cfg_node *list = NULL;

	c->any_origin = true;
	c->private_network = true;
	if (cfg_map(cors, "external-controller-cors", &cors, err) != 0 ||
	    cfg_bool(cfg_get(cors, "allow-private-network"), "allow-private-network", &c->private_network, err) != 0 ||
	    cfg_list(cfg_get(cors, "allow-origins"), "allow-origins", &list, err) != 0)
		return -E_INVAL;
	if (list == NULL || cfg_count(list) == 0)
		return 0;		/* an empty list means all, as in the reference */
	c->any_origin = false;
	c->origins_written = true;
	cfg_each(item, list) {
		const char *text = "";
		if (cfg_str(item, "allow-origins", &text, err) != 0)
			return -E_INVAL;
		if (c->norigins == CTL_ORIGINS_MAX)
			return cfg_fail(err, item, "allow-origins", "more than %d origins", CTL_ORIGINS_MAX);
		if (strcmp(text, "*") == 0)
			c->any_origin = true;
		c->origins[c->norigins] = strdup(text);
		if (c->origins[c->norigins] == NULL)
			return cfg_fail(err, item, "allow-origins", "out of memory");
		c->norigins++;
	}
	return 0;
}

/* Octal text: 0660, 660, "0o660". */
static int
take_mode(const struct cfg_node *n, unsigned *out, struct cfg_err *err)
{
	const char *s = NULL;
	unsigned mode = 0;

	if (cfg_str(n, "unix-mode", &s, err) != 0)
		return -E_INVAL;
	if (s == NULL)
		return 0;
	if (s[0] == '0' && (s[1] == 'o' || s[1] == 'O'))
		s += 2;
	for (const char *p = s; *p != '\0'; p++) {
		if (*p < '0' || *p > '7' || mode > 0777)
			return cfg_fail(err, n, "unix-mode", "unix-mode is not an octal file mode");
		mode = mode * 8 + (unsigned)(*p - '0');
	}
	if (*s == '\0' || mode > 0777)
		return cfg_fail(err, n, "unix-mode", "unix-mode is not an octal file mode");
	*out = mode;
	return 0;
}

static int
take_own(struct ctl_conf *c, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *own = NULL, *ctl = NULL;

	c->unix_mode = UNIX_MODE_DEFAULT;
	if (cfg_map(cfg_get(root, "sluice"), "sluice", &own, err) != 0 ||
	    cfg_bool(cfg_get(own, "allow-open-controller"), "allow-open-controller", &c->allow_open, err) != 0 ||
	    cfg_map(cfg_get(own, "controller"), "controller", &ctl, err) != 0)
		return -E_INVAL;
	return take_mode(cfg_get(ctl, "unix-mode"), &c->unix_mode, err);
}

static int
take_pem(const struct cfg_node *n, const char *key, const char **out, struct cfg_err *err)
{
	const char *s = "";

	if (cfg_str(n, key, &s, err) != 0)
		return -E_INVAL;
	if (*s == '\0')
		return 0;
	*out = strdup(s);
	return *out != NULL ? 0 : cfg_fail(err, n, key, "out of memory");
}

static int
take_tree(struct ctl_conf *c, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *tls = NULL;
	char text[16] = "", ui[1024] = "";
	const char *level = "";

	if (take_text(cfg_get(root, "external-controller"), "external-controller", c->tcp, sizeof(c->tcp), err) != 0 ||
	    take_text(cfg_get(root, "external-controller-tls"), "external-controller-tls", c->tls, sizeof(c->tls), err) != 0 ||
	    take_text(cfg_get(root, "external-controller-unix"), "external-controller-unix", c->unix_path, sizeof(c->unix_path),
		err) != 0 ||
	    take_text(cfg_get(root, "secret"), "secret", c->secret, sizeof(c->secret), err) != 0 ||
	    take_text(cfg_get(root, "external-ui"), "external-ui", ui, sizeof(ui), err) != 0 ||
	    take_text(cfg_get(root, "external-doh-server"), "external-doh-server", c->doh, sizeof(c->doh), err) != 0 ||
	    cfg_str(cfg_get(root, "log-level"), "log-level", &level, err) != 0 ||
	    take_origins(c, cfg_get(root, "external-controller-cors"), err) != 0 || take_own(c, root, err) != 0 ||
	    cfg_map(cfg_get(root, "tls"), "tls", &tls, err) != 0 ||
	    take_pem(cfg_get(tls, "certificate"), "certificate", &c->cert, err) != 0 ||
	    take_pem(cfg_get(tls, "private-key"), "private-key", &c->key, err) != 0)
		return -E_INVAL;
	str_copy(text, sizeof(text), level);
	c->debug = str_case_equal(text, "debug");
	c->ui = ui[0] != '\0';
	if (c->doh[0] != '/')
		c->doh[0] = '\0';
	return 0;
}

static int
take_overrides(struct ctl_conf *c, const struct msg_ctl_config *m, struct cfg_err *err)
{
	size_t n = strnlen(m->home, sizeof(m->home));

	if (n == sizeof(m->home) || strnlen(m->ext_ctl, sizeof(m->ext_ctl)) == sizeof(m->ext_ctl) ||
	    strnlen(m->ext_ctl_unix, sizeof(m->ext_ctl_unix)) == sizeof(m->ext_ctl_unix) ||
	    strnlen(m->ext_ui, sizeof(m->ext_ui)) == sizeof(m->ext_ui) ||
	    strnlen(m->secret, sizeof(m->secret)) == sizeof(m->secret))
		return cfg_fail(err, NULL, "", "an override is not a text");
	memcpy(c->home, m->home, n + 1);
	if ((m->flags & CTL_EXT_CTL) != 0)
		str_copy(c->tcp, sizeof(c->tcp), m->ext_ctl);
	if ((m->flags & CTL_EXT_CTL_UNIX) != 0)
		str_copy(c->unix_path, sizeof(c->unix_path), m->ext_ctl_unix);
	if ((m->flags & CTL_EXT_UI) != 0)
		c->ui = m->ext_ui[0] != '\0';
	if ((m->flags & CTL_SECRET) != 0)
		str_copy(c->secret, sizeof(c->secret), m->secret);
	return 0;
}

/* A relative path means one below the working directory. */
static int
absolute_unix_path(struct ctl_conf *c, struct cfg_err *err)
{
	char path[sizeof(c->unix_path)];
	size_t n = strlen(c->home);

	if (c->unix_path[0] == '\0' || c->unix_path[0] == '/')
		return 0;
	if (n + 1 + strlen(c->unix_path) >= sizeof(path))
		return cfg_fail(err, NULL, "external-controller-unix", "the path is too long");
	memcpy(path, c->home, n);
	path[n] = '/';
	str_copy(path + n + 1, sizeof(path) - n - 1, c->unix_path);
	str_copy(c->unix_path, sizeof(c->unix_path), path);
	return 0;
}

/* An address that cannot be read is not refused here: listening on it fails, is logged, and the service goes on (spec/api.md
 * 1.1). */
static bool
is_loopback(const char *address)
{
	char host[HOST_MAX + 1];
	uint16_t port;
	struct ip ip;

	if (hostport_parse(address, host, sizeof(host), &port) != 0)
		return false;
	return str_case_equal(host, "localhost") || (ip_parse(&ip, host) == 0 && ip_is_loopback(&ip));
}

static int
check_open(const struct ctl_conf *c, const struct tree *tree, struct cfg_err *err)
{
	const struct { const char *key, *address; } doors[] = {
		{ "external-controller", c->tcp }, { "external-controller-tls", c->tls }
	};

	if (c->secret[0] != '\0')
		return 0;
	for (size_t i = 0; i < countof(doors); i++) {
		if (doors[i].address[0] == '\0')
			continue;
		if (!is_loopback(doors[i].address) && !c->allow_open)
			return cfg_fail(err, tree != NULL ? cfg_get(tree->root, doors[i].key) : NULL, doors[i].key,
			    "%s: %s can be reached from other hosts and there is no secret: set secret, or listen on 127.0.0.1, or set "
			    "sluice.allow-open-controller: true",
			    doors[i].key, doors[i].address);
		log_warn("%s: %s has no secret: every local program and user can control this service", doors[i].key,
		    doors[i].address);
	}
	return 0;
}

int
ctl_conf_parse(struct ctl_conf **out, const struct tree *tree, const struct msg_ctl_config *over, struct cfg_err *err)
{
	struct ctl_conf *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return cfg_fail(err, NULL, "", "out of memory");
	atomic_init(&c->refs, 1);
	if (take_tree(c, tree->root, err) != 0 || take_overrides(c, over, err) != 0 || absolute_unix_path(c, err) != 0 ||
	    check_open(c, tree, err) != 0) {
		ctl_conf_put(c);
		return -E_INVAL;
	}
	*out = c;
	return 0;
}
