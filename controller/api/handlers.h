/* SPDX-License-Identifier: MIT */
/* Every handler that routes.c names, in its order. */
#ifndef SLUICE_CONTROLLER_API_HANDLERS_H
#define SLUICE_CONTROLLER_API_HANDLERS_H

#include "controller/api.h"

int hello_get(struct api_req *req);
int version_get(struct api_req *req);
int generations_get(struct api_req *req);

int traffic_check(struct api_req *req);		/* _check: of a stream, 0 to go on */
int memory_check(struct api_req *req);
int logs_check(struct api_req *req);
int connections_get(struct api_req *req);	/* the check of an upgrade, else the snapshot */
int connections_close_all(struct api_req *req);
int connections_close(struct api_req *req);

int configs_get(struct api_req *req);
int configs_put(struct api_req *req);
int configs_patch(struct api_req *req);
int geo_update(struct api_req *req);

int proxies_list(struct api_req *req);
int proxies_get(struct api_req *req);
int proxies_put(struct api_req *req);
int proxies_delete(struct api_req *req);
int proxies_delay(struct api_req *req);
int group_list(struct api_req *req);
int group_get(struct api_req *req);
int group_delete(struct api_req *req);
int group_delay(struct api_req *req);

int proxy_providers_list(struct api_req *req);
int proxy_providers_get(struct api_req *req);
int proxy_providers_update(struct api_req *req);
int proxy_providers_check(struct api_req *req);
int proxy_providers_member(struct api_req *req);
int proxy_providers_member_delay(struct api_req *req);
int rule_providers_list(struct api_req *req);
int rule_providers_get(struct api_req *req);
int rule_providers_update(struct api_req *req);

int rules_list(struct api_req *req);
int rules_disable(struct api_req *req);
int rules_explain(struct api_req *req);
int dns_query(struct api_req *req);
int doh_serve(struct api_req *req);
int cache_flush_fakeip(struct api_req *req);
int cache_flush_dns(struct api_req *req);

int storage_get(struct api_req *req);
int storage_put(struct api_req *req);
int storage_delete(struct api_req *req);

int restart_post(struct api_req *req);
int upgrade_post(struct api_req *req);
int upgrade_ui_post(struct api_req *req);
int debug_gc(struct api_req *req);
int pprof_redirect(struct api_req *req), pprof_get(struct api_req *req);
int ui_redirect(struct api_req *req);
int ui_get(struct api_req *req);

#endif
