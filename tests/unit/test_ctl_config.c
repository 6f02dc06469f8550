/* SPDX-License-Identifier: MIT */
/* controller/config.c: what is read of the tree, what overrides it, and that the API is closed by default. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/err.h"
#include "common/log.h"
#include "controller/ctl.h"

static struct cfg_err err;
static struct msg_ctl_config over;

struct line {
	const char *section, *key, *text;	/* key NULL: an item of the list that section names, in external-controller-cors */
};

static int
parse(struct ctl_conf **out, const struct line *lines, size_t n)
{
	struct tree_builder *b = tree_build();
	int64_t root = tree_add(b, -1, CFG_MAP, 0, NULL, NULL, 0, 1, 1), section = root, list = -1;
	const char *last = NULL;
	struct tree tree;
	size_t size;
	void *p;
	int r;

	for (size_t i = 0; i < n; i++) {
		const struct line *l = &lines[i];
		if (l->key == NULL) {
			if (list == -1) {
				section = tree_add(b, root, CFG_MAP, 0, "external-controller-cors", NULL, 0, 1, 1);
				list = tree_add(b, section, CFG_LIST, 0, "allow-origins", NULL, 0, 1, 1);
			}
			tree_add(b, list, CFG_SCALAR, 0, NULL, l->text, strlen(l->text), (unsigned)i + 1, 1);
			continue;
		}
		if (l->section != NULL && (last == NULL || strcmp(last, l->section) != 0))
			section = tree_add(b, root, CFG_MAP, 0, l->section, NULL, 0, 1, 1);
		last = l->section;
		tree_add(
		    b, l->section != NULL ? section : root, CFG_SCALAR, 0, l->key, l->text, strlen(l->text), (unsigned)i + 1, 1);
	}
	p = tree_finish(b, &size);
	memset(&err, 0, sizeof(err));
	assert_int_equal(tree_from_memory(&tree, p, size, &err), 0);
	r = ctl_conf_parse(out, &tree, &over, &err);
	free(p);
	return r;
}
#define PARSE(out, ...) parse(out, (const struct line[]){ __VA_ARGS__ }, sizeof((const struct line[]){ __VA_ARGS__ }) / sizeof(struct line))

static int
setup(void **state)
{
	(void)state;
	memset(&over, 0, sizeof(over));
	strcpy(over.home, "/srv/home");
	log_set_level(LL_SILENT);
	return 0;
}

static void
test_parse_defaults(void **state)
{
	struct ctl_conf *c;

	(void)state;
	assert_int_equal(PARSE(&c, { NULL, "mode", "rule" }), 0);
	assert_string_equal(c->tcp, "");
	assert_string_equal(c->secret, "");
	assert_string_equal(c->home, "/srv/home");
	assert_true(c->any_origin && c->private_network);
	assert_false(c->origins_written || c->allow_open || c->ui || c->debug);
	assert_int_equal(c->unix_mode, 0660);
	ctl_conf_put(c);
}

static void
test_parse_values(void **state)
{
	struct ctl_conf *c;

	(void)state;
	assert_int_equal(
	    PARSE(&c, { NULL, "external-controller", ":9090" }, { NULL, "secret", "123456" }, { NULL, "log-level", "DEBUG" },
		{ NULL, "external-ui", "ui" }, { NULL, "external-controller-unix", "c.sock" }, { NULL, NULL, "https://a.test" },
		{ NULL, NULL, "https://*.b.test" }, { "tls", "certificate", "c.pem" }, { "tls", "private-key", "k.pem" }),
	    0);
	assert_string_equal(c->tcp, ":9090");
	assert_string_equal(c->secret, "123456");	/* a number is accepted as text */
	assert_true(c->debug && c->ui && c->origins_written);
	assert_false(c->any_origin);
	assert_int_equal(c->norigins, 2);
	assert_string_equal(c->origins[1], "https://*.b.test");
	assert_string_equal(c->unix_path, "/srv/home/c.sock");
	assert_string_equal(c->cert, "c.pem");
	assert_string_equal(c->key, "k.pem");
	ctl_conf_put(c);
}

static void
test_parse_any_origin(void **state)
{
	struct ctl_conf *c;

	(void)state;
	assert_int_equal(PARSE(&c, { NULL, NULL, "https://a.test" }, { NULL, NULL, "*" }), 0);
	assert_true(c->any_origin && c->origins_written);
	ctl_conf_put(c);
}

static void
test_parse_closed_by_default(void **state)
{
	static const char *const open[] = { ":9090", "0.0.0.0:9090", "[::]:9090", "192.168.1.1:9090", "box.lan:9090", "*:9090" };
	static const char *const closed[] = { "127.0.0.1:9090", "[::1]:9090", "localhost:9090", "127.9.9.9:1" };
	struct ctl_conf *c;

	(void)state;
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		assert_int_equal(PARSE(&c, { NULL, "external-controller", open[i] }), -E_INVAL);
		assert_non_null(strstr(err.text, "sluice.allow-open-controller"));
		assert_string_equal(err.key, "external-controller");
		assert_int_equal(PARSE(&c, { NULL, "external-controller-tls", open[i] }), -E_INVAL);
		assert_int_equal(PARSE(&c, { NULL, "external-controller", open[i] }, { NULL, "secret", "x" }), 0);
		ctl_conf_put(c);
		assert_int_equal(
		    PARSE(&c, { NULL, "external-controller", open[i] }, { "sluice", "allow-open-controller", "true" }), 0);
		ctl_conf_put(c);
	}
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
		assert_int_equal(PARSE(&c, { NULL, "external-controller", closed[i] }), 0);
		ctl_conf_put(c);
	}
}

static void
test_parse_overrides(void **state)
{
	struct ctl_conf *c;

	(void)state;
	over.flags = CTL_EXT_CTL | CTL_EXT_CTL_UNIX | CTL_EXT_UI | CTL_SECRET;
	strcpy(over.ext_ctl, "0.0.0.0:1");
	strcpy(over.ext_ctl_unix, "/run/x.sock");
	strcpy(over.ext_ui, "/ui");
	strcpy(over.secret, "over");
	assert_int_equal(PARSE(&c, { NULL, "external-controller", "127.0.0.1:9090" }, { NULL, "secret", "conf" }), 0);
	assert_string_equal(c->tcp, "0.0.0.0:1");
	assert_string_equal(c->unix_path, "/run/x.sock");
	assert_string_equal(c->secret, "over");
	assert_true(c->ui);
	ctl_conf_put(c);
	over.secret[0] = '\0';		/* an override that opens is checked too */
	assert_int_equal(PARSE(&c, { NULL, "secret", "conf" }), -E_INVAL);
	memset(over.secret, 'x', sizeof(over.secret));
	assert_int_equal(PARSE(&c, { NULL, "secret", "conf" }), -E_INVAL);
}

static void
test_parse_too_long(void **state)
{
	struct ctl_conf *c;
	char text[300];

	(void)state;
	memset(text, 's', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(PARSE(&c, { NULL, "secret", text }), -E_INVAL);	/* a cut secret would be another one */
	assert_string_equal(err.key, "secret");
}

static void
test_swap_keeps_what_is_held(void **state)
{
	struct ctl ctl = { .conf_lock = PTHREAD_MUTEX_INITIALIZER };
	struct ctl_conf *a, *b, *held;

	(void)state;
	assert_int_equal(PARSE(&a, { NULL, "secret", "a" }), 0);
	assert_int_equal(PARSE(&b, { NULL, "secret", "b" }), 0);
	ctl_conf_swap(&ctl, a);
	held = ctl_conf(&ctl);
	ctl_conf_swap(&ctl, b);
	assert_string_equal(held->secret, "a");
	ctl_conf_put(held);
	held = ctl_conf(&ctl);
	assert_string_equal(held->secret, "b");
	ctl_conf_put(held);
	ctl_conf_swap(&ctl, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_parse_defaults, setup), cmocka_unit_test_setup(test_parse_values, setup),
		cmocka_unit_test_setup(test_parse_any_origin, setup), cmocka_unit_test_setup(test_parse_closed_by_default, setup),
		cmocka_unit_test_setup(test_parse_overrides, setup), cmocka_unit_test_setup(test_parse_too_long, setup),
		cmocka_unit_test_setup(test_swap_keeps_what_is_held, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
