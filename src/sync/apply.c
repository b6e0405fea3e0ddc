/*
 * apply.c
 *	  Write one decoded batch into pfa_mirror.
 *
 * First the batch is merged with what is stored, read in the order of ids:
 * equal hashes mean equal records, so a page without news leaves no trace, no
 * row version, no WAL, no lock.  What is new or differs is noted, and written
 * when the scan has ended: first the new rows, then the changed ones, each in
 * the order of ids, so that two processes cannot wait for one another.
 *
 * A row that another process has written since the snapshot was taken ends the
 * transaction with a unique violation or a serialization failure.  The caller
 * repeats it, and the repetition sees that row.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "catalog/mirror.h"
#include "sync/apply.h"
#include "sync/record_jsonb.h"

/*
 * Without judge, so many stored rows are read in vain before the scan looks
 * for the next id instead.
 */
#define ROWS_BEFORE_SEEK	8

/* Rows of the direct insert are kept small enough to stay in the cache. */
#define INSERT_BYTES		((size_t) 512 * 1024)

struct PfaApply
{
	char	   *organization_id;
	const PfaMapping *mapping;
	PfaRowBuilder *builder;
	MemoryContext work;			/* of one call */
};

/* A stored row that differs from its record. */
typedef struct Change
{
	int			record;
	int64		version;
	ItemPointerData tid;
} Change;

/* What a batch comes to. */
typedef struct Plan
{
	PfaRecord  *records;
	int			nrecords;
	int		   *inserts;
	int			ninserts;
	Change	   *changes;
	int			nchanges;
	const char **rejected;		/* ids, in byte order */
	int			nrejected;
	MemoryContext caller;
	PfaApplyResult *result;
} Plan;

PfaApply *
pfa_apply_create(MemoryContext ctx, const char *organization_id,
				 const PfaMapping *mapping)
{
	PfaApply   *apply = MemoryContextAllocZero(ctx, sizeof(PfaApply));

	apply->organization_id = MemoryContextStrdup(ctx, organization_id);
	apply->mapping = mapping;
	apply->builder = pfa_row_builder_create(ctx, organization_id, mapping);
	apply->work = AllocSetContextCreate(ctx, "pfa_vanguard apply",
										ALLOCSET_DEFAULT_SIZES);
	return apply;
}

/* ---- ids ---- */

/* The order of COLLATE "C". */
static inline int
compare_ids(const char *a, int a_len, const char *b, int b_len)
{
	int			order = memcmp(a, b, Min(a_len, b_len));

	if (order != 0)
		return order;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int
compare_records(const void *a, const void *b)
{
	const PfaRecord *x = a;
	const PfaRecord *y = b;

	return compare_ids(x->id, x->id_len, y->id, y->id_len);
}

/* Records with the place they came in, to sort them stably. */
typedef struct Placed
{
	PfaRecord	record;
	int			place;
} Placed;

static int
compare_placed(const void *a, const void *b)
{
	int			order = compare_records(a, b);

	if (order != 0)
		return order;
	return ((const Placed *) a)->place < ((const Placed *) b)->place ? -1 : 1;
}

/* Sort by id; of two with one id the later stays.  Returns how many stay. */
static int
sort_records(PfaRecord *records, int nrecords)
{
	Placed	   *placed;
	int			nkept = 0;
	bool		sorted = true;

	for (int i = 1; i < nrecords && sorted; i++)
		sorted = compare_records(&records[i - 1], &records[i]) < 0;
	if (sorted)
		return nrecords;

	placed = MemoryContextAllocHuge(CurrentMemoryContext,
									sizeof(Placed) * nrecords);
	for (int i = 0; i < nrecords; i++)
	{
		placed[i].record = records[i];
		placed[i].place = i;
	}
	qsort(placed, nrecords, sizeof(Placed), compare_placed);

	/*
	 * All of them stay in the caller's array, the doubles at its end: a
	 * repeated call sees the same batch.
	 */
	for (int i = 0; i < nrecords; i++)
	{
		bool		last = i + 1 == nrecords ||
			compare_records(&placed[i].record, &placed[i + 1].record) != 0;

		if (last)
			records[nkept++] = placed[i].record;
	}
	pfree(placed);
	return nkept;
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Ids that are not judged because the record came, but could not be used. */
static void
collect_rejected(Plan *plan, PfaBatch *batch)
{
	const PfaReject *rejects = pfa_batch_rejects(batch);

	plan->nrejected = pfa_batch_nrejects(batch);
	plan->rejected = palloc(sizeof(char *) * Max(plan->nrejected, 1));
	for (int i = 0; i < plan->nrejected; i++)
		plan->rejected[i] = rejects[i].id;
	qsort(plan->rejected, plan->nrejected, sizeof(char *), compare_texts);
}

static bool
is_rejected(const Plan *plan, const char *id, int id_len)
{
	int			low = 0;
	int			high = plan->nrejected;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const char *other = plan->rejected[middle];
		int			order = compare_ids(other, strlen(other), id, id_len);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* ---- what is to be done ---- */

/* Stored rows are judged between these; NULL: no bound. */
typedef struct Range
{
	bool		judge;
	const char *lower;			/* exclusive */
	int			lower_len;
	const char *upper;
	int			upper_len;
	bool		upper_inclusive;
} Range;

static bool
in_range(const Range *range, const PfaMirrorRow *row)
{
	int			order;

	if (range->lower != NULL &&
		compare_ids(row->id, row->id_len,
					range->lower, range->lower_len) <= 0)
		return false;
	if (range->upper == NULL)
		return true;
	order = compare_ids(row->id, row->id_len, range->upper, range->upper_len);
	return order < 0 || (order == 0 && range->upper_inclusive);
}

static void
note_vanished(Plan *plan, const Range *range, const PfaMirrorRow *row)
{
	PfaApplyResult *result = plan->result;
	MemoryContext work;
	int			n = result->nvanished;

	if (!range->judge || !in_range(range, row) ||
		is_rejected(plan, row->id, row->id_len))
		return;
	work = MemoryContextSwitchTo(plan->caller);
	if (n == 0)
		result->vanished = palloc(sizeof(char *));
	else if ((n & (n - 1)) == 0)
		result->vanished = repalloc_huge(result->vanished,
										 sizeof(char *) * n * 2);
	result->vanished[n] = pnstrdup(row->id, row->id_len);
	result->nvanished++;
	MemoryContextSwitchTo(work);
}

/*
 * Go to the first stored row that is not before the record; those that are
 * passed have no record.
 */
static bool
find_stored(PfaMirrorScan *scan, Plan *plan, const Range *range,
			const PfaRecord *record)
{
	int			passed = 0;

	while (!scan->ended)
	{
		int			order = compare_ids(scan->row.id, scan->row.id_len,
										record->id, record->id_len);

		if (order >= 0)
			return order == 0;
		note_vanished(plan, range, &scan->row);
		if (!range->judge && ++passed > ROWS_BEFORE_SEEK)
		{
			pfa_mirror_scan_seek(scan, record->id, record->id_len);
			passed = 0;
		}
		else
			pfa_mirror_scan_next(scan);
	}
	return false;
}

static void
compare_stored(PfaMirrorScan *scan, Plan *plan, const Range *range)
{
	for (int i = 0; i < plan->nrecords; i++)
	{
		const PfaRecord *record = &plan->records[i];

		if (!find_stored(scan, plan, range, record))
			plan->inserts[plan->ninserts++] = i;
		else
		{
			if (scan->row.content_hash == pfa_row_hash(record))
				plan->result->unchanged++;
			else
			{
				Change	   *change = &plan->changes[plan->nchanges++];

				change->record = i;
				change->version = pfa_mirror_scan_version(scan);
				change->tid = scan->row.tid;
			}
			pfa_mirror_scan_next(scan);
		}
	}
	while (!scan->ended)
	{
		note_vanished(plan, range, &scan->row);
		pfa_mirror_scan_next(scan);
	}
}

/*
 * Read what is stored of the range and of the batch's own ids, which may lie
 * outside of it: a page's lower bound is its first record's id.
 */
static void
make_plan(Plan *plan, PfaMirror *mirror, const Range *range)
{
	PfaMirrorScan scan;
	const PfaRecord *first = plan->records;
	const PfaRecord *last = plan->records + plan->nrecords - 1;
	const char *lower = range->lower;
	const char *upper = range->upper;
	int			lower_len = range->lower_len;
	int			upper_len = range->upper_len;

	plan->inserts = MemoryContextAllocHuge(CurrentMemoryContext,
										   sizeof(int) * (plan->nrecords + 1));
	plan->changes = MemoryContextAllocHuge(CurrentMemoryContext,
										   sizeof(Change) *
										   (plan->nrecords + 1));
	if (plan->nrecords > 0)
	{
		if (!range->judge ||
			(lower != NULL && compare_ids(first->id, first->id_len,
										  lower, lower_len) < 0))
		{
			lower = first->id;
			lower_len = first->id_len;
		}
		if (!range->judge ||
			(upper != NULL && compare_ids(last->id, last->id_len,
										  upper, upper_len) > 0))
		{
			upper = last->id;
			upper_len = last->id_len;
		}
	}
	pfa_mirror_scan_begin(&scan, mirror, lower, lower_len, upper, upper_len);
	compare_stored(&scan, plan, range);
	pfa_mirror_scan_end(&scan);
}

/* ---- doing it ---- */

static void
build_row(PfaApply *apply, const PfaRecord *record, int64 version,
		  Datum *values, bool *nulls)
{
	pfa_row_build(apply->builder, record, values, nulls);
	values[PFA_MIRROR_VERSION - 1] = Int64GetDatum(version);
	values[PFA_MIRROR_SYNCED_AT - 1] =
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
}

static void
insert_directly(PfaApply *apply, PfaMirror *mirror, const Plan *plan)
{
	PfaMirrorInsert *insert = pfa_mirror_insert_begin(mirror);

	for (int i = 0; i < plan->ninserts; i++)
	{
		TupleTableSlot *slot;

		if (insert->nused == PFA_MIRROR_INSERT_ROWS ||
			pfa_row_builder_bytes(apply->builder) > INSERT_BYTES)
		{
			CHECK_FOR_INTERRUPTS();
			pfa_mirror_insert_flush(insert);
			pfa_row_builder_reset(apply->builder);
		}
		slot = pfa_mirror_insert_slot(insert);
		build_row(apply, &plan->records[plan->inserts[i]], 1,
				  slot->tts_values, slot->tts_isnull);
		ExecStoreVirtualTuple(slot);
	}
	pfa_mirror_insert_end(insert);
	pfa_row_builder_reset(apply->builder);
}

static void
update_directly(PfaApply *apply, PfaMirror *mirror, const Plan *plan)
{
	Datum		values[PFA_MIRROR_NATTS];
	bool		nulls[PFA_MIRROR_NATTS];

	for (int i = 0; i < plan->nchanges; i++)
	{
		Change	   *change = &plan->changes[i];

		CHECK_FOR_INTERRUPTS();
		build_row(apply, &plan->records[change->record],
				  change->version + 1, values, nulls);
		pfa_mirror_update(mirror, &change->tid, values, nulls);
		pfa_row_builder_reset(apply->builder);
	}
}

static void
store_row(PfaApply *apply, PfaMirror *mirror, Tuplestorestate *rows,
		  const PfaRecord *record, int64 version)
{
	Datum		values[PFA_MIRROR_NATTS];
	bool		nulls[PFA_MIRROR_NATTS];

	build_row(apply, record, version, values, nulls);
	tuplestore_putvalues(rows, mirror->own_columns, values, nulls);
	pfa_row_builder_reset(apply->builder);
}

static void
insert_by_sql(PfaApply *apply, PfaMirror *mirror, const Plan *plan)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);

	for (int i = 0; i < plan->ninserts; i++)
		store_row(apply, mirror, rows, &plan->records[plan->inserts[i]], 1);
	pfa_mirror_sql_insert(mirror, rows);
	tuplestore_end(rows);
}

static void
update_by_sql(PfaApply *apply, PfaMirror *mirror, const Plan *plan)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);

	for (int i = 0; i < plan->nchanges; i++)
		store_row(apply, mirror, rows,
				  &plan->records[plan->changes[i].record],
				  plan->changes[i].version + 1);
	pfa_mirror_sql_update(mirror, rows);
	tuplestore_end(rows);
}

static void
carry_out(PfaApply *apply, PfaMirror *mirror, const Plan *plan)
{
	if (plan->ninserts > 0)
	{
		if (mirror->direct_insert)
			insert_directly(apply, mirror, plan);
		else
			insert_by_sql(apply, mirror, plan);
	}
	if (plan->nchanges > 0)
	{
		if (mirror->direct_update)
			update_directly(apply, mirror, plan);
		else
			update_by_sql(apply, mirror, plan);
	}
	plan->result->inserted += plan->ninserts;
	plan->result->updated += plan->nchanges;
}

/* ---- a batch ---- */

static void
refuse_oversized(PfaApply *apply, Plan *plan)
{
	PfaApplyResult *result = plan->result;
	PfaReject  *rejects = NULL;
	int			nkept = 0;

	for (int i = 0; i < plan->nrecords; i++)
	{
		PfaRecord  *record = &plan->records[i];
		const char *reason = pfa_row_refusal(apply->builder, record);
		MemoryContext work;

		if (likely(reason == NULL))
		{
			if (unlikely(nkept != i))
				plan->records[nkept] = *record;
			nkept++;
			continue;
		}
		work = MemoryContextSwitchTo(plan->caller);
		if (rejects == NULL)
		{
			PfaRecord  *copy = palloc_extended(sizeof(PfaRecord) *
											   plan->nrecords,
											   MCXT_ALLOC_HUGE);

			/* The batch itself stays as it is, for a repetition. */
			memcpy(copy, plan->records, sizeof(PfaRecord) * plan->nrecords);
			plan->records = copy;
			record = &copy[i];
			rejects = palloc_extended(sizeof(PfaReject) * plan->nrecords,
									  MCXT_ALLOC_HUGE);
		}
		rejects[result->nrejected].id = pnstrdup(record->id, record->id_len);
		rejects[result->nrejected].reason = pstrdup(reason);
		result->nrejected++;
		MemoryContextSwitchTo(work);
	}
	plan->nrecords = nkept;
	result->rejects = rejects;

	/* Refused records exist in PEMS: what is stored of them stays. */
	if (result->nrejected > 0)
	{
		plan->rejected = repalloc_huge(plan->rejected, sizeof(char *) *
									   (plan->nrejected + result->nrejected));
		for (int i = 0; i < result->nrejected; i++)
			plan->rejected[plan->nrejected++] = rejects[i].id;
		qsort(plan->rejected, plan->nrejected, sizeof(char *), compare_texts);
	}
}

static void
find_max_version(PfaApply *apply, const Plan *plan)
{
	int			field = apply->mapping->version_field;
	const PfaValue *max = NULL;

	if (field < 0 || apply->mapping->fields[field].kind != PFA_KIND_TEXT)
		return;
	for (int i = 0; i < plan->nrecords; i++)
	{
		const PfaValue *value = &plan->records[i].values[field];

		if (!value->isnull &&
			(max == NULL || compare_ids(value->ptr, value->len,
										max->ptr, max->len) > 0))
			max = value;
	}
	if (max != NULL)
	{
		char	   *text = MemoryContextAlloc(plan->caller, max->len + 1);

		memcpy(text, max->ptr, max->len);
		text[max->len] = '\0';
		plan->result->max_version = text;
	}
}

void
pfa_apply_batch(PfaApply *apply, PfaBatch *batch, bool judge,
				const char *lower, const char *upper, bool upper_inclusive,
				PfaApplyResult *result)
{
	PfaMirror	mirror;
	Range		range = {0};
	Plan		plan = {0};

	memset(result, 0, sizeof(*result));
	if (!judge && pfa_batch_nrecords(batch) == 0)
		return;

	/* A call that failed half way has left rows in the builder. */
	MemoryContextReset(apply->work);
	pfa_row_builder_reset(apply->builder);
	plan.caller = MemoryContextSwitchTo(apply->work);
	plan.result = result;
	plan.records = pfa_batch_records(batch);
	plan.nrecords = sort_records(plan.records, pfa_batch_nrecords(batch));
	collect_rejected(&plan, batch);
	refuse_oversized(apply, &plan);

	range.judge = judge;
	if (judge)
	{
		range.lower = lower;
		range.lower_len = lower == NULL ? 0 : strlen(lower);
		range.upper = upper;
		range.upper_len = upper == NULL ? 0 : strlen(upper);
		range.upper_inclusive = upper_inclusive;
	}
	if (judge || plan.nrecords > 0)
	{
		pfa_mirror_open(&mirror, apply->organization_id);
		make_plan(&plan, &mirror, &range);
		carry_out(apply, &mirror, &plan);
		pfa_mirror_close(&mirror);
	}
	find_max_version(apply, &plan);
	MemoryContextSwitchTo(plan.caller);
	MemoryContextReset(apply->work);
}

/* ---- deleting ---- */

static int64
delete_directly(PfaMirror *mirror, const char **ids, int nids)
{
	PfaMirrorScan scan;
	int64		ndeleted = 0;

	pfa_mirror_scan_begin(&scan, mirror, ids[0], strlen(ids[0]),
						  ids[nids - 1], strlen(ids[nids - 1]));
	for (int i = 0; i < nids && !scan.ended; i++)
	{
		int			id_len = strlen(ids[i]);
		int			order;

		CHECK_FOR_INTERRUPTS();
		order = compare_ids(scan.row.id, scan.row.id_len, ids[i], id_len);
		if (order < 0)
		{
			pfa_mirror_scan_seek(&scan, ids[i], id_len);
			if (scan.ended)
				break;
			order = compare_ids(scan.row.id, scan.row.id_len, ids[i], id_len);
		}
		if (order == 0)
		{
			pfa_mirror_delete(mirror, &scan.row.tid);
			ndeleted++;
			pfa_mirror_scan_next(&scan);
		}
	}
	pfa_mirror_scan_end(&scan);
	return ndeleted;
}

int64
pfa_apply_delete(PfaApply *apply, const char **ids, int nids)
{
	PfaMirror	mirror;
	MemoryContext caller;
	const char **sorted;
	int64		ndeleted;

	if (nids == 0)
		return 0;
	MemoryContextReset(apply->work);
	caller = MemoryContextSwitchTo(apply->work);
	sorted = palloc_extended(sizeof(char *) * nids, MCXT_ALLOC_HUGE);
	memcpy(sorted, ids, sizeof(char *) * nids);
	qsort(sorted, nids, sizeof(char *), compare_texts);

	pfa_mirror_open(&mirror, apply->organization_id);
	if (mirror.direct_delete)
		ndeleted = delete_directly(&mirror, sorted, nids);
	else
		ndeleted = pfa_mirror_sql_delete(&mirror, sorted, nids);
	pfa_mirror_close(&mirror);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(apply->work);
	return ndeleted;
}
