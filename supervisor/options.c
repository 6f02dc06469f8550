/* SPDX-License-Identifier: MIT */
/* Parses the command line. The reference takes Go's flags: one or two dashes, "-flag value" or "-flag=value", booleans without
 * a value. A first word without a dash is one of our commands. Called once by main.c. */
#include "supervisor/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/snapshot.h"
#include "common/strutil.h"

enum opt_kind { OPT_TEXT, OPT_FLAG };
struct opt {
	const char *name, *longer;
	enum opt_kind kind;
	const char *env;
	const char *help;
};
enum { O_HOME, O_FILE, O_CONFIG, O_TEST, O_VERSION, O_GEODATA, O_EXT_CTL, O_EXT_UNIX, O_EXT_PIPE, O_EXT_UI, O_SECRET, O_FORCE, O_HELP, O_ADOPT, O_ADOPT_CHECK, O_COUNT };

static const struct opt opts[O_COUNT] = {
	[O_HOME] = { "d", "home", OPT_TEXT, "CLASH_HOME_DIR", "working directory" },
	[O_FILE] = { "f", "file", OPT_TEXT, "CLASH_CONFIG_FILE", "configuration file; - reads standard input" },
	[O_CONFIG] = { "config", "config", OPT_TEXT, "CLASH_CONFIG_STRING", "configuration as base64 text" },
	[O_TEST] = { "t", "test", OPT_FLAG, NULL, "test the configuration and exit; offline, writes nothing" },
	[O_VERSION] = { "v", "version", OPT_FLAG, NULL, "print the version and exit" },
	[O_GEODATA] = { "m", "geodata-mode", OPT_FLAG, NULL, "use geoip.dat instead of an mmdb" },
	[O_EXT_CTL] = { "ext-ctl", "ext-ctl", OPT_TEXT, "CLASH_OVERRIDE_EXTERNAL_CONTROLLER", "override external-controller" },
	[O_EXT_UNIX] = { "ext-ctl-unix", "ext-ctl-unix", OPT_TEXT, "CLASH_OVERRIDE_EXTERNAL_CONTROLLER_UNIX",
	    "override external-controller-unix" },
	[O_EXT_PIPE] = { "ext-ctl-pipe", "ext-ctl-pipe", OPT_TEXT, "CLASH_OVERRIDE_EXTERNAL_CONTROLLER_PIPE",
	    "accepted; has no meaning on Linux" },
	[O_EXT_UI] = { "ext-ui", "ext-ui", OPT_TEXT, "CLASH_OVERRIDE_EXTERNAL_UI_DIR", "override external-ui" },
	[O_SECRET] = { "secret", "secret", OPT_TEXT, "CLASH_OVERRIDE_SECRET", "override the API's secret" },
	[O_FORCE] = { "force", "force", OPT_FLAG, NULL, "upgrade: also when the programs on disk are those that run" },
	[O_HELP] = { "h", "help", OPT_FLAG, NULL, "this text" },
	/* internal, not shown: the first comes by the environment so that it is not in the process's title for ever */
	[O_ADOPT] = { "adopt", "adopt", OPT_TEXT, "SLUICE_ADOPT", NULL },
	[O_ADOPT_CHECK] = { "adopt-check", "adopt-check", OPT_TEXT, NULL, NULL },
};

static const struct {
	const char *name;
	enum command command;
	const char *help;
} commands[] = {
	{ "run", CMD_RUN, "run in the foreground (the default)" },
	{ "test", CMD_TEST, "the same as -t" },
	{ "reload", CMD_RELOAD, "read the configuration again; waits, exits 0 only when it is in force" },
	{ "restart", CMD_RESTART, "replace the workers, same configuration; waits" },
	{ "status", CMD_STATUS, "print the processes and their state" },
	{ "explain", CMD_EXPLAIN,
	    "HOST[:PORT] [-src IP[:PORT]] [-network udp] ...: which rule decides, and why the others do not" },
	{ "upgrade", CMD_UPGRADE, "switch to the programs that were installed over the running ones; waits" },
	{ "stop", CMD_STOP, "end the service; waits" },
	{ "convert-ruleset", CMD_CONVERT, "BEHAVIOR FORMAT IN OUT: make another format of a rule set" },
};

void
options_help(void)
{
	printf("usage: sluice [command] [options]\n\ncommands:\n");
	for (size_t i = 0; i < countof(commands); i++)
		printf("  %-16s %s\n", commands[i].name, commands[i].help);
	printf("\noptions (one dash or two; also -name=value):\n");
	for (size_t i = 0; i < O_COUNT; i++) {
		char names[64];

		if (opts[i].help == NULL)
			continue;
		snprintf(names, sizeof names, "-%s%s%s%s", opts[i].name, strcmp(opts[i].name, opts[i].longer) ? ", --" : "",
		    strcmp(opts[i].name, opts[i].longer) ? opts[i].longer : "", opts[i].kind == OPT_TEXT ? " VALUE" : "");
		printf("  %-28s %s%s%s%s\n", names, opts[i].help, opts[i].env ? " (" : "", opts[i].env ? opts[i].env : "",
		    opts[i].env ? ")" : "");
	}
}

static int
find_option(const char *name, size_t n)
{
	for (int i = 0; i < O_COUNT; i++)
		if ((strlen(opts[i].name) == n && !strncmp(opts[i].name, name, n)) ||
		    (strlen(opts[i].longer) == n && !strncmp(opts[i].longer, name, n)))
			return i;
	return -1;
}

static int
bad(const char *what, const char *arg)
{
	fprintf(stderr, "sluice: %s: %s\nTry 'sluice --help'.\n", arg, what);
	return 2;
}

static int
flag_value(const char *v, bool *out)
{
	if (v == NULL || str_case_equal(v, "true") || !strcmp(v, "1") || str_case_equal(v, "t"))
		*out = true;
	else if (str_case_equal(v, "false") || !strcmp(v, "0") || str_case_equal(v, "f"))
		*out = false;
	else
		return -E_INVAL;
	return 0;
}

static void
default_home(char *out, size_t cap)
{
	const char *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");

	if (home != NULL && *home != '\0')
		snprintf(out, cap, "%s/.config/mihomo", home);
	else if (xdg != NULL && *xdg != '\0')
		snprintf(out, cap, "%s/mihomo", xdg);
	else
		str_copy(out, cap, "/etc/sluice");
}

static bool
has_host(const struct options *o)
{
	for (int i = 0; i < o->n_words; i++)
		if (strcmp(o->words[i].key, "host") == 0)
			return true;
	return false;
}

static int
apply(struct options *o, const char *const *value, const bool *flag)
{
	if (value[O_HOME] != NULL && *value[O_HOME] != '\0') {
		if (str_copy(o->home, sizeof o->home, value[O_HOME]) >= sizeof o->home)
			return bad("path too long", "-d");
	} else
		default_home(o->home, sizeof o->home);
	if (value[O_FILE] != NULL && str_copy(o->config, sizeof o->config, value[O_FILE]) >= sizeof o->config)
		return bad("path too long", "-f");
	o->config_base64 = value[O_CONFIG] != NULL && *value[O_CONFIG] != '\0' ? value[O_CONFIG] : NULL;
	o->ext_ctl = value[O_EXT_CTL];
	o->ext_ctl_unix = value[O_EXT_UNIX];
	o->ext_ui = value[O_EXT_UI];
	o->secret = value[O_SECRET];
	o->geodata_mode = flag[O_GEODATA];
	o->force = flag[O_FORCE];
	o->adopt = value[O_ADOPT];
	o->adopt_check = value[O_ADOPT_CHECK];
	o->safe_paths = getenv("SAFE_PATHS");
	if (flag_value(getenv("SKIP_SAFE_PATH_CHECK") ? getenv("SKIP_SAFE_PATH_CHECK") : "false", &o->skip_safe_paths) != 0)
		o->skip_safe_paths = false;
	if (flag[O_TEST])
		o->command = CMD_TEST;
	if (flag[O_VERSION])
		o->command = CMD_VERSION;
	if (flag[O_HELP])
		o->command = CMD_HELP;
	if (o->command == CMD_EXPLAIN && !has_host(o))
		return bad("a host is missing", "explain");
	return 0;
}

/* explain's own: its host, and one option for each key the worker understands. The number of arguments taken; 0: none of
 * these; -1 told. */
static int
explain_word(struct options *o, const char *arg, const char *next)
{
	static const char *const keys[] = { EXPLAIN_KEYS };
	const char *name = arg + strspn(arg, "-"), *eq = strchr(arg, '='), *key = arg == name ? "host" : NULL;
	size_t n = eq != NULL ? (size_t)(eq - name) : strlen(name);

	for (size_t i = 0; key == NULL && i < countof(keys); i++)
		if (strlen(keys[i]) == n && !strncmp(keys[i], name, n))
			key = keys[i];
	if (key == NULL)
		return 0;
	if ((arg != name && eq == NULL && next == NULL) || o->n_words == OPTION_WORDS_MAX) {
		bad(o->n_words == OPTION_WORDS_MAX ? "too many options" : "a value is missing", arg);
		return -1;
	}
	o->words[o->n_words].key = key;
	o->words[o->n_words++].word = arg == name ? arg : eq != NULL ? eq + 1 : next;
	return arg == name || eq != NULL ? 1 : 2;
}

int
options_parse(struct options *o, int argc, char **argv)
{
	const char *value[O_COUNT] = { NULL };
	bool flag[O_COUNT] = { false };
	int i = 1;

	*o = (struct options){ .command = CMD_RUN };
	for (int k = 0; k < O_COUNT; k++)
		if (opts[k].env != NULL && getenv(opts[k].env) != NULL && *getenv(opts[k].env) != '\0')
			value[k] = getenv(opts[k].env);
	if (argc > 1 && argv[1][0] != '-') {
		size_t k = 0;

		while (k < countof(commands) && strcmp(commands[k].name, argv[1]) != 0)
			k++;
		if (k == countof(commands))
			return bad("unknown command", argv[1]);
		o->command = commands[k].command;
		i = 2;
		if (o->command == CMD_CONVERT) {
			o->operand = argv + 2;
			o->n_operands = argc - 2;
			return 0;
		}
	}
	for (; i < argc; i++) {
		const char *name = argv[i] + 1 + (argv[i][0] == '-' && argv[i][1] == '-'), *eq = strchr(argv[i], '=');
		int k = argv[i][0] == '-' ? find_option(name, eq != NULL ? (size_t)(eq - name) : strlen(name)) : -1;
		int taken = o->command == CMD_EXPLAIN ? explain_word(o, argv[i], i + 1 < argc ? argv[i + 1] : NULL) : 0;

		if (taken == -1)
			return 2;
		if (taken > 0) {
			i += taken - 1;
			continue;
		}
		if (k == -1)
			return bad("unknown option", argv[i]);
		if (opts[k].kind == OPT_FLAG) {
			if (flag_value(eq != NULL ? eq + 1 : NULL, &flag[k]) != 0)
				return bad("not a boolean", argv[i]);
		} else if (eq != NULL)
			value[k] = eq + 1;
		else if (i + 1 < argc)
			value[k] = argv[++i];
		else
			return bad("a value is missing", argv[i]);
	}
	return apply(o, value, flag);
}
