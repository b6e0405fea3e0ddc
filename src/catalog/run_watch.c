/*
 * run_watch.c
 *	  How runs stand at this moment, for those who wait for them.
 *
 * Who waits in a function has a snapshot from before the wait, and in
 * REPEATABLE READ will never get another.  So each look takes a snapshot of its
 * own and reads the table itself.  The table's lock is given back at once and
 * not kept until the end of the transaction, as a query's would be: DROP
 * EXTENSION would wait for it, the workers for DROP EXTENSION, and the waiting
 * session for the workers.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/sync_request.h"

typedef struct Watch
{
	Relation rel;
	Snapshot snapshot;
	SysScanDesc scan;
} Watch;

static void
begin_look(Watch *watch, const char *index, int nkeys, ScanKey keys)
{
	/* Waits while the extension is being dropped, and then finds it gone. */
	watch->rel = try_table_open(pfa_extension_relation("pfa_sync_run"),
								AccessShareLock);
	if (watch->rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"pfa_vanguard\" has been dropped")));
	watch->snapshot = RegisterSnapshot(GetLatestSnapshot());
	watch->scan = systable_beginscan(watch->rel, pfa_extension_relation(index),
									 true, watch->snapshot, nkeys, keys);
}

static void
end_look(Watch *watch)
{
	systable_endscan(watch->scan);
	UnregisterSnapshot(watch->snapshot);
	table_close(watch->rel, AccessShareLock);
}

static AttrNumber
column(const Watch *watch, const char *name)
{
	return get_attnum(RelationGetRelid(watch->rel), name);
}

static Datum
get(const Watch *watch, HeapTuple tuple, const char *name, bool *isnull)
{
	return heap_getattr(tuple, column(watch, name),
						RelationGetDescr(watch->rel), isnull);
}

static void
fill_look(const Watch *watch, HeapTuple tuple, PfaRunLook *look)
{
	char *status;
	Datum value;
	bool isnull;

	memset(look, 0, sizeof(PfaRunLook));
	status = TextDatumGetCString(get(watch, tuple, "status", &isnull));
	look->status = pfa_run_status_of_name(status);
	pfree(status);
	look->own = TransactionIdIsCurrentTransactionId(
		HeapTupleHeaderGetXmin(tuple->t_data));
	value = get(watch, tuple, "worker_pid", &isnull);
	look->worker_pid = isnull ? 0 : DatumGetInt32(value);
	value = get(watch, tuple, "worker_started_at", &isnull);
	look->worker_started_at = isnull ? 0 : DatumGetTimestampTz(value);
}

bool
pfa_run_look(int64 run_id, PfaRunLook *look)
{
	Watch watch;
	ScanKeyData key[1];
	HeapTuple tuple;
	bool found;

	/* run_id is the first column, and part of the primary key for good. */
	ScanKeyInit(&key[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(run_id));
	begin_look(&watch, "pfa_sync_run_pkey", 1, key);
	tuple = systable_getnext(watch.scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		fill_look(&watch, tuple, look);
	end_look(&watch);
	return found;
}

int64 *
pfa_run_unfinished(int *nruns)
{
	Watch watch;
	HeapTuple tuple;
	int size = 64;
	int64 *ids = palloc(size * sizeof(int64));
	int n = 0;

	begin_look(&watch, "pfa_sync_run_unfinished", 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(watch.scan)))
	{
		bool isnull;

		if (n == size)
		{
			size *= 2;
			ids = repalloc(ids, size * sizeof(int64));
		}
		ids[n++] = DatumGetInt64(get(&watch, tuple, "run_id", &isnull));
	}
	end_look(&watch);
	*nruns = n;
	return ids;
}
