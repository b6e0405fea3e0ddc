/*
 * snapshot.h
 *	  Copies of what is counted, for those who show or judge it.
 *
 * Nothing here waits for anybody who works on a table, and nothing reads one.
 */
#ifndef PFA_SNAPSHOT_H
#define PFA_SNAPSHOT_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "metrics/counters.h"
#include "metrics/gauges.h"
#include "metrics/histogram.h"

typedef struct PfaOrganizationSnapshot
{
	char organization_id[PFA_METRICS_LABEL_LEN];
	uint64 finished[PFA_NMODES][PFA_NSYNC_RESULTS];
	uint64 busy_us[PFA_NMODES];
	uint64 errors[PFA_NERROR_KINDS];
	uint64 rows[PFA_NROW_KINDS];
	uint64 writes[PFA_NWRITE_RESULTS];
	uint64 api_calls;
	uint64 retries;
	double records_per_second;   /* of the run under way, else the last */
	TimestampTz last_success_at; /* 0: never */
	TimestampTz waiting_since;   /* last success, or what it is waited from */
	TimestampTz next_sync_at;
	int64 interval_us;
	int64 failures; /* in a row */
	bool idle;      /* paused, or in a copied database */
	int running;    /* syncs under way */
	int64 rejected;
	int64 write_back_pending;
	int64 conflicts_open;
} PfaOrganizationSnapshot;

/*
 * This database's organizations, palloc'd, ordered by name, each once; "other"
 * among them where some found no entry.  Returns how many.
 */
extern int pfa_metrics_snapshot(PfaOrganizationSnapshot **organizations);

/*
 * From when the next success of a sync is waited for: the last one, the
 * addition of the organization, the start of the server.
 */
extern TimestampTz
pfa_metrics_waiting_since(TimestampTz last_success_at, TimestampTz added_at);

/* Statements of this database; returns how many were slow. */
extern uint64 pfa_metrics_statements(PfaHistogramValues *duration);

/* Calls under way in this database, by endpoint. */
extern void pfa_metrics_in_flight(int counts[PFA_NENDPOINTS]);

/* Totals of calls since the server's start; wait: those made to wait too. */
typedef struct PfaCallTotals
{
	uint64 succeeded;
	uint64 failed;
	PfaHistogramValues duration;
} PfaCallTotals;

extern void pfa_metrics_calls(PfaCallTotals *totals, bool wait);

typedef struct PfaCacheTotals
{
	int state; /* 0: no cache so far; 1 down, 2 up */
	uint64 hits;
	uint64 misses;
} PfaCacheTotals;

extern void pfa_metrics_cache_totals(PfaCacheTotals *totals);

typedef struct PfaProcessSnapshot
{
	int pid;                /* 0: not running; sync: the first of several */
	TimestampTz started_at; /* 0: never */
	uint64 restarts;
	TimestampTz failed_at; /* 0: never */
	char error[PFA_PROCESS_ERROR_LEN];
} PfaProcessSnapshot;

/* False without shared memory. */
extern bool
pfa_metrics_process(PfaProcess process, PfaProcessSnapshot *snapshot);

extern int pfa_metrics_organizations_used(void); /* in the whole cluster */
extern TimestampTz pfa_metrics_started_at(void); /* 0: no shared memory */
extern TimestampTz pfa_metrics_facts_at(void);   /* 0: no scheduler so far */
extern uint64 pfa_metrics_events_dropped(void);

#endif /* PFA_SNAPSHOT_H */
