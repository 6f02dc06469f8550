/* SPDX-License-Identifier: MIT */
/* THE list: every method and path of the API, with its file in controller/api/. How patterns match is said in router.h: text
 * beats {name} beats a last "*". A path that is here with other methods only is answered 405; HEAD stands for GET below /ui.
 * Where /debug is not mounted its lines are skipped. */
#include <stddef.h>

#include "controller/api.h"
#include "controller/api/handlers.h"

const struct api_route api_routes[] = {
	{ "GET", "/", API_EXACT, hello_get },
	{ "GET", "/version", API_EXACT, version_get },

	/* streams, served by the loop; a plain GET of /connections is a short call */
	{ "GET", "/traffic", API_EXACT | API_STREAM, traffic_check },
	{ "GET", "/memory", API_EXACT | API_STREAM, memory_check },
	{ "GET", "/logs", API_EXACT | API_STREAM, logs_check },
	{ "GET", "/connections", API_STREAM, connections_get },
	{ "DELETE", "/connections", 0, connections_close_all },
	{ "DELETE", "/connections/{id}", 0, connections_close },

	{ "GET", "/configs", 0, configs_get },
	{ "PUT", "/configs", API_ASYNC, configs_put },
	{ "PATCH", "/configs", API_ASYNC, configs_patch },
	{ "POST", "/configs/geo", API_ASYNC, geo_update },

	{ "GET", "/proxies", 0, proxies_list },
	{ "GET", "/proxies/{name}", 0, proxies_get },
	{ "PUT", "/proxies/{name}", API_ASYNC, proxies_put },
	{ "DELETE", "/proxies/{name}", 0, proxies_delete },
	{ "GET", "/proxies/{name}/delay", API_ASYNC, proxies_delay },
	{ "GET", "/group", 0, group_list },
	{ "GET", "/group/{name}", 0, group_get },
	{ "DELETE", "/group/{name}", 0, group_delete },
	{ "GET", "/group/{name}/delay", API_ASYNC, group_delay },

	{ "GET", "/providers/proxies", 0, proxy_providers_list },
	{ "GET", "/providers/proxies/{provider}", 0, proxy_providers_get },
	{ "PUT", "/providers/proxies/{provider}", API_ASYNC, proxy_providers_update },
	{ "GET", "/providers/proxies/{provider}/healthcheck", API_ASYNC, proxy_providers_check },
	{ "GET", "/providers/proxies/{provider}/{name}", 0, proxy_providers_member },
	{ "GET", "/providers/proxies/{provider}/{name}/healthcheck", API_ASYNC, proxy_providers_member_delay },
	{ "GET", "/providers/rules", 0, rule_providers_list },
	{ "GET", "/providers/rules/{provider}", 0, rule_providers_get },
	{ "PUT", "/providers/rules/{provider}", API_ASYNC, rule_providers_update },

	{ "GET", "/rules", 0, rules_list },
	{ "PATCH", "/rules/disable", 0, rules_disable },
	{ "GET", "/rules/explain", API_ASYNC, rules_explain },
	{ "GET", "/dns/query", API_ASYNC, dns_query },
	{ "POST", "/cache/fakeip/flush", 0, cache_flush_fakeip },
	{ "POST", "/cache/dns/flush", 0, cache_flush_dns },

	{ "GET", "/storage/{key}", 0, storage_get },
	{ "PUT", "/storage/{key}", 0, storage_put },
	{ "DELETE", "/storage/{key}", 0, storage_delete },

	{ "GET", "/generations", 0, generations_get },
	{ "POST", "/restart", API_ASYNC, restart_post },
	{ "POST", "/upgrade", API_ASYNC, upgrade_post },
	{ "POST", "/upgrade/ui", API_ASYNC, upgrade_ui_post },
	{ "POST", "/upgrade/geo", API_ASYNC, geo_update },
	{ "PUT", "/debug/gc", API_DEBUG, debug_gc },
	{ "GET", "/debug", API_DEBUG, pprof_redirect },
	{ "GET", "/debug/pprof", API_DEBUG | API_EXACT, pprof_redirect },
	{ "GET", "/debug/pprof/*", API_DEBUG | API_EXACT, pprof_get },

	{ "GET", "/ui", API_OPEN | API_EXACT, ui_redirect },
	{ "GET", "/ui/*", API_OPEN | API_EXACT, ui_get },
	{ NULL, NULL, 0, NULL }
};

const struct api_route api_doh = { "*", "*", API_OPEN | API_ASYNC, doh_serve };
