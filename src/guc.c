/*
 * guc.c
 *	  Every setting, in alphabetical order.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#include "cache/redis_url.h"
#include "compat.h"
#include "guc.h"

int pfa_guc_cache_backend = PFA_CACHE_BACKEND_SHARED_MEMORY;
int pfa_guc_cache_size = 64 * 1024;
bool pfa_guc_prewarm = false;
char *pfa_guc_redis_key_prefix;
char *pfa_guc_redis_password_file;
int pfa_guc_redis_timeout = 50;
char *pfa_guc_redis_url;
bool pfa_guc_enabled = true;
bool pfa_guc_write_back = true;
int pfa_guc_max_concurrent_syncs = 2;
double pfa_guc_max_delete_fraction = 0.2;
char *pfa_guc_allowed_hosts;
int pfa_guc_run_retention = 90 * 24 * 60;
int pfa_guc_event_retention = 90 * 24 * 60;
int pfa_guc_view_refresh_interval = 15 * 60;
int pfa_guc_max_organizations = 200;
int pfa_guc_slow_query_threshold = 1000;
bool pfa_guc_track_statements = true;

static const struct config_enum_entry cache_backends[] =
	{{"off", PFA_CACHE_BACKEND_OFF, false},
	 {"shared_memory", PFA_CACHE_BACKEND_SHARED_MEMORY, false},
	 {"redis", PFA_CACHE_BACKEND_REDIS, false},
	 {NULL, 0, false}};

#define MIN_CACHE_SIZE    1024
#define MAX_CACHE_SIZE    (64 * 1024 * 1024)
#define MAX_REDIS_TIMEOUT 10000
#define MAX_PREFIX        100

#define MAX_RETENTION (100 * 365 * 24 * 60)
#define MAX_USER_ID   255

static char *user_id;
static struct config_generic *user_id_setting;

/* ---- who the caller is ---- */

#ifdef PFA_SEARCH_SETTING
static struct config_generic *
pfa_search_setting(struct config_generic **settings, int n, const char *name)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(settings[i]->name, name) == 0)
			return settings[i];
	}
	return NULL;
}
#endif

static bool
check_user_id(char **newval, void **extra, GucSource source)
{
	const char *value = *newval;

	if (value == NULL)
		return true;
	if (strlen(value) > MAX_USER_ID)
	{
		GUC_check_errdetail("A user's id has at most %d bytes.", MAX_USER_ID);
		return false;
	}
	for (const char *p = value; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
		{
			GUC_check_errdetail("A user's id holds no control characters.");
			return false;
		}
	}
	return true;
}

/* Once a transaction: a statement may ask for the caller many times. */
static void
warn_ignored(void)
{
	static LocalTransactionId warned;

	if (warned == pfa_local_transaction())
		return;
	warned = pfa_local_transaction();
	ereport(
		WARNING,
		(errcode(ERRCODE_WARNING),
		 errmsg(
			 "\"pfa_vanguard.user_id\" is ignored, as an earlier transaction of this session set it"),
		 errdetail("In a pooled connection it could be another client's."),
		 errhint(
			 "Use SET LOCAL, or set_config('pfa_vanguard.user_id', ..., true), in each transaction.")));
}

/*
 * A connection pool hands a session from client to client, with whatever the
 * last one has SET.  So a value counts in the transaction that set it (the
 * server then keeps the old one on a stack), and beyond it only if it comes
 * from the configuration, the role or the connection, which are the same for
 * all clients, or from a superuser, who may see everything anyway.
 */
const char *
pfa_guc_user_id(void)
{
	if (user_id == NULL || user_id[0] == '\0')
		return NULL;
	if (user_id_setting->stack != NULL ||
		user_id_setting->source != PGC_S_SESSION ||
		superuser_arg(user_id_setting->srole))
		return user_id;
	warn_ignored();
	return NULL;
}

/* ---- Redis ---- */

static bool
check_redis_url(char **newval, void **extra, GucSource source)
{
	PfaRedisUrl url;
	const char *reason;

	if (*newval == NULL || (*newval)[0] == '\0' ||
		pfa_redis_url_parse(*newval, &url, &reason))
		return true;
	GUC_check_errdetail("%s", reason);
	return false;
}

static bool
check_redis_key_prefix(char **newval, void **extra, GucSource source)
{
	if (*newval == NULL || strlen(*newval) <= MAX_PREFIX)
		return true;
	GUC_check_errdetail("A prefix has at most %d bytes.", MAX_PREFIX);
	return false;
}

/* ---- settings ---- */

void
pfa_guc_define(void)
{
	/*
	 * Of what sizes shared memory: without that it only has to be known, and
	 * the server lets nobody define a postmaster's variable later.
	 */
	GucContext sizing = process_shared_preload_libraries_in_progress ?
		PGC_POSTMASTER :
		PGC_SIGHUP;

	/*
	 * A superuser's list: it decides where the server connects to and sends
	 * credentials.
	 */
	DefineCustomStringVariable(
		"pfa_vanguard.allowed_hosts",
		"Sets the hosts that PEMS servers of roles without superuser rights may name.",
		"A comma-separated list of host or host:port. Servers owned by a superuser need no entry.",
		&pfa_guc_allowed_hosts, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL,
		NULL);
	DefineCustomEnumVariable("pfa_vanguard.cache_backend",
							 "Sets where answers are cached.",
							 "Without shared_preload_libraries nothing is.",
							 &pfa_guc_cache_backend,
							 PFA_CACHE_BACKEND_SHARED_MEMORY, cache_backends,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	/* As max_organizations: it sizes shared memory, or nothing. */
	DefineCustomIntVariable("pfa_vanguard.cache_size",
							"Sets how much shared memory cached answers take.",
							NULL, &pfa_guc_cache_size, 64 * 1024,
							MIN_CACHE_SIZE, MAX_CACHE_SIZE, sizing, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"pfa_vanguard.enabled", "Sets whether organizations are synced.",
		"Off, nothing is asked of any PEMS server; running syncs end.",
		&pfa_guc_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pfa_vanguard.event_retention",
							"Sets how long rows of pfa_event_log are kept.",
							"0 keeps them for ever.", &pfa_guc_event_retention,
							90 * 24 * 60, 0, MAX_RETENTION, PGC_SIGHUP,
							GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pfa_vanguard.max_concurrent_syncs",
		"Sets how many sync workers run at a time in the whole cluster.",
		"A large listing takes two of them if they are free. max_worker_processes must leave room for them, the launcher, and a scheduler for each database.",
		&pfa_guc_max_concurrent_syncs, 2, 1, 64, PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	DefineCustomRealVariable(
		"pfa_vanguard.max_delete_fraction",
		"Sets the fraction of an organization's records that may vanish within a day.",
		"A sync that would delete more fails and deletes nothing.",
		&pfa_guc_max_delete_fraction, 0.2, 0.0, 1.0, PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	DefineCustomIntVariable(
		"pfa_vanguard.max_organizations",
		"Sets how many organizations have metrics of their own, in the whole cluster.",
		"Those beyond share the label \"other\".", &pfa_guc_max_organizations,
		200, 1, 10000, sizing, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"pfa_vanguard.prewarm",
		"Sets whether records and modifications are loaded into shared buffers when the server has started.",
		"It takes pg_prewarm to be installed.", &pfa_guc_prewarm, false,
		PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"pfa_vanguard.redis_key_prefix",
		"Sets what all keys in Redis begin with.",
		"It keeps servers, or databases, apart that share a Redis.",
		&pfa_guc_redis_key_prefix, "", PGC_SUSET, 0, check_redis_key_prefix,
		NULL, NULL);
	DefineCustomStringVariable(
		"pfa_vanguard.redis_password_file",
		"Sets the file that holds the password for Redis.",
		"It is read at each connection, and takes the place of a password in redis_url.",
		&pfa_guc_redis_password_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL,
		NULL, NULL);
	DefineCustomIntVariable(
		"pfa_vanguard.redis_timeout",
		"Sets how long a connection to Redis, and an operation there, may take.",
		NULL, &pfa_guc_redis_timeout, 50, 1, MAX_REDIS_TIMEOUT, PGC_SIGHUP,
		GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"pfa_vanguard.redis_url", "Sets the Redis in which answers are cached.",
		"redis://user:password@host:port/database, or the path of a socket.",
		&pfa_guc_redis_url, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_redis_url,
		NULL, NULL);
	DefineCustomIntVariable(
		"pfa_vanguard.run_retention",
		"Sets how long finished rows of pfa_sync_run are kept.",
		"0 keeps them for ever.", &pfa_guc_run_retention, 90 * 24 * 60, 0,
		MAX_RETENTION, PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"pfa_vanguard.slow_query_threshold",
		"Sets the duration above which a statement on a table of the extension counts as slow.",
		"-1 counts none.", &pfa_guc_slow_query_threshold, 1000, -1, INT_MAX,
		PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"pfa_vanguard.track_statements",
		"Sets whether statements on tables of the extension are counted and timed.",
		NULL, &pfa_guc_track_statements, true, PGC_SUSET, 0, NULL, NULL, NULL);
	/* SUSET, so that GRANT SET ON PARAMETER decides who speaks for others. */
	DefineCustomStringVariable(
		"pfa_vanguard.user_id",
		"Sets the user on whose behalf the transaction acts.",
		"Empty, it is the role's name. Use SET LOCAL: a value that an earlier transaction set does not count.",
		&user_id, "", PGC_SUSET, GUC_NOT_IN_SAMPLE, check_user_id, NULL, NULL);
	user_id_setting = pfa_find_setting("pfa_vanguard.user_id");
	if (user_id_setting == NULL)
		elog(ERROR, "setting \"pfa_vanguard.user_id\" was not defined");
	DefineCustomIntVariable(
		"pfa_vanguard.view_refresh_interval",
		"Sets how old materialized views may become where the mirror has changed.",
		"A sync that changed something has them refreshed at once. Where nothing has changed they are left alone. 0 leaves refreshing to pfa_refresh_mv().",
		&pfa_guc_view_refresh_interval, 15 * 60, 0, 24 * 60 * 60, PGC_SIGHUP,
		GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"pfa_vanguard.write_back",
		"Sets whether committed modifications are written to PEMS.", NULL,
		&pfa_guc_write_back, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("pfa_vanguard");
}
