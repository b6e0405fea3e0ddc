/*
 * refresh.c
 *	  Refreshing mv_pfa_kpi_stats and mv_pfa_timeline_bounds.
 *
 * One process at a time refreshes a view: it holds a lock of ours on the view,
 * which everybody else tries and nobody waits for.  What comes while a refresh
 * runs is in pfa_mv_change and is refreshed by the next one, so requests never
 * pile up and none is lost.
 *
 * REFRESH itself switches to the view's owner in a security-restricted
 * operation, whoever calls.
 *
 * Views are refreshed when a sync that changed something, or a user, asks for
 * it, and else when anything has changed for pfa_vanguard.view_refresh_interval.
 * Between two refreshes lie at least some seconds, more while syncs run, and
 * several times what a refresh takes, so that many small syncs do not keep a
 * processor busy with it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "activity.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "guc.h"
#include "kpi/refresh.h"
#include "registry.h"

#define MIN_GAP_MS      2000
#define SYNCING_GAP_MS  30000
#define SYNCING_LOOK_MS 1000
#define GAP_FACTOR      4
#define RETRY_MS        10000
#define MAX_DOUBLINGS   5

/*
 * A view that another session has locked is worth a short wait only: the
 * scheduler has other work, and comes back.
 */
#define LOCK_TIMEOUT "500ms"

static const char *const refresh_text[PFA_NMVS][2] =
	{[PFA_MV_KPI_STATS] =
		 {"REFRESH MATERIALIZED VIEW @.@.mv_pfa_kpi_stats",
		  "REFRESH MATERIALIZED VIEW CONCURRENTLY @.@.mv_pfa_kpi_stats"},
	 [PFA_MV_TIMELINE_BOUNDS] =
		 {"REFRESH MATERIALIZED VIEW @.@.mv_pfa_timeline_bounds",
		  "REFRESH MATERIALIZED VIEW CONCURRENTLY @.@.mv_pfa_timeline_bounds"}};

static const char *const index_text[PFA_NMVS] =
	{[PFA_MV_KPI_STATS] =
		 "CREATE UNIQUE INDEX ON @.@.mv_pfa_kpi_stats "
		 "(organization_id, category, source) NULLS NOT DISTINCT",
	 [PFA_MV_TIMELINE_BOUNDS] =
		 "CREATE UNIQUE INDEX ON @.@.mv_pfa_timeline_bounds (organization_id)"};

static const char *const count_text[PFA_NMVS] =
	{[PFA_MV_KPI_STATS] =
		 "SELECT pg_catalog.count(*) FROM @.@.mv_pfa_kpi_stats",
	 [PFA_MV_TIMELINE_BOUNDS] =
		 "SELECT pg_catalog.count(*) FROM @.@.mv_pfa_timeline_bounds"};

/* What the scheduler remembers of its attempts. */
static struct
{
	TimestampTz ended_at; /* of the last refresh */
	int64 took_us;
	int failures; /* in a row */
	TimestampTz failed_at;
} state;

/* ---- a view ---- */

static bool
try_lock(Oid view)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, view, 0);
	return LockAcquire(&tag, ExclusiveLock, false, true) !=
		LOCKACQUIRE_NOT_AVAIL;
}

/* An index as REFRESH ... CONCURRENTLY wants it. */
static bool
is_usable(Oid oid)
{
	Relation index = index_open(oid, AccessShareLock);
	Form_pg_index form = index->rd_index;
	bool usable;

	usable = form->indisunique && form->indimmediate && form->indisvalid &&
		index->rd_rel->relam == BTREE_AM_OID &&
		RelationGetIndexPredicate(index) == NIL &&
		RelationGetIndexExpressions(index) == NIL;
	index_close(index, AccessShareLock);
	return usable;
}

static bool
has_usable_index(Relation view)
{
	List *indexes = RelationGetIndexList(view);
	ListCell *cell;

	foreach(cell, indexes)
	{
		if (is_usable(lfirst_oid(cell)))
			return true;
	}
	return false;
}

static void
look_at_view(Oid oid, bool *populated, bool *usable)
{
	Relation view = table_open(oid, AccessShareLock);

	*populated = RelationIsPopulated(view);
	*usable = has_usable_index(view);
	table_close(view, NoLock);
}

static void
run(const char *text)
{
	(void) pfa_spi_run(text, 0, NULL, NULL, NULL);
	CommandCounterIncrement();
}

static int64
count_rows(PfaMv view)
{
	int64 rows;

	(void) pfa_spi_execute(count_text[view], 0, NULL, NULL, NULL, false);
	rows = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	return rows;
}

/* Notes are deleted before the view reads the mirror: what comes in between
 * is in the view, and its note makes one refresh more. */
static void
forget_changes(PfaMv view)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	pfa_mv_consume(pfa_extension_schema(), view, GetActiveSnapshot());
	PopActiveSnapshot();
}

static bool
has_changed(PfaMv view)
{
	PfaMvChanges changes;

	PushActiveSnapshot(GetTransactionSnapshot());
	pfa_mv_changes(pfa_extension_schema(), GetActiveSnapshot(), &changes);
	PopActiveSnapshot();
	return changes.changed[view];
}

void
pfa_mv_refresh(PfaMv view, PfaRefreshResult *result)
{
	Oid oid = pfa_extension_relation(pfa_mv_name(view));
	TimestampTz start = GetCurrentTimestamp();
	PfaMvState view_state;
	bool populated;
	bool usable;

	memset(result, 0, sizeof(*result));
	look_at_view(oid, &populated, &usable);
	if (populated && !has_changed(view))
	{
		result->rows = count_rows(view);
		return;
	}
	if (!try_lock(oid))
	{
		result->busy = true;
		result->rows = populated ? count_rows(view) : -1;
		return;
	}
	/* Whoever had the lock has done it, perhaps. */
	if (populated && !has_changed(view))
	{
		result->rows = count_rows(view);
		return;
	}
	forget_changes(view);
	if (populated && !usable)
		run(index_text[view]);
	run(refresh_text[view][populated]);
	if (!populated && !usable)
		run(index_text[view]);

	result->refreshed = true;
	result->rows = count_rows(view);
	result->duration_us = GetCurrentTimestamp() - start;
	view_state.refreshed_at = start;
	view_state.duration_us = result->duration_us;
	view_state.rows = result->rows;
	pfa_mv_state_write(view, &view_state);
}

/* ---- the scheduler's part ---- */

static void
begin(void)
{
	pfa_activity_begin();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	/* Nobody is to wait for a standby that is not there. */
	(void) set_config_option("synchronous_commit", "local", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
commit(void)
{
	CommitTransactionCommand();
	pfa_activity_end();
}

/* Milliseconds until a time, 0 if it is past. */
static long
until(TimestampTz now, TimestampTz time)
{
	return time <= now ? 0 : TimestampDifferenceMilliseconds(now, time) + 1;
}

static bool
is_syncing(void)
{
	return pfa_registry_available() &&
		pfa_worker_count(PFA_WORKER_SYNC, MyDatabaseId) > 0;
}

/*
 * Not sooner than this after what was tried last.  While syncs run, the next
 * request is not far, and one refresh may do for several.
 */
static TimestampTz
earliest(void)
{
	TimestampTz time = 0;
	int64 gap_ms = is_syncing() ? SYNCING_GAP_MS : MIN_GAP_MS;

	if (state.ended_at != 0)
		time = state.ended_at + Max(gap_ms * 1000, GAP_FACTOR * state.took_us);
	if (state.failures > 0)
		time = Max(time,
				   state.failed_at +
					   ((int64) RETRY_MS * 1000
						<< Min(state.failures - 1, MAX_DOUBLINGS)));
	return time;
}

/* When a view is due that has changed: the last refresh and the interval. */
static TimestampTz
due_at(const PfaMvChanges *changes)
{
	TimestampTz due = DT_NOEND;

	for (int i = 0; i < PFA_NMVS; i++)
	{
		PfaMvState view_state;
		TimestampTz time;

		if (!changes->changed[i])
			continue;
		pfa_mv_state_read(i, &view_state);
		time = changes->requested || view_state.refreshed_at == 0 ?
			0 :
			view_state.refreshed_at +
				(int64) pfa_guc_view_refresh_interval * USECS_PER_SEC;
		due = Min(due, time);
	}
	return due;
}

/* Milliseconds to wait; 0: refresh now; -1: nothing has changed. */
static long
look(void)
{
	PfaMvChanges changes;
	TimestampTz due = DT_NOEND;
	long wait;

	if (pfa_guc_view_refresh_interval == 0)
		return -1;
	begin();
	if (OidIsValid(pfa_extension_oid(true)))
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pfa_mv_changes(pfa_extension_schema(), GetActiveSnapshot(), &changes);
		PopActiveSnapshot();
		due = due_at(&changes);
	}
	commit();
	if (due == DT_NOEND)
		return -1;
	wait = until(GetCurrentTimestamp(), Max(due, earliest()));
	/* Nobody tells when the last sync has ended. */
	return is_syncing() ? Min(wait, SYNCING_LOOK_MS) : wait;
}

/*
 * Each view in a transaction of its own, so that no lock is held longer than
 * its refresh takes.
 */
static void
refresh_all(void)
{
	for (int i = 0; i < PFA_NMVS; i++)
	{
		PfaRefreshResult result;

		begin();
		if (OidIsValid(pfa_extension_oid(true)))
		{
			(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
									 false);
			pfa_mv_refresh(i, &result);
		}
		commit();
	}
}

/* A failure is told when it begins and when it has ended, not each time. */
static void
report(const ErrorData *edata)
{
	begin();
	if (OidIsValid(pfa_extension_oid(true)))
	{
		if (edata != NULL)
			pfa_event_write(
				ERROR, "kpi", NULL, 0, "refresh_failed",
				psprintf("could not refresh the materialized views: %s",
						 edata->message),
				NULL);
		else
			pfa_event_write(INFO, "kpi", NULL, 0, "refresh_recovered",
							"the materialized views are refreshed again", NULL);
	}
	commit();
}

static bool
try_refresh(void)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *volatile edata = NULL;

	PG_TRY();
	{
		refresh_all();
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_ADMIN_SHUTDOWN)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		pfa_activity_end();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (edata != NULL && state.failures == 0)
		report(edata);
	else if (edata == NULL && state.failures > 0)
		report(NULL);
	MemoryContextSwitchTo(caller);
	return edata == NULL;
}

long
pfa_mv_refresh_due(void)
{
	MemoryContext caller = CurrentMemoryContext;
	long wait = look();
	TimestampTz start = GetCurrentTimestamp();

	MemoryContextSwitchTo(caller);
	if (wait != 0)
		return wait;
	if (try_refresh())
		state.failures = 0;
	else
	{
		state.failures++;
		state.failed_at = GetCurrentTimestamp();
	}
	state.ended_at = GetCurrentTimestamp();
	state.took_us = state.ended_at - start;
	return until(state.ended_at, earliest());
}
