/*
 * cached.h
 *	  Answers of the API, from the cache where they can be.
 *
 * The caller has checked what it may see, and its arguments: nothing here does.
 */
#ifndef PFA_CACHED_H
#define PFA_CACHED_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "cache/cache.h"
#include "merge/page.h"

/* pfa:{org}:data...: one page, see pfa_page_get. */
extern Jsonb *pfa_cached_page(const PfaPageRequest *request);

/* pfa:{org}:stats..., as the user sees the organization */
extern Jsonb *pfa_cached_stats(const char *organization_id, const char *user_id,
							   PfaCacheCompute compute, void *arg);
/* org:{org}:config */
extern Jsonb *pfa_cached_config(const char *organization_id,
								PfaCacheCompute compute, void *arg);
/* user:{user}:perms */
extern Jsonb *
pfa_cached_permissions(const char *user_id, PfaCacheCompute compute, void *arg);

/*
 * What a key written by somebody else names.  One of those above is FILLED, and
 * the item complete; names that say whose it is stay "" where there are none.
 */
typedef enum PfaCachedKey
{
	PFA_KEY_FILLED,       /* by the calls above, and nobody else */
	PFA_KEY_ORGANIZATION, /* of a user's own, below pfa:{org}: or
								 * org:{org}: */
	PFA_KEY_USER,         /* of a user's own, below user:{user}: */
	PFA_KEY_FREE          /* anything else */
} PfaCachedKey;

/* NULL: not there. */
extern Jsonb *pfa_cached_value(PfaCacheItem *item);
/* Whether it was kept. */
extern bool pfa_cached_keep(PfaCacheItem *item, Jsonb *value);

extern PfaCachedKey
pfa_cached_parse_key(const char *key, PfaCacheItem *item,
					 const char **organization_id, const char **user_id);

#endif /* PFA_CACHED_H */
