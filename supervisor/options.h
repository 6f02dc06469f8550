/* SPDX-License-Identifier: MIT */
/* Command line and environment, compatible with the reference (spec/config.md 1, last paragraph) plus long names and our
 * commands. */
#ifndef SLUICE_SUPERVISOR_OPTIONS_H
#define SLUICE_SUPERVISOR_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

enum command { CMD_RUN, CMD_TEST, CMD_VERSION, CMD_HELP, CMD_RELOAD, CMD_RESTART, CMD_STATUS, CMD_STOP, CMD_UPGRADE, CMD_EXPLAIN,
	       CMD_CONVERT };
enum { OPTION_WORDS_MAX = 16 };

struct options {
	enum command command;
	char home[PATH_MAX];		/* as given; the supervisor makes it a real path */
	char config[PATH_MAX];		/* "" = HOME/config.yaml; "-" = standard input */
	const char *config_base64;	/* -config / CLASH_CONFIG_STRING, NULL = none */
	bool geodata_mode;		/* -m */
	struct { const char *key, *word; } words[OPTION_WORDS_MAX];	/* of explain: host, and what else is known of the connection */
	int n_words;
	char *const *operand;		/* of convert-ruleset: what follows it, n_operands of them */
	int n_operands;
	bool force;			/* of upgrade: also to the same build */
	const char *adopt, *adopt_check;	/* the state's descriptor: given by the supervisor before, for upgrade.c; NULL = none */
	const char *ext_ctl, *ext_ctl_unix, *ext_ui, *secret;	/* NULL = not overridden */
	const char *safe_paths;		/* SAFE_PATHS, NULL = none */
	bool skip_safe_paths;		/* SKIP_SAFE_PATH_CHECK */
};

/* Fills *o from argv and the environment. 0, or 2 (the exit code) after saying what is wrong. */
int options_parse(struct options *o, int argc, char **argv);
void options_help(void);

#endif
