/* SPDX-License-Identifier: MIT */
/* Who may use an inbound: lan-allowed-ips and lan-disallowed-ips, skip-auth-prefixes, authentication and users of listeners:
 * items (spec/config.md 2). Called by listen.c before a conn exists and by the handshakes of http.c and socks.c. Owns nothing. */
#include <string.h>

#include "common/strutil.h"
#include "worker/inbound/inbound.h"

static bool
in_list(const struct prefix_list *l, const struct ip *ip)
{
	int i;

	for (i = 0; i < l->n; i++)
		if (ip_in_prefix(ip, &l->p[i]))
			return true;
	return false;
}

bool
inbound_admits(const struct inbound *inb, const struct ip *src)
{
	const struct general *g = &inb->w->gen->general;

	if (!inb->acl)
		return true;
	if (in_list(&g->lan_disallowed, src))
		return false;
	return !g->lan_allowed.set || in_list(&g->lan_allowed, src);	/* a list that is there but empty admits nobody */
}

bool
inbound_needs_auth(const struct inbound *inb, const struct ip *src)
{
	const struct general *g = &inb->w->gen->general;

	if (inb->users != NULL)
		return inb->users->n > 0;
	return g->n_auth > 0 && !in_list(&g->skip_auth, src);
}

/* Every entry is compared, so the time tells no more than their number and lengths. The last entry of a name decides. */
bool
inbound_check(const struct inbound *inb, const char *user, size_t nu, const char *password, size_t np)
{
	const struct general *g = &inb->w->gen->general;
	const struct user_list *l = inb->users;
	bool good = false;
	int i;

	for (i = 0; i < (l != NULL ? l->n : g->n_auth); i++) {
		const char *name, *secret;
		size_t name_len;
		bool same, right;

		if (l != NULL) {
			name = l->u[i].name;
			name_len = strlen(name);
			secret = l->u[i].password;
		} else {
			const char *colon = strchr(g->auth_users[i], ':');

			if (colon == NULL)
				continue;
			name = g->auth_users[i];
			name_len = (size_t)(colon - name);
			secret = colon + 1;
		}
		same = secret_equal(user, nu, name, name_len);
		right = secret_equal(password, np, secret, strlen(secret));
		good = same ? right : good;
	}
	return good;
}
