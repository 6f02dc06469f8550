/* SPDX-License-Identifier: MIT */
/* Why a rule that was passed over does not decide: one sentence, for GET /rules/explain and `sluice explain`
 * (worker/query_explain.c). Pure: it tests the rule again and says what of the connection the rule looked at. */
#include <stdio.h>

#include "common/strutil.h"
#include "worker/rule/rule.h"

static void
host_text(const struct meta *m, char *out, size_t cap)
{
	const char *host = rule_host(m);

	if (host[0] == '\0')
		str_copy(out, cap, "the host name is not known");
	else
		snprintf(out, cap, "the host is %.253s", host);
}

static void
destination_text(const struct rule *r, const struct meta *m, char *out, size_t cap)
{
	char ip[ADDR_TEXT_MAX];

	if (m->dst_ip.family != 0)
		snprintf(out, cap, "the destination is %s", ip_text(&m->dst_ip, ip));
	else if ((r->needs & NEED_IP) != 0)
		str_copy(out, cap, "the name has no address");
	else
		str_copy(out, cap, "the address is not looked up for this rule (no-resolve)");
}

static void
number_text(const char *what, unsigned long n, char *out, size_t cap)
{
	snprintf(out, cap, "the %s is %lu", what, n);
}

static void
word_text(const char *what, const char *word, char *out, size_t cap)
{
	if (word[0] == '\0')
		snprintf(out, cap, "the %s is not known", what);
	else
		snprintf(out, cap, "the %s is %.200s", what, word);
}

static void
set_text(const struct rule *r, const struct meta *m, char *out, size_t cap)
{
	char ip[ADDR_TEXT_MAX];
	const char *host = r->src ? "" : rule_host(m);
	const struct ip *addr = r->src ? &m->src_ip : &m->dst_ip;

	snprintf(out, cap, "not in the set: %.253s%s%s", host, host[0] != '\0' && addr->family != 0 ? ", " : "",
	    addr->family != 0 ? ip_text(addr, ip) : "");
}

/* What the rule looked at in m. Logic rules are not for this. */
static void
subject_text(const struct rule *r, const struct meta *m, char *out, size_t cap)
{
	char ip[ADDR_TEXT_MAX];

	switch (r->type->about) {
	case ABOUT_HOST:
		host_text(m, out, cap);
		break;
	case ABOUT_DST:
		destination_text(r, m, out, cap);
		break;
	case ABOUT_SRC:
		snprintf(out, cap, "the source is %s", m->src_ip.family != 0 ? ip_text(&m->src_ip, ip) : "not known");
		break;
	case ABOUT_SET:
		set_text(r, m, out, cap);
		break;
	case ABOUT_SRC_PORT:
		number_text("source port", m->src_port, out, cap);
		break;
	case ABOUT_DST_PORT:
		number_text("port", m->dst_port, out, cap);
		break;
	case ABOUT_IN_PORT:
		number_text("inbound's port", m->in_port, out, cap);
		break;
	case ABOUT_DSCP:
		number_text("DSCP", m->dscp, out, cap);
		break;
	case ABOUT_UID:
		number_text("uid", m->uid, out, cap);
		break;
	case ABOUT_IN_TYPE:
		word_text("inbound's type", meta_type_name((enum in_kind)m->kind), out, cap);
		break;
	case ABOUT_IN_USER:
		word_text("user", m->in_user, out, cap);
		break;
	case ABOUT_IN_NAME:
		word_text("inbound's name", m->in_name, out, cap);
		break;
	case ABOUT_NETWORK:
		word_text("network", m->network == NET_UDP ? "udp" : "tcp", out, cap);
		break;
	case ABOUT_PROCESS:
		word_text("process", m->process, out, cap);
		break;
	case ABOUT_PROCESS_PATH:
		word_text("process's path", m->process_path, out, cap);
		break;
	case ABOUT_AND:
	case ABOUT_OR:
	case ABOUT_NOT:
	case ABOUT_SUB:
		str_copy(out, cap, "it does not hold");
		break;
	}
}

static bool
holds(const struct rule *r, const struct meta *m)
{
	struct verdict v = { 0 };

	return r->type->match(r, m, &v) != 0;
}

/* The condition that a logic rule fails for; NULL: it is not one of its conditions. */
static const struct rule *
failing(const struct rule *r, const struct meta *m)
{
	int n;
	const struct rule *c = rule_conditions(r, &n);

	for (int i = 0; i < n; i++)
		if (!holds(&c[i], m))
			return &c[i];
	return NULL;
}

/* Down to the condition that fails; at most RULE_DEPTH_MAX steps, as deep as rules are nested. */
static void
logic_text(const struct rule *r, const struct meta *m, char why[static RULE_WHY_MAX])
{
	char inner[RULE_WHY_MAX / 2];
	const struct rule *c = r;

	while (c != NULL && (c->type->about == ABOUT_AND || c->type->about == ABOUT_SUB))
		c = failing(c, m);
	if (c == NULL) {
		snprintf(why, RULE_WHY_MAX, "no rule of its sub-rules matches");
	} else if (c->type->about == ABOUT_OR) {
		str_copy(why, RULE_WHY_MAX, "none of its conditions holds");
	} else if (c->type->about == ABOUT_NOT) {
		int n;

		c = rule_conditions(c, &n);
		snprintf(why, RULE_WHY_MAX, "%s(%.200s) holds, or cannot be told", rule_api_name(c), c->payload);
	} else {
		subject_text(c, m, inner, sizeof inner);
		snprintf(why, RULE_WHY_MAX, "%s(%.200s): %s", rule_api_name(c), c->payload, inner);
	}
}

void
rule_explain(const struct rule *r, const struct meta *m, const struct rule_hooks *hooks, char why[static RULE_WHY_MAX])
{
	struct verdict v = { .outbound = r->outbound };

	if (r->disabled) {
		str_copy(why, RULE_WHY_MAX, "switched off");
	} else if (r->type->match(r, m, &v) != 0) {
		if (v.outbound != NULL && m->network == NET_UDP && !hooks->usable(v.outbound, m))
			snprintf(why, RULE_WHY_MAX, "it matches, but its target is PASS now, or carries no UDP");
		else
			snprintf(why, RULE_WHY_MAX, "it matches, but its target is PASS now");
	} else if (r->later != NULL) {
		snprintf(why, RULE_WHY_MAX, "%s cannot match here: see the log of the start", r->later->name);
	} else if (r->type->about >= ABOUT_AND) {
		logic_text(r, m, why);
	} else {
		subject_text(r, m, why, RULE_WHY_MAX);
	}
}
