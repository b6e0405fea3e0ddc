/*
 * metrics_private.h
 *	  Layout of the counters, for the files of metrics/ only.
 *
 * A block a database, an entry an organization, a word a backend.  Blocks and
 * entries are claimed under the LWLock and found without it: a key is written
 * last when an entry is made and first when it is freed, and a freed entry is
 * not used again for a minute, which no counting process spends between
 * finding it and adding to it.
 */
#ifndef PFA_METRICS_PRIVATE_H
#define PFA_METRICS_PRIVATE_H

#include "postgres.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "metrics/alerts.h"
#include "metrics/counters.h"
#include "metrics/gauges.h"
#include "metrics/histogram.h"

/* Databases beyond these are not counted. */
#define PFA_METRICS_DATABASES 64
/* Label of the organizations that found no entry. */
#define PFA_OTHER "other"
/* Statements are counted by this many groups of backends. */
#define PFA_STATEMENT_SHARDS 16

typedef union PfaStatementShard
{
	struct
	{
		PfaHistogram duration;
		pg_atomic_uint64 slow;
	} s;
	char pad[PG_CACHE_LINE_SIZE];
} PfaStatementShard;

typedef struct PfaEndpointCounters
{
	pg_atomic_uint64 succeeded;
	pg_atomic_uint64 failed;
	PfaHistogram duration;
	PfaHistogram response;
} PfaEndpointCounters;

typedef struct PfaRelationEntry
{
	NameData name;
	pg_atomic_uint64 size; /* bytes */
	pg_atomic_uint64 rows;
	pg_atomic_uint64 index_hit; /* blocks */
	pg_atomic_uint64 index_read;
	pg_atomic_uint64 slow; /* statements that it is the first table of */
	pg_atomic_uint64 slow_ns;
} PfaRelationEntry;

typedef struct PfaProcessEntry
{
	pg_atomic_uint64 started_at; /* TimestampTz; 0: never */
	pg_atomic_uint64 restarts;
	pg_atomic_uint64 failed_at;        /* TimestampTz; 0: never */
	char error[PFA_PROCESS_ERROR_LEN]; /* guarded by the LWLock */
} PfaProcessEntry;

/* What is counted by organization. */
typedef struct PfaOrganizationCounters
{
	pg_atomic_uint64 finished[PFA_NMODES][PFA_NSYNC_RESULTS];
	pg_atomic_uint64 busy_us[PFA_NMODES];
	pg_atomic_uint64 errors[PFA_NERROR_KINDS];
	pg_atomic_uint64 rows[PFA_NROW_KINDS];
	pg_atomic_uint64 api_calls;
	pg_atomic_uint64 retries;
	pg_atomic_uint64 writes[PFA_NWRITE_RESULTS];
	/* gauges */
	pg_atomic_uint64 rate_milli;      /* records a second of the last run */
	pg_atomic_uint64 last_success_at; /* TimestampTz; 0: never */
	pg_atomic_uint64 added_at;
	pg_atomic_uint64 next_sync_at;
	pg_atomic_uint64 interval_us;
	pg_atomic_uint64 failures; /* in a row */
	pg_atomic_uint64 idle;     /* paused, or a copy */
	pg_atomic_uint64 rejected; /* records, as they stand */
	pg_atomic_uint64 write_back_pending;
	pg_atomic_uint64 conflicts_open;
} PfaOrganizationCounters;

typedef struct PfaOrganizationKey
{
	pg_atomic_uint32 database; /* Oid; InvalidOid: not in use */
	uint32 hash;
} PfaOrganizationKey;

typedef struct PfaOrganizationEntry
{
	char organization_id[PFA_METRICS_LABEL_LEN];
	TimestampTz freed_at;
	uint64 round; /* of the facts that last named it */
	PfaOrganizationCounters counters;
} PfaOrganizationEntry;

typedef struct PfaDatabaseBlock
{
	pg_atomic_uint32 database; /* Oid; InvalidOid: not in use */
	PfaStatementShard statements[PFA_STATEMENT_SHARDS];
	PfaEndpointCounters endpoints[PFA_NENDPOINTS];
	PfaHistogram sync_duration[PFA_NMODES];
	PfaHistogram sync_records[PFA_NMODES];
	pg_atomic_uint64 cache_hits[PFA_NKEYSPACES];
	pg_atomic_uint64 cache_misses[PFA_NKEYSPACES];
	pg_atomic_uint64 cache_evictions[PFA_NKEYSPACES];
	PfaHistogram cache_duration[PFA_NCACHE_OPERATIONS];
	pg_atomic_uint64 cache_state; /* 0: no cache so far; 1 down, 2 up */
	pg_atomic_uint64 cache_size;
	pg_atomic_uint64 view_refreshed_at[PFA_NVIEWS];
	pg_atomic_uint64 events[PFA_NLEVELS];
	pg_atomic_uint64 events_dropped;
	PfaProcessEntry processes[PFA_NPROCESSES];
	pg_atomic_uint64 facts_at; /* TimestampTz of the last look at tables */
	uint64 round;
	PfaOrganizationCounters other;

	/*
	 * Our tables: their OIDs close together, as each statement looks through
	 * them.  noids is written last.
	 */
	pg_atomic_uint32 noids;
	pg_atomic_uint32 oids[PFA_METRICS_RELATIONS];
	PfaRelationEntry relations[PFA_METRICS_RELATIONS];

	PfaAlertEntry alerts[PFA_METRICS_ALERTS]; /* guarded by the LWLock */
} PfaDatabaseBlock;

typedef struct PfaMetricsShared
{
	TimestampTz started_at;
	PfaProcessEntry launcher;
	int max_organizations;
	PfaDatabaseBlock databases[PFA_METRICS_DATABASES];
} PfaMetricsShared;

/* One a backend: (database << 32) | (endpoint + 1) while a call is in flight. */
typedef pg_atomic_uint64 PfaBackendWord;

typedef struct PfaMetrics
{
	PfaMetricsShared *shared; /* NULL: not preloaded */
	PfaOrganizationKey *keys; /* max_organizations of each */
	PfaOrganizationEntry *organizations;
	PfaBackendWord *backends;
	int nbackends;
	LWLock *lock;
	PfaDatabaseBlock *mine; /* of this process's database, or NULL */
	bool none_free;         /* there was none to be had */
} PfaMetrics;

extern PfaMetrics pfa_metrics;

/* This database's block, made if need be; NULL without shared memory. */
extern PfaDatabaseBlock *pfa_metrics_block(void);
/* The same, but NULL where nothing was counted yet. */
extern PfaDatabaseBlock *pfa_metrics_find_block(Oid database);
/* Index of this process among backends, -1 where it is none. */
extern int pfa_metrics_backend(void);
/* The organization's counters in this database, made if need be, or "other". */
extern PfaOrganizationEntry *
pfa_metrics_organization_entry(const char *organization, bool make);

extern const char *const pfa_endpoint_names[PFA_NENDPOINTS];

#endif /* PFA_METRICS_PRIVATE_H */
