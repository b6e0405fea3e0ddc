/*
 * relations.c
 *	  Our tables and indexes by OID, and rows read by index.
 *
 * A look-up of one row through SPI costs several times the look-up itself, and
 * pfa_record does four of them.  So the calls that users make by the thousand
 * read indexes directly, as the server reads its catalogs.
 *
 * The OIDs are found by name in the extension's schema, once, and forgotten
 * when the server says that one of the relations has changed: dropped with the
 * extension, or replaced by REINDEX CONCURRENTLY.
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "catalog/pg_collation.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "catalog/pfa_catalog.h"
#include "catalog/relations.h"
#include "compat.h"

static const char *const names[PFA_NRELATIONS] = {
	[PFA_REL_MIRROR] = "pfa_mirror",
	[PFA_REL_MODIFICATION] = "pfa_modification",
	[PFA_REL_USER_ORGANIZATION] = "pfa_user_organization",
	[PFA_REL_ORGANIZATION] = "pfa_organization",
	[PFA_REL_SYNC_STATE] = "pfa_sync_state",
	[PFA_REL_FIELD_MAPPING] = "pfa_field_mapping",
	[PFA_REL_MIRROR_KEY] = "pfa_mirror_pkey",
	[PFA_REL_MODIFICATION_DRAFT] = "pfa_modification_draft",
	[PFA_REL_MODIFICATION_DRAFT_TOUCHED] = "pfa_modification_draft_touched",
	[PFA_REL_MODIFICATION_COMMITTED] = "pfa_modification_committed",
	[PFA_REL_MODIFICATION_COMMITTED_TOUCHED] =
		"pfa_modification_committed_touched",
	[PFA_REL_USER_ORGANIZATION_KEY] = "pfa_user_organization_pkey",
	[PFA_REL_ORGANIZATION_KEY] = "pfa_organization_pkey",
	[PFA_REL_SYNC_STATE_KEY] = "pfa_sync_state_pkey",
	[PFA_REL_FIELD_MAPPING_KEY] = "pfa_field_mapping_organization_id_key_key",
};

static struct
{
	bool registered;
	Oid oids[PFA_NRELATIONS];
} relations;

static void
forget_oids(Datum arg, Oid relid)
{
	for (int i = 0; i < PFA_NRELATIONS; i++)
	{
		if (!OidIsValid(relid) || relations.oids[i] == relid)
			relations.oids[i] = InvalidOid;
	}
}

static Oid
find_relation(PfaRelation relation)
{
	Oid schema = pfa_extension_schema();
	Oid relid = get_relname_relid(names[relation], schema);

	if (!OidIsValid(relid))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg(
				 "relation \"%s\" of extension \"pfa_vanguard\" does not exist",
				 names[relation]),
			 errhint(
				 "Update it with ALTER EXTENSION pfa_vanguard UPDATE, or create the index again that was dropped or renamed.")));
	return relid;
}

Oid
pfa_relation_oid(PfaRelation relation)
{
	if (!relations.registered)
	{
		CacheRegisterRelcacheCallback(forget_oids, (Datum) 0);
		relations.registered = true;
	}
	if (unlikely(!OidIsValid(relations.oids[relation])))
		relations.oids[relation] = find_relation(relation);
	return relations.oids[relation];
}

void
pfa_read_open(PfaRead *read, PfaRelation table, PfaRelation index,
			  Snapshot snapshot, int nkeys)
{
	read->context = CurrentMemoryContext;
	read->vmbuffer = InvalidBuffer;
	read->rel = table_open(pfa_relation_oid(table), AccessShareLock);
	read->index = index_open(pfa_relation_oid(index), AccessShareLock);
	read->slot = table_slot_create(read->rel, NULL);
	read->scan = pfa_index_beginscan(read->rel, read->index, snapshot, nkeys);
}

static void
seek(PfaRead *read, ScanKey keys, int nkeys, bool entries)
{
	MemoryContext caller = MemoryContextSwitchTo(read->context);

	read->scan->xs_want_itup = entries;
	index_rescan(read->scan, keys, nkeys, NULL, 0);
	MemoryContextSwitchTo(caller);
}

void
pfa_read_seek(PfaRead *read, ScanKey keys, int nkeys)
{
	seek(read, keys, nkeys, false);
}

bool
pfa_read_next(PfaRead *read)
{
	MemoryContext caller = MemoryContextSwitchTo(read->context);
	bool found = index_getnext_slot(read->scan, ForwardScanDirection,
									read->slot);

	MemoryContextSwitchTo(caller);
	return found;
}

void
pfa_read_seek_entries(PfaRead *read, ScanKey keys, int nkeys)
{
	seek(read, keys, nkeys, true);
}

bool
pfa_read_next_entry(PfaRead *read)
{
	MemoryContext caller = MemoryContextSwitchTo(read->context);
	bool found = index_getnext_tid(read->scan, ForwardScanDirection) != NULL;

	MemoryContextSwitchTo(caller);
	return found;
}

Datum
pfa_read_entry_value(PfaRead *read, int column)
{
	bool isnull;
	Datum value = index_getattr(read->scan->xs_itup, column,
								read->scan->xs_itupdesc, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d of \"%s\"", column,
			 RelationGetRelationName(read->index));
	return value;
}

bool
pfa_read_fetch(PfaRead *read)
{
	return index_fetch_heap(read->scan, read->slot);
}

bool
pfa_entry_visible(IndexScanDesc scan, TupleTableSlot *slot, Buffer *vmbuffer,
				  bool *fetched)
{
	BlockNumber block = ItemPointerGetBlockNumber(&scan->xs_heaptid);

	*fetched = !VM_ALL_VISIBLE(scan->heapRelation, block, vmbuffer);
	if (*fetched)
		return index_fetch_heap(scan, slot);
	/* What reading the row would have locked, under SERIALIZABLE. */
	PredicateLockPage(scan->heapRelation, block, scan->xs_snapshot);
	return true;
}

bool
pfa_read_visible(PfaRead *read)
{
	bool fetched;

	return pfa_entry_visible(read->scan, read->slot, &read->vmbuffer, &fetched);
}

void
pfa_read_close(PfaRead *read)
{
	if (BufferIsValid(read->vmbuffer))
		ReleaseBuffer(read->vmbuffer);
	index_endscan(read->scan);
	ExecDropSingleTupleTableSlot(read->slot);
	index_close(read->index, AccessShareLock);
	table_close(read->rel, AccessShareLock);
}

static RegProcedure
text_procedure(StrategyNumber strategy)
{
	switch (strategy)
	{
		case BTLessStrategyNumber:
			return F_TEXT_LT;
		case BTLessEqualStrategyNumber:
			return F_TEXT_LE;
		case BTEqualStrategyNumber:
			return F_TEXTEQ;
		case BTGreaterEqualStrategyNumber:
			return F_TEXT_GE;
		default:
			return F_TEXT_GT;
	}
}

void
pfa_key_text(ScanKey key, int column, StrategyNumber strategy, Datum text)
{
	ScanKeyEntryInitialize(key, 0, column, strategy, InvalidOid,
						   C_COLLATION_OID, text_procedure(strategy), text);
}

void
pfa_key_int64(ScanKey key, int column, StrategyNumber strategy, int64 value)
{
	ScanKeyEntryInitialize(key, 0, column, strategy, InvalidOid, InvalidOid,
						   strategy == BTEqualStrategyNumber ? F_INT8EQ :
															   F_INT8GT,
						   Int64GetDatum(value));
}

Datum
pfa_slot_value(TupleTableSlot *slot, int attno)
{
	bool isnull;
	Datum value = slot_getattr(slot, attno, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d of \"%s\"", attno,
			 get_rel_name(slot->tts_tableOid));
	return value;
}
