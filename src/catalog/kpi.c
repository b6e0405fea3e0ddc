/*
 * kpi.c
 *	  The tables pfa_kpi and pfa_kpi_delta, read and written past the executor.
 *
 * They are small and of our own making, and they are written with each
 * statement that writes the mirror, so the way is short: a tuple, one index
 * entry.  A statement on few groups of records leaves a row for each; one on
 * many, a sync's batch for instance, a row for each facet, of which there are
 * fewer.
 *
 * The work is done by whoever writes the mirror, with no privileges needed or
 * looked at: that somebody may write the mirror is all that counts.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/kpi.h"
#include "catalog/mirror.h"
#include "catalog/mv_change.h"
#include "compat.h"
#include "registry.h"

/* A statement with more groups of records than this is stored by facets. */
#define MAX_RECORD_GROUPS 6

/* A process that writes has deltas compacted so often, and not more often. */
#define WAKE_STATEMENTS 100
#define WAKE_MS         2000

/* Rows inserted at a time. */
#define INSERT_ROWS 64

static const PfaMirrorAttribute measure_columns[PFA_KPI_NMEASURES] =
	{[PFA_KPI_PLAN_COST] = PFA_MIRROR_PLAN_COST,
	 [PFA_KPI_FORECAST_COST] = PFA_MIRROR_FORECAST_COST,
	 [PFA_KPI_ACTUAL_COST] = PFA_MIRROR_ACTUAL_COST,
	 [PFA_KPI_MONTHLY_RATE] = PFA_MIRROR_MONTHLY_RATE};

bool
pfa_kpi_exists(Oid schema)
{
	return OidIsValid(get_relname_relid("pfa_kpi_delta", schema));
}

static Relation
open_table(Oid schema, const char *name, LOCKMODE lock)
{
	Oid relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg(
				 "relation \"%s\" of extension \"pfa_vanguard\" does not exist",
				 name),
			 errhint("Update it with ALTER EXTENSION pfa_vanguard UPDATE.")));
	return table_open(relid, lock);
}

/* ---- a record of the mirror ---- */

static inline void
set_text(PfaKpiText *out, Datum value, bool isnull)
{
	text *datum;

	out->ptr = NULL;
	out->len = 0;
	if (isnull)
		return;
	datum = DatumGetTextPP(value);
	out->ptr = VARDATA_ANY(datum);
	out->len = VARSIZE_ANY_EXHDR(datum);
}

static inline int8
flag_of(Datum value, bool isnull)
{
	return isnull ? PFA_KPI_NO_FLAG : DatumGetBool(value);
}

void
pfa_kpi_record(PfaKpiSet *set, const Datum *values, const bool *nulls, int sign)
{
	MemoryContext caller = MemoryContextSwitchTo(set->row);
	PfaKpiKey key = {0};
	PfaKpiGroup *group;

#define VALUE_OF(attno) values[(attno) -1], nulls[(attno) -1]
	set_text(&key.organization, VALUE_OF(PFA_MIRROR_ORGANIZATION_ID));
	set_text(&key.category, VALUE_OF(PFA_MIRROR_CATEGORY));
	set_text(&key.source, VALUE_OF(PFA_MIRROR_SOURCE));
	set_text(&key.dor, VALUE_OF(PFA_MIRROR_DOR));
	key.is_actualized = flag_of(VALUE_OF(PFA_MIRROR_IS_ACTUALIZED));
	key.is_discontinued = flag_of(VALUE_OF(PFA_MIRROR_IS_DISCONTINUED));
	key.is_funds_transferable = flag_of(
		VALUE_OF(PFA_MIRROR_IS_FUNDS_TRANSFERABLE));
#undef VALUE_OF

	group = pfa_kpi_set_enter(set, &key);
	group->records += sign;
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
	{
		int at = measure_columns[i] - 1;

		if (!nulls[at])
			pfa_kpi_sum_value(&group->sums[i], set->ctx, values[at], sign);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(set->row);
}

/* ---- writing ---- */

static void
form_text(TupleTableSlot *slot, PfaKpiAttribute attno, const PfaKpiText *value)
{
	slot->tts_isnull[attno - 1] = value->ptr == NULL;
	slot->tts_values[attno - 1] = value->ptr == NULL ?
		(Datum) 0 :
		PointerGetDatum(cstring_to_text_with_len(value->ptr, value->len));
}

static void
form_flag(TupleTableSlot *slot, PfaKpiAttribute attno, int8 flag)
{
	slot->tts_isnull[attno - 1] = flag == PFA_KPI_NO_FLAG;
	slot->tts_values[attno - 1] = BoolGetDatum(flag == 1);
}

/* Counts by measure and decimal places, the last ones that are zero left out. */
static Datum
form_counts(const PfaKpiGroup *group)
{
	int dims[2] = {PFA_KPI_NMEASURES, 0};
	int bounds[2] = {1, 0};
	Datum *elements;

	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
	{
		const PfaKpiSum *sum = &group->sums[i];
		int n = sum->ncounts;

		while (n > 0 && sum->counts[n - 1] == 0)
			n--;
		dims[1] = Max(dims[1], n);
	}
	if (dims[1] == 0)
		return PointerGetDatum(construct_empty_array(INT8OID));
	elements = palloc0(sizeof(Datum) * dims[0] * dims[1]);
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
	{
		const PfaKpiSum *sum = &group->sums[i];

		for (int j = 0; j < Min(sum->ncounts, dims[1]); j++)
			elements[i * dims[1] + j] = Int64GetDatum(sum->counts[j]);
	}
	return PointerGetDatum(
		construct_md_array(elements, NULL, 2, dims, bounds, INT8OID,
						   sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

bool
pfa_kpi_row_form(TupleTableSlot *slot, const PfaKpiGroup *group, int i)
{
	const PfaKpiKey *key = &group->key;
	Datum *values = slot->tts_values;
	bool any = i == 0;

	ExecClearTuple(slot);
	form_text(slot, PFA_KPI_ORGANIZATION_ID, &key->organization);
	form_text(slot, PFA_KPI_CATEGORY, &key->category);
	form_text(slot, PFA_KPI_SOURCE, &key->source);
	form_text(slot, PFA_KPI_DOR_KEY, &key->dor);
	form_flag(slot, PFA_KPI_IS_ACTUALIZED, key->is_actualized);
	form_flag(slot, PFA_KPI_IS_DISCONTINUED, key->is_discontinued);
	form_flag(slot, PFA_KPI_IS_FUNDS_TRANSFERABLE, key->is_funds_transferable);
	for (int m = 0; m < PFA_KPI_NMEASURES; m++)
	{
		int at = PFA_KPI_FIRST_MEASURE + m - 1;
		Numeric number;

		if (pfa_kpi_sum_stored(&group->sums[m], i, &number))
			any = true;
		else
			number = int64_to_numeric(0);
		values[at] = NumericGetDatum(number);
		slot->tts_isnull[at] = false;
	}
	values[PFA_KPI_FACET - 1] = Int16GetDatum(key->facet);
	slot->tts_isnull[PFA_KPI_FACET - 1] = false;
	values[PFA_KPI_RECORD_COUNT - 1] = Int64GetDatum(i == 0 ? group->records :
															  0);
	slot->tts_isnull[PFA_KPI_RECORD_COUNT - 1] = false;
	values[PFA_KPI_VALUE_COUNTS - 1] = i == 0 ?
		form_counts(group) :
		PointerGetDatum(construct_empty_array(INT8OID));
	slot->tts_isnull[PFA_KPI_VALUE_COUNTS - 1] = false;
	if (any)
		ExecStoreVirtualTuple(slot);
	return any;
}

typedef struct Inserter
{
	Relation rel;
	EState *estate;
	ResultRelInfo *info;
	TupleTableSlot *slots[INSERT_ROWS];
	int nslots; /* made */
	int nused;
} Inserter;

static void
flush_rows(Inserter *inserter)
{
	CommandId cid = GetCurrentCommandId(true);

	if (inserter->nused == 1)
		table_tuple_insert(inserter->rel, inserter->slots[0], cid, 0, NULL);
	else if (inserter->nused > 1)
		table_multi_insert(inserter->rel, inserter->slots, inserter->nused, cid,
						   0, NULL);
	for (int i = 0; i < inserter->nused; i++)
	{
		TupleTableSlot *slot = inserter->slots[i];

		slot->tts_tableOid = RelationGetRelid(inserter->rel);
		if (inserter->info->ri_NumIndices > 0)
			list_free(pfa_insert_index_entries(inserter->info, slot,
											   inserter->estate, false));
		ExecClearTuple(slot);
	}
	inserter->nused = 0;
}

static TupleTableSlot *
free_slot(Inserter *inserter)
{
	if (inserter->nused == INSERT_ROWS)
		flush_rows(inserter);
	if (inserter->nused == inserter->nslots)
		inserter->slots[inserter->nslots++] = table_slot_create(inserter->rel,
																NULL);
	return inserter->slots[inserter->nused];
}

void
pfa_kpi_insert(Relation rel, PfaKpiGroup **groups, int ngroups)
{
	Inserter inserter = {0};
	MemoryContext caller;

	inserter.rel = rel;
	inserter.estate = CreateExecutorState();
	caller = MemoryContextSwitchTo(inserter.estate->es_query_cxt);
	inserter.info = makeNode(ResultRelInfo);
	InitResultRelInfo(inserter.info, rel, 1, NULL, 0);
	ExecOpenIndices(inserter.info, false);
	for (int i = 0; i < ngroups; i++)
	{
		for (int part = 0;; part++)
		{
			if (!pfa_kpi_row_form(free_slot(&inserter), groups[i], part))
				break;
			inserter.nused++;
		}
	}
	flush_rows(&inserter);
	for (int i = 0; i < inserter.nslots; i++)
		ExecDropSingleTupleTableSlot(inserter.slots[i]);
	ExecCloseIndices(inserter.info);
	MemoryContextSwitchTo(caller);
	FreeExecutorState(inserter.estate);
}

/* Groups that are not zero go to the front; how many they are. */
static int
drop_zeros(PfaKpiSet *set)
{
	int n = 0;

	for (int i = 0; i < set->ngroups; i++)
	{
		PfaKpiGroup *group = set->groups[i];

		if (pfa_kpi_group_is_zero(group))
			continue;
		set->groups[i] = set->groups[n];
		set->groups[n++] = group;
	}
	return n;
}

/*
 * Readers ask for compaction where they meet many deltas; where nobody reads,
 * writers do, lest the next reader has to wait for theirs.
 */
static void
ask_for_compaction(void)
{
	static int nstatements;
	static TimestampTz asked_at;
	TimestampTz now;

	if (++nstatements < WAKE_STATEMENTS)
		return;
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(asked_at, now, WAKE_MS))
		return;
	nstatements = 0;
	asked_at = now;
	pfa_wake_scheduler_at_commit();
}

void
pfa_kpi_store(Oid schema, PfaKpiSet *set)
{
	int ngroups = drop_zeros(set);
	Relation rel;

	pfa_mv_mark_changed(schema);
	if (ngroups == 0)
		return;
	rel = open_table(schema, "pfa_kpi_delta", RowExclusiveLock);
	if (ngroups <= MAX_RECORD_GROUPS)
		pfa_kpi_insert(rel, set->groups, ngroups);
	else
	{
		PfaKpiSet *facets = pfa_kpi_set_expand(set);
		int nfacets = drop_zeros(facets);

		if (nfacets < ngroups)
			pfa_kpi_insert(rel, facets->groups, nfacets);
		else
			pfa_kpi_insert(rel, set->groups, ngroups);
		pfa_kpi_set_free(facets);
	}
	table_close(rel, NoLock);
	ask_for_compaction();
}

bool
pfa_kpi_try_delete(Relation rel, ItemPointer tid, Snapshot snapshot)
{
	TM_FailureData failure;

	return table_tuple_delete(rel, tid, GetCurrentCommandId(true), snapshot,
							  InvalidSnapshot, false, &failure, false) == TM_Ok;
}

/* ---- reading ---- */

void
pfa_kpi_row_key(TupleTableSlot *slot, PfaKpiKey *key)
{
	slot_getallattrs(slot);
#define VALUE_OF(attno) \
	slot->tts_values[(attno) -1], slot->tts_isnull[(attno) -1]
	key->facet = DatumGetInt16(slot->tts_values[PFA_KPI_FACET - 1]);
	set_text(&key->organization, VALUE_OF(PFA_KPI_ORGANIZATION_ID));
	set_text(&key->category, VALUE_OF(PFA_KPI_CATEGORY));
	set_text(&key->source, VALUE_OF(PFA_KPI_SOURCE));
	set_text(&key->dor, VALUE_OF(PFA_KPI_DOR_KEY));
	key->is_actualized = flag_of(VALUE_OF(PFA_KPI_IS_ACTUALIZED));
	key->is_discontinued = flag_of(VALUE_OF(PFA_KPI_IS_DISCONTINUED));
	key->is_funds_transferable = flag_of(
		VALUE_OF(PFA_KPI_IS_FUNDS_TRANSFERABLE));
#undef VALUE_OF
}

static void
add_counts(PfaKpiSet *set, PfaKpiGroup *group, Datum datum)
{
	ArrayType *array = DatumGetArrayTypeP(datum);
	const int64 *counts = (const int64 *) ARR_DATA_PTR(array);
	int ncounts;

	if (ARR_NDIM(array) == 0)
		return;
	if (ARR_NDIM(array) != 2 || ARR_DIMS(array)[0] != PFA_KPI_NMEASURES ||
		ARR_HASNULL(array))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a row of pfa_kpi has invalid value_counts"),
				 errhint("Run SELECT pfa_kpi_rebuild().")));
	ncounts = ARR_DIMS(array)[1];
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
		pfa_kpi_sum_counts(&group->sums[i], set->ctx, counts + i * ncounts,
						   ncounts);
}

void
pfa_kpi_row_add(PfaKpiSet *set, PfaKpiGroup *group, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	group->records += DatumGetInt64(slot->tts_values[PFA_KPI_RECORD_COUNT - 1]);
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
		pfa_kpi_sum_part(&group->sums[i], set->ctx,
						 slot->tts_values[PFA_KPI_FIRST_MEASURE + i - 1]);
	add_counts(set, group, slot->tts_values[PFA_KPI_VALUE_COUNTS - 1]);
}

void
pfa_kpi_row_expand(PfaKpiSet *set, TupleTableSlot *slot, PfaKpiFacet max)
{
	MemoryContext caller = MemoryContextSwitchTo(set->row);
	PfaKpiKey key;
	PfaKpiKey facet;

	pfa_kpi_row_key(slot, &key);
	if (key.facet != PFA_KPI_RECORDS)
		pfa_kpi_row_add(set, pfa_kpi_set_enter(set, &key), slot);
	else
	{
		for (int f = PFA_KPI_CATEGORY_SOURCE; f <= (int) max; f++)
		{
			if (pfa_kpi_facet_key(&key, f, &facet))
				pfa_kpi_row_add(set, pfa_kpi_set_enter(set, &facet), slot);
		}
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(set->row);
}

/* The index on (organization_id, facet), whatever else somebody has added. */
static Relation
open_index(Relation rel)
{
	ListCell *cell;

	foreach(cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisvalid && form->indnkeyatts == 2 &&
			form->indkey.values[0] == PFA_KPI_ORGANIZATION_ID &&
			form->indkey.values[1] == PFA_KPI_FACET &&
			RelationGetIndexPredicate(index) == NIL)
			return index;
		index_close(index, AccessShareLock);
	}
	ereport(
		ERROR,
		(errcode(ERRCODE_UNDEFINED_OBJECT),
		 errmsg(
			 "table \"%s\" has no index on its columns organization_id and facet",
			 RelationGetRelationName(rel)),
		 errhint("Create that index again.")));
}

void
pfa_kpi_scan(Relation rel, const PfaKpiText *organization, PfaKpiFacet max,
			 Snapshot snapshot, PfaKpiRowFunction function, void *arg)
{
	Relation index = open_index(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData keys[2];
	IndexScanDesc scan;
	text *name = cstring_to_text_with_len(organization->ptr, organization->len);

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(name));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTLessEqualStrategyNumber,
						   InvalidOid, InvalidOid, F_INT2LE,
						   Int16GetDatum(max));
	scan = pfa_index_beginscan(rel, index, snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
		function(slot, arg);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	pfree(name);
}

/* What reading adds up, and how many rows it has met. */
typedef struct Reader
{
	PfaKpiSet *set;
	PfaKpiFacet max;
	int nrows;
} Reader;

static void
read_row(TupleTableSlot *slot, void *arg)
{
	Reader *reader = arg;

	pfa_kpi_row_expand(reader->set, slot, reader->max);
	reader->nrows++;
}

static void
read_all(Relation rel, Snapshot snapshot, Reader *reader)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, PFA_KPI_FACET);
		if (DatumGetInt16(slot->tts_values[PFA_KPI_FACET - 1]) <=
			(int) reader->max)
			read_row(slot, reader);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

static int
read_table(Oid schema, const char *name, const char *organization_id,
		   PfaKpiFacet max, Snapshot snapshot, PfaKpiSet *set)
{
	Relation rel = open_table(schema, name, AccessShareLock);
	Reader reader = {set, max, 0};

	if (organization_id == NULL)
		read_all(rel, snapshot, &reader);
	else
	{
		PfaKpiText organization = {organization_id, strlen(organization_id)};

		pfa_kpi_scan(rel, &organization, max, snapshot, read_row, &reader);
	}
	table_close(rel, NoLock);
	return reader.nrows;
}

int
pfa_kpi_read(Oid schema, const char *organization_id, PfaKpiFacet max,
			 Snapshot snapshot, PfaKpiSet *set)
{
	/* First in the order of locks: TRUNCATE takes it, then ours. */
	table_close(open_table(schema, "pfa_mirror", AccessShareLock), NoLock);
	(void) read_table(schema, "pfa_kpi", organization_id, max, snapshot, set);
	return read_table(schema, "pfa_kpi_delta", organization_id, max, snapshot,
					  set);
}
