/*
 * mv_change.c
 *	  The tables pfa_mv_change and pfa_mv_refresh.
 *
 * Notes of changes are written with every statement that writes the mirror, so
 * that goes past the executor.  Rows that somebody else is about to delete are
 * left to him: the worst that comes of it is a refresh that changes nothing.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/mv_change.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "registry.h"

/* So many notes are one too many to be read at each turn. */
#define COLLAPSE_ROWS 100

/* Columns: one a view, then this. */
#define ATTR_REQUESTED PFA_NMVS
#define NATTRS         (PFA_NMVS + 1)

static const char *const view_names[PFA_NMVS] =
	{[PFA_MV_KPI_STATS] = "mv_pfa_kpi_stats",
	 [PFA_MV_TIMELINE_BOUNDS] = "mv_pfa_timeline_bounds"};

/*
 * The subtransaction that has noted a change: further statements of it need
 * not.  Ids of transactions with epoch do not come again.
 */
static struct
{
	FullTransactionId xid;
	SubTransactionId subid;
} noted;

const char *
pfa_mv_name(PfaMv view)
{
	return view_names[view];
}

static Relation
open_changes(Oid schema, LOCKMODE lock)
{
	Oid relid = get_relname_relid("pfa_mv_change", schema);

	return OidIsValid(relid) ? table_open(relid, lock) : NULL;
}

static void
insert_note(Relation rel, const bool *note)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	ExecClearTuple(slot);
	for (int i = 0; i < NATTRS; i++)
	{
		slot->tts_values[i] = BoolGetDatum(note[i]);
		slot->tts_isnull[i] = false;
	}
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	ExecDropSingleTupleTableSlot(slot);
}

void
pfa_mv_mark_changed(Oid schema)
{
	static const bool note[NATTRS] = {true, true, false};
	FullTransactionId xid = GetTopFullTransactionId();
	SubTransactionId subid = GetCurrentSubTransactionId();
	Relation rel;

	if (FullTransactionIdEquals(noted.xid, xid) &&
		(noted.subid == subid || noted.subid == TopSubTransactionId))
		return;
	rel = open_changes(schema, RowExclusiveLock);
	if (rel == NULL)
		return;
	insert_note(rel, note);
	table_close(rel, NoLock);
	noted.xid = xid;
	noted.subid = subid;
}

void
pfa_mv_request_refresh(void)
{
	static const bool note[NATTRS] = {false, false, true};
	Relation rel = open_changes(pfa_extension_schema(), RowExclusiveLock);

	if (rel == NULL)
		return;
	insert_note(rel, note);
	table_close(rel, NoLock);
	pfa_wake_scheduler_at_commit();
}

/* ---- reading and taking away ---- */

typedef void (*NoteFunction)(Relation rel, TupleTableSlot *slot,
							 Snapshot snapshot, void *arg);

static void
for_each_note(Relation rel, Snapshot snapshot, NoteFunction function, void *arg)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		slot_getallattrs(slot);
		function(rel, slot, snapshot, arg);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

static void
look_at_note(Relation rel, TupleTableSlot *slot, Snapshot snapshot, void *arg)
{
	PfaMvChanges *changes = arg;

	for (int i = 0; i < PFA_NMVS; i++)
		changes->changed[i] |= DatumGetBool(slot->tts_values[i]);
	changes->requested |= DatumGetBool(slot->tts_values[ATTR_REQUESTED]);
	changes->nrows++;
}

void
pfa_mv_changes(Oid schema, Snapshot snapshot, PfaMvChanges *changes)
{
	Relation rel = open_changes(schema, AccessShareLock);

	memset(changes, 0, sizeof(*changes));
	if (rel == NULL)
		return;
	for_each_note(rel, snapshot, look_at_note, changes);
	table_close(rel, NoLock);
}

/* Delete the note; what it says is added to the one that may follow. */
static void
take_note(Relation rel, TupleTableSlot *slot, Snapshot snapshot, void *arg)
{
	bool *note = arg;
	TM_FailureData failure;

	if (table_tuple_delete(rel, &slot->tts_tid, GetCurrentCommandId(true),
						   snapshot, InvalidSnapshot, false, &failure,
						   false) != TM_Ok)
		return;
	for (int i = 0; i < NATTRS; i++)
		note[i] |= DatumGetBool(slot->tts_values[i]);
}

static void
take_notes(Oid schema, Snapshot snapshot, PfaMv refreshed)
{
	bool note[NATTRS] = {false};
	bool left = false;
	Relation rel = open_changes(schema, RowExclusiveLock);

	if (rel == NULL)
		return;
	for_each_note(rel, snapshot, take_note, note);
	if (refreshed < PFA_NMVS)
		note[refreshed] = false;
	for (int i = 0; i < PFA_NMVS; i++)
		left |= note[i];
	/* A request is met when all that has changed is refreshed. */
	if (left)
		insert_note(rel, note);
	table_close(rel, NoLock);
	/* The note of this transaction may be among them. */
	memset(&noted, 0, sizeof(noted));
}

void
pfa_mv_consume(Oid schema, PfaMv view, Snapshot snapshot)
{
	take_notes(schema, snapshot, view);
}

void
pfa_mv_collapse(Oid schema, Snapshot snapshot)
{
	PfaMvChanges changes;

	pfa_mv_changes(schema, snapshot, &changes);
	if (changes.nrows > COLLAPSE_ROWS ||
		(changes.nrows > 0 && !changes.changed[PFA_MV_KPI_STATS] &&
		 !changes.changed[PFA_MV_TIMELINE_BOUNDS]))
		take_notes(schema, snapshot, PFA_NMVS);
}

/* ---- pfa_mv_refresh ---- */

void
pfa_mv_state_read(PfaMv view, PfaMvState *state)
{
	Oid argtypes[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(view_names[view])};

	memset(state, 0, sizeof(*state));
	if (pfa_spi_execute("SELECT refreshed_at, duration_us, rows "
						"FROM @.@.pfa_mv_refresh WHERE view_name = $1",
						1, argtypes, values, NULL, true) > 0)
	{
		state->refreshed_at = pfa_spi_get_time(0, 1);
		state->duration_us = pfa_spi_get_int64(0, 2);
		state->rows = pfa_spi_get_int64(0, 3);
	}
	pfa_spi_finish();
}

void
pfa_mv_state_write(PfaMv view, const PfaMvState *state)
{
	Oid argtypes[4] = {TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID};
	Datum values[4];

	values[0] = CStringGetTextDatum(view_names[view]);
	values[1] = TimestampTzGetDatum(state->refreshed_at);
	values[2] = Int64GetDatum(state->duration_us);
	values[3] = Int64GetDatum(state->rows);
	(void) pfa_spi_run("INSERT INTO @.@.pfa_mv_refresh "
					   "(view_name, refreshed_at, duration_us, rows) "
					   "VALUES ($1, $2, $3, $4) "
					   "ON CONFLICT (view_name) DO UPDATE SET "
					   "refreshed_at = excluded.refreshed_at, "
					   "duration_us = excluded.duration_us, "
					   "rows = excluded.rows",
					   4, argtypes, values, NULL);
}
