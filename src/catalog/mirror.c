/*
 * mirror.c
 *	  Rows of pfa_mirror, read and written past the executor.
 *
 * What COPY does for a load, done for syncs: tuples are formed in slots,
 * inserted by table_multi_insert with a bulk-insert state, and indexed one by
 * one.  That is possible only while nobody has to hear of a row: with triggers,
 * rules, constraints or columns that a user has added, the direct_* flags are
 * off and mirror_sql.c writes through statements instead.  Our own triggers are
 * not in the way: rows come with their columns derived, and what they change in
 * the KPI is added up here and stored when the mirror is closed.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "catalog/kpi.h"
#include "catalog/mirror.h"
#include "catalog/pfa_catalog.h"
#include "catalog/read.h"
#include "compat.h"
#include "generation.h"

/* Triggers whose work is done here too. */
static const char *const own_triggers[] = {"pfa_mirror_derive",
										   "pfa_mirror_kpi_insert",
										   "pfa_mirror_kpi_update",
										   "pfa_mirror_kpi_delete",
										   "pfa_mirror_kpi_truncate",
										   "pfa_note_change",
										   "pfa_note_truncate"};

/* ---- opening ---- */

/* Whether the columns are ours and nothing but them. */
static bool
has_own_columns_only(Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);

	if (desc->natts != PFA_MIRROR_NATTS)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			return false;
	}
	return desc->constr == NULL ||
		(desc->constr->num_check == 0 && !desc->constr->has_generated_stored);
}

static bool
is_own_trigger(const Trigger *trigger)
{
	for (size_t i = 0; i < lengthof(own_triggers); i++)
	{
		if (strcmp(trigger->tgname, own_triggers[i]) == 0)
			return true;
	}
	return false;
}

static void
find_direct_ways(PfaMirror *mirror)
{
	Relation rel = mirror->rel;
	TriggerDesc *triggers = rel->trigdesc;
	bool plain;

	plain = rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rules == NULL &&
		!rel->rd_rel->relforcerowsecurity && has_own_columns_only(rel);
	mirror->direct_insert = plain;
	mirror->direct_update = plain;
	mirror->direct_delete = plain;
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgenabled == TRIGGER_DISABLED || is_own_trigger(trigger))
			continue;
		if (TRIGGER_FOR_INSERT(trigger->tgtype))
			mirror->direct_insert = false;
		if (TRIGGER_FOR_UPDATE(trigger->tgtype))
			mirror->direct_update = false;
		if (TRIGGER_FOR_DELETE(trigger->tgtype))
			mirror->direct_delete = false;
	}
}

static TupleDesc
copy_own_columns(Relation rel)
{
	TupleDesc desc = CreateTemplateTupleDesc(PFA_MIRROR_NATTS);

	for (int i = 1; i <= PFA_MIRROR_NATTS; i++)
		TupleDescCopyEntry(desc, i, RelationGetDescr(rel), i);
	return desc;
}

static void
find_primary_key(PfaMirror *mirror)
{
	list_free(RelationGetIndexList(mirror->rel));
	mirror->pk = mirror->rel->rd_pkindex;
	if (!OidIsValid(mirror->pk))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has no primary key",
						RelationGetRelationName(mirror->rel)),
				 errhint(
					 "Restore its primary key (organization_id, pfa_id).")));
}

void
pfa_mirror_open(PfaMirror *mirror, const char *organization_id)
{
	memset(mirror, 0, sizeof(*mirror));
	mirror->context = CurrentMemoryContext;
	mirror->organization_id = organization_id;
	mirror->organization = CStringGetTextDatum(organization_id);
	mirror->rel = table_open(pfa_extension_relation("pfa_mirror"),
							 RowExclusiveLock);
	find_primary_key(mirror);
	find_direct_ways(mirror);
	mirror->own_columns = copy_own_columns(mirror->rel);

	/* Functions of indexes and triggers run with the owner's rights, no more. */
	GetUserIdAndSecContext(&mirror->user, &mirror->security);
	SetUserIdAndSecContext(mirror->rel->rd_rel->relowner,
						   mirror->security | SECURITY_RESTRICTED_OPERATION);
	mirror->guc_level = NewGUCNestLevel();

	PushActiveSnapshot(GetTransactionSnapshot());
	mirror->snapshot = GetActiveSnapshot();
}

/* ---- what is written, for the KPI ---- */

static void
count_row(PfaMirror *mirror, const Datum *values, const bool *nulls, int sign)
{
	if (mirror->kpi == NULL)
	{
		MemoryContext caller;

		/* An older version of the extension's SQL has no KPI. */
		if (!pfa_kpi_exists(RelationGetNamespace(mirror->rel)))
			return;
		caller = MemoryContextSwitchTo(mirror->context);
		mirror->kpi = pfa_kpi_set_create();
		MemoryContextSwitchTo(caller);
	}
	pfa_kpi_record(mirror->kpi, values, nulls, sign);
}

/* The row at tid is about to go: take away what it counted for. */
static void
count_stored(PfaMirror *mirror, ItemPointer tid)
{
	TupleTableSlot *slot = mirror->stored;

	if (slot == NULL)
		slot = mirror->stored = table_slot_create(mirror->rel, NULL);
	if (!table_tuple_fetch_row_version(mirror->rel, tid, mirror->snapshot,
									   slot))
		elog(ERROR, "could not find a mirrored record that was just read");
	slot_getsomeattrs(slot, PFA_MIRROR_NATTS);
	count_row(mirror, slot->tts_values, slot->tts_isnull, -1);
	ExecClearTuple(slot);
}

static void
store_counts(PfaMirror *mirror)
{
	if (mirror->stored != NULL)
		ExecDropSingleTupleTableSlot(mirror->stored);
	if (mirror->kpi == NULL)
		return;
	pfa_kpi_store(RelationGetNamespace(mirror->rel), mirror->kpi);
	pfa_kpi_set_free(mirror->kpi);
	mirror->kpi = NULL;
}

void
pfa_mirror_close(PfaMirror *mirror)
{
	store_counts(mirror);
	if (mirror->info != NULL)
	{
		ExecCloseIndices(mirror->info);
		ExecResetTupleTable(mirror->estate->es_tupleTable, false);
		FreeExecutorState(mirror->estate);
	}
	PopActiveSnapshot();
	AtEOXact_GUC(false, mirror->guc_level);
	SetUserIdAndSecContext(mirror->user, mirror->security);
	table_close(mirror->rel, NoLock);
	CommandCounterIncrement();
}

/* As the trigger pfa_note_change does for statements. */
static void
note_change(PfaMirror *mirror)
{
	pfa_generation_note(PFA_SUBJECT_RECORDS, mirror->organization_id,
						strlen(mirror->organization_id), "", 0);
}

/* Open the indexes for writing; most pages without news never need them. */
static void
open_for_write(PfaMirror *mirror)
{
	if (mirror->info != NULL)
		return;
	mirror->estate = CreateExecutorState();
	mirror->estate->es_snapshot = mirror->snapshot;
	mirror->info = makeNode(ResultRelInfo);
	InitResultRelInfo(mirror->info, mirror->rel, 1, NULL, 0);
	ExecOpenIndices(mirror->info, false);
	mirror->cid = GetCurrentCommandId(true);
}

/* ---- reading ---- */

static Datum
text_datum(const char *ptr, int len)
{
	return PointerGetDatum(cstring_to_text_with_len(ptr, len));
}

static void
set_key(ScanKey key, AttrNumber column, StrategyNumber strategy,
		RegProcedure procedure, Datum argument)
{
	ScanKeyEntryInitialize(key, 0, column, strategy, InvalidOid,
						   C_COLLATION_OID, procedure, argument);
}

/* Does the index carry the content hash, as 10_tables.sql makes it? */
static bool
has_content_hash(Relation index)
{
	return index->rd_index->indnatts == PFA_MIRROR_KEY_NATTS &&
		index->rd_index->indkey.values[PFA_MIRROR_KEY_NATTS - 1] ==
		PFA_MIRROR_CONTENT_HASH;
}

void
pfa_mirror_scan_begin(PfaMirrorScan *scan, PfaMirror *mirror, const char *lower,
					  int lower_len, const char *upper, int upper_len)
{
	memset(scan, 0, sizeof(*scan));
	scan->mirror = mirror;
	scan->index = index_open(mirror->pk, AccessShareLock);
	scan->index_only = has_content_hash(scan->index);
	scan->vmbuffer = InvalidBuffer;
	scan->slot = table_slot_create(mirror->rel, NULL);

	/* The key of the lower bound comes last: seek replaces or adds it. */
	set_key(&scan->keys[scan->nkeys++], 1, BTEqualStrategyNumber, F_TEXTEQ,
			mirror->organization);
	if (upper != NULL)
		set_key(&scan->keys[scan->nkeys++], 2, BTLessEqualStrategyNumber,
				F_TEXT_LE, text_datum(upper, upper_len));
	set_key(&scan->keys[scan->nkeys++], 2, BTGreaterEqualStrategyNumber,
			F_TEXT_GE,
			text_datum(lower == NULL ? "" : lower,
					   lower == NULL ? 0 : lower_len));
	scan->scan = pfa_index_beginscan(mirror->rel, scan->index, mirror->snapshot,
									 scan->nkeys);
	scan->scan->xs_want_itup = scan->index_only;
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
	pfa_mirror_scan_next(scan);
}

static void
set_row(PfaMirrorScan *scan, Datum id, Datum content_hash)
{
	text *text_id = DatumGetTextPP(id);

	scan->row.id = VARDATA_ANY(text_id);
	scan->row.id_len = VARSIZE_ANY_EXHDR(text_id);
	scan->row.content_hash = DatumGetInt64(content_hash);
}

/* The next row, from the index alone where that is possible. */
static bool
next_entry(PfaMirrorScan *scan)
{
	IndexScanDesc desc = scan->scan;

	while (index_getnext_tid(desc, ForwardScanDirection) != NULL)
	{
		Datum values[PFA_MIRROR_KEY_NATTS];
		bool nulls[PFA_MIRROR_KEY_NATTS];

		if (!pfa_entry_visible(desc, scan->slot, &scan->vmbuffer,
							   &scan->fetched))
			continue;
		index_deform_tuple(desc->xs_itup, desc->xs_itupdesc, values, nulls);
		set_row(scan, values[PFA_MIRROR_PFA_ID - 1],
				values[PFA_MIRROR_KEY_NATTS - 1]);
		return true;
	}
	return false;
}

static bool
next_slot(PfaMirrorScan *scan)
{
	TupleTableSlot *slot = scan->slot;

	if (!index_getnext_slot(scan->scan, ForwardScanDirection, slot))
		return false;
	scan->fetched = true;
	slot_getsomeattrs(slot, PFA_MIRROR_CONTENT_HASH);
	set_row(scan, slot->tts_values[PFA_MIRROR_PFA_ID - 1],
			slot->tts_values[PFA_MIRROR_CONTENT_HASH - 1]);
	return true;
}

void
pfa_mirror_scan_next(PfaMirrorScan *scan)
{
	if (!scan->ended)
		scan->ended = !(scan->index_only ? next_entry(scan) : next_slot(scan));
}

void
pfa_mirror_scan_seek(PfaMirrorScan *scan, const char *id, int id_len)
{
	ScanKey key = &scan->keys[scan->nkeys - 1];

	pfree(DatumGetPointer(key->sk_argument));
	key->sk_argument = text_datum(id, id_len);
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
	scan->ended = false;
	pfa_mirror_scan_next(scan);
}

void
pfa_mirror_scan_fetch(PfaMirrorScan *scan)
{
	TupleTableSlot *slot = scan->slot;

	if (!scan->fetched && !index_fetch_heap(scan->scan, slot))
		elog(ERROR, "could not find a mirrored record of its index");
	scan->fetched = true;
	slot_getsomeattrs(slot, PFA_MIRROR_VERSION);
	scan->row.version = DatumGetInt64(slot->tts_values[PFA_MIRROR_VERSION - 1]);
	scan->row.tid = slot->tts_tid;
}

void
pfa_mirror_scan_end(PfaMirrorScan *scan)
{
	index_endscan(scan->scan);
	if (BufferIsValid(scan->vmbuffer))
		ReleaseBuffer(scan->vmbuffer);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, NoLock);
}

/* ---- inserting ---- */

/*
 * The buffers of one insert are used by the next, as COPY's are from its first
 * row to its last: with new ones for each batch, a load would go through all
 * of shared_buffers.
 */
static void
take_bulk(PfaMirrorBulk *bulk)
{
	MemoryContext caller;

	if (bulk->in_use)
	{
		/* An error has let go of its pin, but it still names the buffer. */
		MemoryContextReset(bulk->context);
		bulk->state = NULL;
	}
	if (bulk->state == NULL)
	{
		caller = MemoryContextSwitchTo(bulk->context);
		bulk->state = GetBulkInsertState();
		MemoryContextSwitchTo(caller);
	}
	bulk->in_use = true;
}

void
pfa_mirror_bulk_init(PfaMirrorBulk *bulk, MemoryContext parent)
{
	memset(bulk, 0, sizeof(*bulk));
	bulk->context = AllocSetContextCreate(parent, "pfa_vanguard bulk insert",
										  ALLOCSET_SMALL_SIZES);
}

PfaMirrorInsert *
pfa_mirror_insert_begin(PfaMirror *mirror, PfaMirrorBulk *bulk)
{
	PfaMirrorInsert *insert = palloc0(sizeof(PfaMirrorInsert));

	open_for_write(mirror);
	insert->mirror = mirror;
	insert->bulk = bulk;
	take_bulk(bulk);
	return insert;
}

TupleTableSlot *
pfa_mirror_insert_slot(PfaMirrorInsert *insert)
{
	TupleTableSlot *slot;

	if (insert->nused == PFA_MIRROR_INSERT_ROWS)
		pfa_mirror_insert_flush(insert);
	if (insert->nused == insert->nslots)
		insert->slots[insert->nslots++] = table_slot_create(insert->mirror->rel,
															NULL);
	slot = insert->slots[insert->nused++];
	ExecClearTuple(slot);
	return slot;
}

void
pfa_mirror_insert_flush(PfaMirrorInsert *insert)
{
	PfaMirror *mirror = insert->mirror;
	EState *estate = mirror->estate;
	MemoryContext caller;

	if (insert->nused == 0)
		return;
	note_change(mirror);
	for (int i = 0; i < insert->nused; i++)
	{
		TupleTableSlot *slot = insert->slots[i];

		slot_getsomeattrs(slot, PFA_MIRROR_NATTS);
		count_row(mirror, slot->tts_values, slot->tts_isnull, 1);
	}

	/* Freed with the row's expressions: what forming and toasting leaves. */
	caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	table_multi_insert(mirror->rel, insert->slots, insert->nused, mirror->cid,
					   0, insert->bulk->state);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < insert->nused; i++)
	{
		insert->slots[i]->tts_tableOid = RelationGetRelid(mirror->rel);
		if (mirror->info->ri_NumIndices > 0)
			list_free(pfa_insert_index_entries(mirror->info, insert->slots[i],
											   estate, false));
		ExecClearTuple(insert->slots[i]);
		ResetPerTupleExprContext(estate);
	}
	insert->nused = 0;
}

void
pfa_mirror_insert_end(PfaMirrorInsert *insert)
{
	pfa_mirror_insert_flush(insert);
	for (int i = 0; i < insert->nslots; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	ReleaseBulkInsertStatePin(insert->bulk->state);
	insert->bulk->in_use = false;
	table_finish_bulk_insert(insert->mirror->rel, 0);
	pfree(insert);
}

/* ---- changing ---- */

/* Someone else has changed the row since the snapshot was taken. */
static void
check_result(TM_Result result, const char *verb)
{
	switch (result)
	{
		case TM_Ok:
			break;
		case TM_Updated:
		case TM_Deleted:
			ereport(
				ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg(
					 "could not %s a mirrored record: it was changed at the same time",
					 verb)));
			break;
		default:
			elog(ERROR,
				 "unexpected result %d when trying to %s a mirrored record",
				 result, verb);
	}
}

void
pfa_mirror_update(PfaMirror *mirror, ItemPointer tid, const Datum *values,
				  const bool *nulls)
{
	TupleTableSlot *slot;
	TM_FailureData failure;
	LockTupleMode lock;
	PfaUpdateIndexes indexes;

	open_for_write(mirror);
	note_change(mirror);
	CheckCmdReplicaIdentity(mirror->rel, CMD_UPDATE);
	slot = table_slot_create(mirror->rel, NULL);
	memcpy(slot->tts_values, values, sizeof(Datum) * PFA_MIRROR_NATTS);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * PFA_MIRROR_NATTS);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(mirror->rel);

	count_stored(mirror, tid);
	check_result(table_tuple_update(mirror->rel, tid, slot, mirror->cid,
									mirror->snapshot, InvalidSnapshot, true,
									&failure, &lock, &indexes),
				 "update");
	count_row(mirror, values, nulls, 1);

	/*
	 * As entries of a new row: the hint that a value has not changed would
	 * take a range table, and only helps to clean an index earlier.
	 */
	if (mirror->info->ri_NumIndices > 0 && pfa_update_needs_indexes(indexes))
		list_free(pfa_insert_index_entries(mirror->info, slot, mirror->estate,
										   pfa_update_summarizing(indexes)));
	ResetPerTupleExprContext(mirror->estate);
	ExecDropSingleTupleTableSlot(slot);
}

void
pfa_mirror_delete(PfaMirror *mirror, ItemPointer tid)
{
	TM_FailureData failure;

	note_change(mirror);
	CheckCmdReplicaIdentity(mirror->rel, CMD_DELETE);
	count_stored(mirror, tid);
	check_result(table_tuple_delete(mirror->rel, tid, GetCurrentCommandId(true),
									mirror->snapshot, InvalidSnapshot, true,
									&failure, false),
				 "delete");
}
