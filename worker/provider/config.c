/* SPDX-License-Identifier: MIT */
/* Checks of proxy-providers: (spec/config.md 9) and rule-providers: (10). Called by sections.c; owns nothing. A path that
 * leads out of the working directory is asked from the supervisor, which alone knows what is allowed. */
#include "worker/provider/config.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/match/range.h"
#include "worker/match/regex.h"
#include "worker/worker.h"

enum { STATUS_MAX = 65535, MD5_BYTES = 16 };

static const char *const vehicles[] = { "http", "file", "inline" };
static const char *const behaviors[] = { "domain", "ipcidr", "classical" };
static const char *const formats[] = { "yaml", "text", "mrs" };
static const char *const proxy_keys[] = { "type", "url", "path", "interval", "proxy", "size-limit", "header", "age-secret-key",
    "filter",
	"exclude-filter", "exclude-type", "dialer-proxy", "payload", "health-check", "override", NULL };
static const char *const rule_keys[] = { "type", "behavior", "format", "url", "path", "interval", "proxy", "size-limit",
    "header", "path-in-bundle",
	"payload", NULL };
static const char *const health_keys[] = { "enable", "url", "interval", "timeout", "lazy", "expected-status", NULL };
static const char *const override_keys[] = { "tfo", "mptcp", "udp", "udp-over-tcp", "up", "down", "dialer-proxy",
    "skip-cert-verify",
	"name-cert-verify", "interface-name", "routing-mark", "ip-version", "additional-prefix", "additional-suffix",
	    "proxy-name", "override-expr",
	NULL };

const char *
provider_stored_path(struct gen *g, const char *folder, const char *url)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	char hex[2 * MD5_BYTES + 1] = "";
	unsigned n = 0;

	if (EVP_Digest(url, strlen(url), md, &n, EVP_md5(), NULL) == 1)
		for (unsigned i = 0; i < n && i < MD5_BYTES; i++)
			(void)snprintf(hex + 2 * i, 3, "%02x", md[i]);
	return arena_printf(&g->arena, "%s/%s", folder, hex);
}

static bool
among(const char *s, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(s, names[i]) == 0)
			return true;
	return false;
}

/* Whether a relative path stays below where it starts, by its text alone. */
static bool
stays_inside(const char *path)
{
	int depth = 0;

	if (path[0] == '/')
		return false;
	for (size_t len; *path != '\0'; path += len + (path[len] == '/')) {
		len = strcspn(path, "/");
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			if (--depth < 0)
				return false;
		} else if (len > 0 && !(len == 1 && path[0] == '.')) {
			depth++;
		}
	}
	return true;
}

/* A file that is not there yet is fine: "stat ..." is the supervisor's text for it. */
static int
check_path(struct gen *g, const struct cfg_node *item, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, "path");
	struct cfg_err why = { 0 };
	const char *path = "";
	int fd;

	if (cfgw_str(item, "path", &path, err) != 0)
		return -E_INVAL;
	if (stays_inside(path))
		return 0;
	if (g->w == NULL)
		return cfg_fail(err, n, "path", "path is not subpath of home directory or SAFE_PATHS: %.256s", path);
	fd = priv_open(g->w, OPEN_PROVIDER, path, &why);
	if (fd >= 0) {
		(void)close(fd);
		return 0;
	}
	return str_starts(why.text, "stat ") ? 0 : cfg_fail(err, n, "path", "%s", why.text);
}

/* Keys of both kinds that are strings or numbers. */
static int
check_common(const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const texts[] = { "url", "proxy", "filter", "exclude-filter", "exclude-type", "dialer-proxy",
	    "age-secret-key",
		"path-in-bundle" };
	static const char *const numbers[] = { "interval", "size-limit" };
	const struct cfg_node *header = cfg_get(item, "header"), *map;
	const char *s;
	int64_t v;

	for (size_t i = 0; i < countof(texts); i++)
		if (cfgw_str(item, texts[i], &s, err) != 0)
			return -E_INVAL;
	for (size_t i = 0; i < countof(numbers); i++)
		if (cfgw_int(item, numbers[i], INT64_MIN, INT64_MAX, &v, err) != 0)
			return -E_INVAL;
	return cfg_map(header, "header", &map, err);
}

/* ---- proxy-providers */

/* Patterns separated by back-ticks. */
static int
check_filter(struct gen *g, const struct cfg_node *item, const char *key, const char *name, struct cfg_err *err)
{
	const char *s = cfg_text(cfg_get(item, key));
	char why[REGEX_WHY_MAX];

	for (size_t len; s != NULL && *s != '\0'; s += len + (s[len] == '`')) {
		len = strcspn(s, "`");
		if (regex_compile(&g->arena, &g->regex, arena_strndup(&g->arena, s, len), false, why) == NULL)
			return cfg_fail(err, cfg_get(item, key), key, "invalid %s regex: %s", name, why);
	}
	return 0;
}

static int
check_health(const struct cfg_node *item, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, "health-check");
	const char *url, *status = "", *why;
	struct ranges ranges;
	int64_t v;
	bool b;

	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_MAP)
		return cfg_fail(err, n, "health-check", "'health-check' expected a map, got '%s'", cfg_tag(n));
	if (cfgw_bool(n, "enable", &b, err) != 0 || cfgw_str(n, "url", &url, err) != 0 ||
	    cfgw_int(n, "interval", INT64_MIN, INT64_MAX, &v, err) != 0 || cfgw_int(n, "timeout", INT64_MIN, INT64_MAX, &v,
	    err) != 0 ||
	    cfgw_bool(n, "lazy", &b, err) != 0 || cfgw_str(n, "expected-status", &status, err) != 0)
		return -E_INVAL;
	cfg_warn_unknown(n, "health-check", health_keys, NULL);
	why = range_parse(&ranges, status, STATUS_MAX);
	return why == NULL ? 0 : cfg_fail(err, n, "expected-status", "%s", why);
}

static int
check_override(struct gen *g, const struct cfg_node *item, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, "override"), *names;
	char why[REGEX_WHY_MAX];
	int rc;

	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_MAP)
		return cfg_fail(err, n, "override", "'override' expected a map, got '%s'", cfg_tag(n));
	cfg_warn_unknown(n, "override", override_keys, NULL);
	rc = cfg_list_of_maps(cfg_get(n, "proxy-name"), "proxy-name", &names, err);
	if (rc != 0)
		return rc;
	cfg_each(c, names) {
		const char *pattern = "", *target;

		if (cfgw_str(c, "pattern", &pattern, err) != 0 || cfgw_str(c, "target", &target, err) != 0)
			return -E_INVAL;
		if (regex_compile(&g->arena, &g->regex, pattern, false, why) == NULL)
			return cfg_fail(err, c, "pattern", "%s", why);
	}
	return 0;
}

/* Nodes are only looked at for their form: a list of maps, each with a type. */
static int
check_payload(const struct cfg_node *item, bool is_inline, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, "payload"), *list;
	const char *s;
	int i = 0;

	if (!cfg_is_null(n) && n->type != CFG_LIST)
		return cfg_fail(err, n, "payload", "'payload' is not a slice");
	if (cfg_list_of_maps(n, "payload", &list, err) != 0)
		return -E_INVAL;
	if (is_inline && cfg_count(list) == 0)
		return cfg_fail(err, item, "payload", "file doesn't have any proxy");
	cfg_each(c, list) {
		struct cfg_err why = { 0 };

		if (cfgw_str_required(c, "type", &s, &why) != 0)
			return cfg_fail(err, c, why.key, "proxy %d error: %s", i, why.text);
		i++;
	}
	return 0;
}

static int
check_proxy_provider(struct gen *g, const struct cfg_node *item, struct cfg_err *err)
{
	const char *type = "";
	int rc;

	if (!cfg_is_null(item) && item->type != CFG_MAP)
		return cfg_mismatch(err, item, "proxy-providers", "map[string]interface {}");
	if (cfgw_str_required(item, "type", &type, err) != 0 || check_common(item, err) != 0)
		return -E_INVAL;
	if (!among(type, vehicles, countof(vehicles)))
		return cfg_fail(err, item, "type", "unsupport vehicle type: %.64s", type);
	rc = check_health(item, err);
	if (rc == 0)
		rc = check_path(g, item, err);
	if (rc == 0)
		rc = check_filter(g, item, "exclude-filter", "excludeFilter", err);
	if (rc == 0)
		rc = check_filter(g, item, "filter", "filter", err);
	if (rc == 0)
		rc = check_override(g, item, err);
	if (rc == 0)
		rc = check_payload(item, strcmp(type, "inline") == 0, err);
	return rc;
}

static void
warn_keys(const struct cfg_node *item, const char *kind, const char *const *keys)
{
	char where[160];

	(void)snprintf(where, sizeof where, "%s %.100s", kind, cfg_key(item));
	cfg_warn_unknown(item, where, keys, NULL);
}

int
provider_check_proxies(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *map;
	int rc = cfg_map(cfg_get(root, "proxy-providers"), "proxy-providers", &map, err);

	if (rc != 0)
		return rc;
	cfg_each(c, map) {
		struct cfg_err why = { 0 };

		if (strcmp(cfg_key(c), "default") == 0)
			return cfg_fail(err, c, "proxy-providers", "can not defined a provider called `default`");
		if (check_proxy_provider(g, c, &why) != 0) {
			(void)cfg_fail(err, c, why.key, "parse proxy provider %.128s error: %s", cfg_key(c), why.text);
			if (why.line != 0 && err != NULL) {
				err->line = why.line;
				err->column = why.column;
			}
			return -E_INVAL;
		}
		warn_keys(c, "proxy-provider", proxy_keys);
	}
	return 0;
}

/* ---- rule-providers */

static int
check_rule_provider(struct gen *g, const struct cfg_node *item, struct cfg_err *err)
{
	const char *type = "", *behavior = "", *format = "yaml";
	const struct cfg_node *payload = cfg_get(item, "payload"), *list;

	if (!cfg_is_null(item) && item->type != CFG_MAP)
		return cfg_mismatch(err, item, "rule-providers", "map[string]interface {}");
	if (cfgw_str_required(item, "type", &type, err) != 0 || cfgw_str_required(item, "behavior", &behavior, err) != 0 ||
	    cfgw_str(item, "format", &format, err) != 0 || check_common(item, err) != 0)
		return -E_INVAL;
	if (!cfg_is_null(payload) && payload->type != CFG_LIST)
		return cfg_fail(err, payload, "payload", "'payload' is not a slice");
	if (cfg_list(payload, "payload", &list, err) != 0)
		return -E_INVAL;
	if (!among(behavior, behaviors, countof(behaviors)))
		return cfg_fail(err, item, "behavior", "unsupported behavior type: %.64s", behavior);
	if (format[0] != '\0' && !among(format, formats, countof(formats)))
		return cfg_fail(err, item, "format", "unsupported format type: %.64s", format);
	if (!among(type, vehicles, countof(vehicles)))
		return cfg_fail(err, item, "type", "unsupported vehicle type: %.64s", type);
	return check_path(g, item, err);
}

int
provider_check_rules(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *map;
	int rc = cfg_map(cfg_get(root, "rule-providers"), "rule-providers", &map, err);

	if (rc != 0)
		return rc;
	cfg_each(c, map) {
		rc = check_rule_provider(g, c, err);
		if (rc != 0)
			return rc;
		warn_keys(c, "rule-provider", rule_keys);
	}
	return 0;
}
