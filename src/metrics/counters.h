/*
 * counters.h
 *	  Counting: what the rest of the code calls.
 *
 * Any process may count at any time, in a callback that runs while an error is
 * handled too: nothing here raises an error, allocates, or waits, apart from
 * the first sight of a database or an organization, which takes a lock for as
 * long as it takes to fill in an entry.  Without shared_preload_libraries
 * there is no shared memory and every call does nothing.
 *
 * Everything is counted by database, as an exporter is connected to one.
 * Labels come from the closed lists below; organizations beyond
 * pfa_vanguard.max_organizations share the entry "other".
 */
#ifndef PFA_COUNTERS_H
#define PFA_COUNTERS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "fmgr.h"

/* ---- syncs ---- */

typedef enum PfaSyncMode
{
	PFA_MODE_FULL,
	PFA_MODE_DELTA,
	PFA_MODE_FORCE
} PfaSyncMode;
#define PFA_NMODES (PFA_MODE_FORCE + 1)

typedef enum PfaSyncResult
{
	PFA_SYNC_SUCCESS,
	PFA_SYNC_FAILED,
	PFA_SYNC_CANCELLED
} PfaSyncResult;
#define PFA_NSYNC_RESULTS (PFA_SYNC_CANCELLED + 1)

/* Why a sync failed. */
typedef enum PfaErrorKind
{
	PFA_ERROR_NETWORK, /* no answer from PEMS, or none of use */
	PFA_ERROR_DENIED,  /* PEMS refused the credentials */
	PFA_ERROR_ANSWER,  /* an answer that cannot be right */
	PFA_ERROR_GUARD,   /* more records gone than may go at once */
	PFA_ERROR_SETUP,   /* organization, server, mapping, rights */
	PFA_ERROR_WORKER,  /* its process died too often */
	PFA_ERROR_DATABASE /* anything else */
} PfaErrorKind;
#define PFA_NERROR_KINDS (PFA_ERROR_DATABASE + 1)

extern PfaErrorKind pfa_metrics_error_kind(int sqlstate);

/* What a piece of a run did; added up while the run goes on. */
typedef struct PfaSyncProgress
{
	int64 inserted;
	int64 updated;
	int64 deleted;
	int64 unchanged;
	int64 rejected;
	int64 api_calls;
	int64 retries;
} PfaSyncProgress;

extern void pfa_metrics_sync_progress(const char *organization,
									  const PfaSyncProgress *progress);
/* Once a run has ended; kind counts for failed ones. */
extern void
pfa_metrics_sync_finished(const char *organization, PfaSyncMode mode,
						  PfaSyncResult result, PfaErrorKind kind, int64 usecs,
						  int64 records);

/* ---- write-back ---- */

typedef enum PfaWriteResult
{
	PFA_WRITE_SUCCESS,
	PFA_WRITE_CONFLICT,
	PFA_WRITE_FAILED, /* given up */
	PFA_WRITE_RETRIED /* will be tried again */
} PfaWriteResult;
#define PFA_NWRITE_RESULTS (PFA_WRITE_RETRIED + 1)

extern void
pfa_metrics_write_back(const char *organization, PfaWriteResult result);

/* ---- calls of the SQL API ---- */

/* In the order of pfa_endpoint_names in calls.c. */
typedef enum PfaEndpoint
{
	PFA_ENDPOINT_ADD_ORGANIZATION,
	PFA_ENDPOINT_REMOVE_ORGANIZATION,
	PFA_ENDPOINT_PAUSE_ORGANIZATION,
	PFA_ENDPOINT_RESUME_ORGANIZATION,
	PFA_ENDPOINT_TEST_SOURCE,
	PFA_ENDPOINT_SYNC_NOW,
	PFA_ENDPOINT_SYNC_WAIT,
	PFA_ENDPOINT_SYNC_CANCEL,
	PFA_ENDPOINT_SYNC,
	PFA_ENDPOINT_GET,
	PFA_ENDPOINT_RECORD,
	PFA_ENDPOINT_DRAFT,
	PFA_ENDPOINT_COMMIT,
	PFA_ENDPOINT_DISCARD,
	PFA_ENDPOINT_RESOLVE_CONFLICT,
	PFA_ENDPOINT_PERMISSIONS,
	PFA_ENDPOINT_ORGANIZATION_CONFIG,
	PFA_ENDPOINT_STATS,
	PFA_ENDPOINT_KPI_STATS,
	PFA_ENDPOINT_TIMELINE_BOUNDS,
	PFA_ENDPOINT_KPI_VERIFY,
	PFA_ENDPOINT_REFRESH_MV,
	PFA_ENDPOINT_INDEX_ADVICE,
	PFA_ENDPOINT_EXPLAIN,
	PFA_ENDPOINT_CACHE_GET,
	PFA_ENDPOINT_CACHE_SET,
	PFA_ENDPOINT_CACHE_INVALIDATE,
	PFA_ENDPOINT_PREWARM
} PfaEndpoint;
#define PFA_NENDPOINTS (PFA_ENDPOINT_PREWARM + 1)

/*
 * Call body and count it: a request, its latency, an error if it raises one,
 * and the size of what it returns if that is a varlena value.  Calls within a
 * counted call are part of it and not counted.
 */
extern Datum pfa_metrics_call(PfaEndpoint endpoint, PGFunction body,
							  FunctionCallInfo fcinfo);

/*
 * Define an SQL-callable function that is counted:
 *
 *		PFA_API_FUNCTION(pfa_get, PFA_ENDPOINT_GET)
 *		{
 *			... PG_RETURN_...
 *		}
 */
#define PFA_API_FUNCTION(name, endpoint) \
	PG_FUNCTION_INFO_V1(name); \
	static Datum name##_body(PG_FUNCTION_ARGS); \
	Datum name(PG_FUNCTION_ARGS) \
	{ \
		return pfa_metrics_call((endpoint), name##_body, fcinfo); \
	} \
	static Datum name##_body(PG_FUNCTION_ARGS)

/* Size of the present call's result, where that is a set of rows. */
extern void pfa_metrics_response_size(Size bytes);

/* ---- cache ---- */

typedef enum PfaKeyspace
{
	PFA_KEYSPACE_DATA,        /* pfa:{org}:data... */
	PFA_KEYSPACE_STATS,       /* pfa:{org}:stats */
	PFA_KEYSPACE_CONFIG,      /* org:{org}:config */
	PFA_KEYSPACE_PERMISSIONS, /* user:{user}:perms */
	PFA_KEYSPACE_AI,          /* ai:query:{hash} */
	PFA_KEYSPACE_OTHER        /* the user's own keys */
} PfaKeyspace;
#define PFA_NKEYSPACES (PFA_KEYSPACE_OTHER + 1)

typedef enum PfaCacheOperation
{
	PFA_CACHE_GET,
	PFA_CACHE_SET,
	PFA_CACHE_INVALIDATE
} PfaCacheOperation;
#define PFA_NCACHE_OPERATIONS (PFA_CACHE_INVALIDATE + 1)

extern void pfa_metrics_cache_lookup(PfaKeyspace keyspace, bool hit);
extern void pfa_metrics_cache_evicted(PfaKeyspace keyspace, uint64 entries);
extern void
pfa_metrics_cache_operation(PfaCacheOperation operation, uint64 nsecs);
/* Whether the cache answers, and how much it holds. */
extern void pfa_metrics_cache_state(bool up, uint64 size_bytes);

/* ---- materialized views ---- */

typedef enum PfaView
{
	PFA_VIEW_KPI_STATS,
	PFA_VIEW_TIMELINE_BOUNDS
} PfaView;
#define PFA_NVIEWS (PFA_VIEW_TIMELINE_BOUNDS + 1)

extern void pfa_metrics_view_refreshed(PfaView view, TimestampTz at);

/* ---- processes and events ---- */

typedef enum PfaProcess
{
	PFA_PROCESS_LAUNCHER,
	PFA_PROCESS_SCHEDULER,
	PFA_PROCESS_SYNC
} PfaProcess;
#define PFA_NPROCESSES (PFA_PROCESS_SYNC + 1)

/* database InvalidOid: the launcher, which all databases share. */
extern void pfa_metrics_process_started(PfaProcess process, Oid database);
extern void pfa_metrics_process_restarted(PfaProcess process, Oid database);
extern void
pfa_metrics_process_failed(PfaProcess process, Oid database, const char *error);

typedef enum PfaEventLevel
{
	PFA_LEVEL_DEBUG,
	PFA_LEVEL_INFO,
	PFA_LEVEL_WARNING,
	PFA_LEVEL_ERROR
} PfaEventLevel;
#define PFA_NLEVELS (PFA_LEVEL_ERROR + 1)

extern void pfa_metrics_event(PfaEventLevel level);

/* A database is gone: its numbers too. */
extern void pfa_metrics_forget_database(Oid database);

/* ---- for shmem.c and pfa_vanguard.c ---- */
extern Size pfa_metrics_shmem_size(void);
extern void pfa_metrics_shmem_request(void);
extern void pfa_metrics_shmem_startup(void);
extern void pfa_metrics_executor_install(void);

#endif /* PFA_COUNTERS_H */
