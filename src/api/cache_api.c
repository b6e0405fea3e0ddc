/*
 * cache_api.c
 *	  The cache, for SQL: pfa_cache_get, pfa_cache_set, pfa_cache_invalidate,
 *	  pfa_cache_stats, pfa_prewarm.
 *
 * What pfa_get and its like keep is kept for whoever asks them, so nobody but
 * they may put it there.  An application may read it, and may keep values of
 * its own: those below an organization's or a user's keys are dropped when that
 * changes, whatever they are.
 *
 * These calls are for the tier that speaks for users, as whoever keeps a value
 * puts words into the mouths of others.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/cached.h"
#include "catalog/prewarm.h"
#include "catalog/user_organization.h"
#include "metrics/counters.h"

#define MAX_TTL_MS (30 * INT64CONST(86400000))

/* ---- who may ask for what ---- */

static void
check_not_null(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

static void
check_speaks_for_users(void)
{
	if (pfa_caller_is_owner() ||
		pg_parameter_aclcheck("pfa_vanguard.user_id", GetUserId(), ACL_SET) ==
			ACLCHECK_OK)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("permission denied for the cache"),
		 errdetail("Values in it are for roles that may speak for users."),
		 errhint(
			 "GRANT SET ON PARAMETER pfa_vanguard.user_id TO the role of the application.")));
}

static void
check_user(const char *user_id)
{
	if (strcmp(user_id, pfa_caller_id()) == 0 || pfa_caller_is_owner())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for cached values of user \"%s\"",
					user_id),
			 errdetail("The caller is user \"%s\".", pfa_caller_id())));
}

static PfaCachedKey
check_key(const char *key, PfaCacheItem *item)
{
	const char *organization_id;
	const char *user_id;
	PfaCachedKey kind;

	check_speaks_for_users();
	if (key[0] == '\0' || strlen(key) > PFA_CACHE_MAX_KEY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a key must be 1 to %d bytes long",
						PFA_CACHE_MAX_KEY)));
	kind = pfa_cached_parse_key(key, item, &organization_id, &user_id);
	if (organization_id != NULL)
		pfa_caller_require(organization_id, PFA_ROLE_VIEWER);
	if (user_id != NULL)
		check_user(user_id);
	return kind;
}

/* ---- values ---- */

/* pfa_cache_get(key text) returns jsonb, strict */
PFA_API_FUNCTION(pfa_cache_get, PFA_ENDPOINT_CACHE_GET)
{
	char *key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PfaCacheItem item;
	Jsonb *value;

	(void) check_key(key, &item);
	value = pfa_cached_value(&item);
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(value);
}

static int64
get_ttl(FunctionCallInfo fcinfo, int arg)
{
	Interval *ttl = PG_GETARG_INTERVAL_P(arg);
	/* In floating point: an interval may be longer than int64 microseconds. */
	double ms = ttl->time / 1000.0 +
		(ttl->day + (double) ttl->month * DAYS_PER_MONTH) * SECS_PER_DAY *
			1000.0;

	if (ms >= 1 && ms <= (double) MAX_TTL_MS)
		return (int64) ms;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("ttl must be between 1 millisecond and 30 days")));
}

/* pfa_cache_set(key text, value jsonb, ttl interval) returns boolean */
PFA_API_FUNCTION(pfa_cache_set, PFA_ENDPOINT_CACHE_SET)
{
	PfaCacheItem item;
	char *key;

	check_not_null(fcinfo, 0, "key");
	check_not_null(fcinfo, 1, "value");
	check_not_null(fcinfo, 2, "ttl");
	key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (check_key(key, &item) == PFA_KEY_FILLED)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("key \"%s\" is filled by the database itself", key),
			 errhint(
				 "Call pfa_get, pfa_stats, pfa_organization_config or pfa_permissions, which keep their answers, or choose another key.")));
	item.ttl_ms = get_ttl(fcinfo, 2);
	PG_RETURN_BOOL(pfa_cached_keep(&item, PG_GETARG_JSONB_P(1)));
}

/*
 * Whether the pattern can match only keys of one organization, or user, that
 * the caller may see: its first two parts then are words, not patterns.
 */
static void
check_pattern(const char *pattern)
{
	const char *colon = strchr(pattern, ':');
	const char *name = colon == NULL ? NULL : colon + 1;
	size_t len;

	if (pfa_caller_is_owner())
		return;
	len = name == NULL ? 0 : strcspn(name, ":*?[\\");
	if (len == 0 || name[len] != ':' ||
		(strncmp(pattern, "pfa:", 4) != 0 && strncmp(pattern, "org:", 4) != 0 &&
		 strncmp(pattern, "user:", 5) != 0))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for pattern \"%s\"", pattern),
			 errdetail(
				 "Who does not own the extension may invalidate pfa:ORGANIZATION:..., org:ORGANIZATION:... and user:USER:..., of organizations and users of its own.")));
	if (pattern[0] == 'u')
		check_user(pfa_cache_key_parse(&name));
	else
		pfa_caller_require(pfa_cache_key_parse(&name), PFA_ROLE_VIEWER);
}

/* pfa_cache_invalidate(pattern text) returns bigint, strict */
PFA_API_FUNCTION(pfa_cache_invalidate, PFA_ENDPOINT_CACHE_INVALIDATE)
{
	char *pattern = text_to_cstring(PG_GETARG_TEXT_PP(0));

	check_pattern(pattern);
	PG_RETURN_INT64(pfa_cache_remove(pattern));
}

/* ---- statistics ---- */

PG_FUNCTION_INFO_V1(pfa_cache_stats_rows);

#define STATS_COLUMNS 16

typedef struct StatsRow
{
	int n;
	Datum values[STATS_COLUMNS];
	bool nulls[STATS_COLUMNS];
} StatsRow;

static void
add_value(StatsRow *row, Datum value, bool isnull)
{
	row->values[row->n] = value;
	row->nulls[row->n] = isnull;
	row->n++;
}

static void
add_count(StatsRow *row, uint64 value, bool isnull)
{
	add_value(row, Int64GetDatum((int64) value), isnull);
}

static void
return_stats(ReturnSetInfo *result, const PfaCacheStats *stats,
			 const char *keyspace, const PfaCacheKeyspaceStats *counts)
{
	StatsRow row = {0};
	bool all = strcmp(keyspace, "all") == 0;
	uint64 lookups = counts->hits + counts->misses;

	add_value(&row, CStringGetTextDatum(keyspace), false);
	add_value(&row, CStringGetTextDatum(stats->backend), false);
	add_value(&row, BoolGetDatum(stats->up), false);
	add_count(&row, counts->hits, false);
	add_count(&row, counts->misses, false);
	add_value(&row,
			  Float8GetDatum(lookups == 0 ? 0 :
											(double) counts->hits / lookups),
			  lookups == 0);
	add_count(&row, counts->fills, false);
	add_count(&row, counts->evictions, false);
	add_count(&row, stats->entries, !all || !stats->has_size);
	add_count(&row, stats->size_bytes, !all || !stats->has_size);
	add_count(&row, stats->max_bytes, !all || !stats->has_size);
	add_count(&row, stats->bypasses, !all);
	add_count(&row, stats->waits, !all);
	add_count(&row, stats->too_large, !all);
	add_count(&row, stats->rejected, !all);
	add_count(&row, stats->errors, !all);
	Assert(row.n == STATS_COLUMNS);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values,
						 row.nulls);
}

/* pfa_cache_stats_rows() returns the rows of pfa_cache_stats */
Datum
pfa_cache_stats_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PfaCacheStats stats;
	PfaCacheKeyspaceStats all = {0};

	InitMaterializedSRF(fcinfo, 0);
	pfa_cache_read_stats(&stats);
	for (int i = 0; i < PFA_NKEYSPACES; i++)
	{
		const PfaCacheKeyspaceStats *counts = &stats.keyspaces[i];

		return_stats(result, &stats, pfa_cache_keyspace_name(i), counts);
		all.hits += counts->hits;
		all.misses += counts->misses;
		all.fills += counts->fills;
		all.evictions += counts->evictions;
	}
	return_stats(result, &stats, "all", &all);
	return (Datum) 0;
}

/* ---- pfa_prewarm ---- */

static void
return_prewarmed(const char *relation, int64 blocks, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum values[2] = {CStringGetTextDatum(relation), Int64GetDatum(blocks)};
	bool nulls[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* pfa_prewarm() returns setof (relation text, blocks bigint) */
PFA_API_FUNCTION(pfa_prewarm, PFA_ENDPOINT_PREWARM)
{
	InitMaterializedSRF(fcinfo, 0);
	pfa_prewarm_relations(return_prewarmed, fcinfo->resultinfo);
	return (Datum) 0;
}
