/*
 * scan.c
 *	  Records of the mirror that pass a filter.
 *
 * The number of records belongs to each answer and is exact, so whatever
 * matches has to be visited, and a plan that stops early is of no use.  That
 * makes planning simple: the index that narrows the organization down furthest
 * is the best one.  Of its entries, those of the page are looked up in the
 * heap; of the others only what the filter asks for and the index does not
 * have.  Mostly that is nothing, and counting is an index-only scan.
 *
 * Where the index gives the order of the answer, the page is the first so many
 * records behind the cursor.  Else the best so many are kept while all are
 * visited.
 *
 * Nearly always the index both gives the order and answers the filter.  Then
 * its entries are read a leaf page at a time (read.c), which is several times
 * as fast; but only forward: a page in descending order is found by a scan of
 * its own, which ends with the page.
 *
 * Any B-tree on pfa_mirror that begins with organization_id takes part, those
 * that an administrator has added included.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/itup.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/read.h"
#include "compat.h"
#include "merge/scan.h"

/* How an index serves a request. */
typedef struct Path
{
	Oid index;
	ScanKeyData keys[INDEX_MAX_KEYS];
	int nkeys;
	int nequal; /* columns of the index that are given */
	bool has_range;
	bool ordered;  /* by pfa_id, the order asked for */
	int id_column; /* of the index; 0: not in it */
	/* conditions that neither keys nor predicate of the index answer */
	const PfaCondition *open[PFA_MAX_CONDITIONS];
	int open_columns[PFA_MAX_CONDITIONS]; /* of the index; 0: not
													 * in it */
	int nopen;
	bool covers; /* counting needs no heap */
	bool plain;  /* and all entries come in order: see read_entries */
	int ncolumns;
} Path;

typedef struct MirrorScan
{
	const PfaScanRequest *request;
	PfaScanResult *result;
	Path path;
	Relation rel;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	Buffer vmbuffer;
	MemoryContext caller; /* of the rows that are kept */
	MemoryContext entry;  /* of what one entry takes */
	int last_attno;       /* that is looked at in the heap */
	bool past;            /* ordered: the cursor is behind us */
	int nskipped;         /* ordered: excluded ids behind us */
	binaryheap *best;     /* not ordered */
} MirrorScan;

static bool
is_in(const PfaId *ids, int n, const char *id, uint32 id_len)
{
	int low = 0;
	int high = n;

	while (low < high)
	{
		int middle = (low + high) / 2;
		int order = pfa_compare_ids(ids[middle].bytes, ids[middle].len, id,
									id_len);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* ---- choosing an index ---- */

/* As the planner does: an index may be too new for an old snapshot. */
static bool
is_usable(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid ||
		form->indkey.values[0] != PFA_MIRROR_ORGANIZATION_ID)
		return false;
	return !form->indcheckxmin ||
		TransactionIdPrecedes(HeapTupleHeaderGetXmin(
								  index->rd_indextuple->t_data),
							  TransactionXmin);
}

/* A flag that the filter asks for, as the planner would write it. */
static Expr *
flag_clause(const PfaCondition *condition)
{
	Expr *flag = (Expr *) makeVar(1, condition->column->attno, BOOLOID, -1,
								  InvalidOid, 0);

	if (DatumGetBool(condition->values[0]))
		return flag;
	return makeBoolExpr(NOT_EXPR, list_make1(flag), -1);
}

/* Whether the index has all rows that the filter asks for. */
static bool
implies_predicate(const PfaFilter *filter, List *predicate)
{
	List *clauses = NIL;

	if (predicate == NIL)
		return true;
	for (int i = 0; i < filter->nconditions; i++)
	{
		if (filter->conditions[i].column->kind == PFA_KIND_BOOLEAN)
			clauses = lappend(clauses, flag_clause(&filter->conditions[i]));
	}
	return predicate_implied_by(predicate, clauses, false);
}

/* Whether the index has no rows but those that meet the condition. */
static bool
in_predicate(List *predicate, const PfaCondition *condition)
{
	return predicate != NIL && condition->column->kind == PFA_KIND_BOOLEAN &&
		predicate_implied_by(list_make1(flag_clause(condition)), predicate,
							 false);
}

static const PfaCondition *
find_condition(const PfaFilter *filter, int attno, bool equal, int from)
{
	for (int i = from; i < filter->nconditions; i++)
	{
		if (filter->conditions[i].column->attno == attno &&
			(filter->conditions[i].op == PFA_FILTER_EQ) == equal)
			return &filter->conditions[i];
	}
	return NULL;
}

/*
 * Whether the operators used below are those of the index's column.  An index
 * in a collation of its own finds the same texts, if for that collation other
 * texts are not the same.
 */
static bool
has_default_family(Relation index, int column, PfaKind kind)
{
	switch (kind)
	{
		case PFA_KIND_TEXT:
			return index->rd_opfamily[column] == TEXT_BTREE_FAM_OID &&
				get_collation_isdeterministic(index->rd_indcollation[column]);
		case PFA_KIND_DATE:
			return index->rd_opcintype[column] == DATEOID;
		case PFA_KIND_BOOLEAN:
			return index->rd_opfamily[column] == BOOL_BTREE_FAM_OID;
		default:
			return false;
	}
}

static void
add_key(Path *path, Relation index, int column, int flags,
		StrategyNumber strategy, RegProcedure procedure, Datum argument)
{
	ScanKeyEntryInitialize(&path->keys[path->nkeys++], flags, column + 1,
						   strategy, InvalidOid, index->rd_indcollation[column],
						   procedure, argument);
}

static void
add_equal_key(Path *path, Relation index, int column,
			  const PfaCondition *condition)
{
	bool text = condition->column->kind == PFA_KIND_TEXT;

	if (condition->nvalues == 1)
		add_key(path, index, column, 0, BTEqualStrategyNumber,
				text ? F_TEXTEQ : F_BOOLEQ, condition->values[0]);
	else
		add_key(path, index, column, SK_SEARCHARRAY, BTEqualStrategyNumber,
				F_TEXTEQ,
				PointerGetDatum(construct_array(condition->values,
												condition->nvalues, TEXTOID, -1,
												false, TYPALIGN_INT)));
}

static void
add_range_keys(Path *path, Relation index, int column, const PfaFilter *filter,
			   int attno)
{
	const PfaCondition *condition = find_condition(filter, attno, false, 0);

	for (; condition != NULL;
		 condition = find_condition(filter, attno, false,
									condition - filter->conditions + 1))
	{
		bool from = condition->op == PFA_FILTER_GE;

		add_key(path, index, column, 0,
				from ? BTGreaterEqualStrategyNumber : BTLessEqualStrategyNumber,
				from ? F_DATE_GE : F_DATE_LE, condition->values[0]);
		path->has_range = true;
	}
}

/* Column of the index that holds the table's column, or 0. */
static int
find_column(Relation index, int attno)
{
	for (int i = 0; i < index->rd_index->indnatts; i++)
	{
		if (index->rd_index->indkey.values[i] == attno)
			return i + 1;
	}
	return 0;
}

static bool
is_key(const Path *path, Relation index, const PfaCondition *condition)
{
	for (int i = 0; i < path->nkeys; i++)
	{
		int column = path->keys[i].sk_attno - 1;

		if (index->rd_index->indkey.values[column] == condition->column->attno)
			return true;
	}
	return false;
}

static void
find_open_conditions(Path *path, Relation index, List *predicate,
					 const PfaFilter *filter)
{
	path->covers = filter->search == NULL;
	for (int i = 0; i < filter->nconditions; i++)
	{
		const PfaCondition *condition = &filter->conditions[i];
		int column;

		if (is_key(path, index, condition) ||
			in_predicate(predicate, condition))
			continue;
		column = find_column(index, condition->column->attno);
		path->open[path->nopen] = condition;
		path->open_columns[path->nopen++] = column;
		if (column == 0)
			path->covers = false;
	}
}

static bool
make_path(Path *path, Relation index, const PfaScanRequest *request)
{
	const PfaFilter *filter = request->filter;
	List *predicate = RelationGetIndexPredicate(index);
	int nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	bool single = true;
	int column;

	memset(path, 0, sizeof(*path));
	if (!is_usable(index) || !has_default_family(index, 0, PFA_KIND_TEXT) ||
		!implies_predicate(filter, predicate))
		return false;
	path->index = RelationGetRelid(index);
	path->ncolumns = index->rd_index->indnatts;
	path->id_column = find_column(index, PFA_MIRROR_PFA_ID);
	add_key(path, index, 0, 0, BTEqualStrategyNumber, F_TEXTEQ,
			CStringGetTextDatum(request->organization_id));
	for (column = 1; column < nkeys; column++)
	{
		int attno = index->rd_index->indkey.values[column];
		const PfaCondition *condition = find_condition(filter, attno, true, 0);

		if (condition == NULL ||
			!has_default_family(index, column, condition->column->kind))
			break;
		add_equal_key(path, index, column, condition);
		single &= condition->nvalues == 1;
	}
	path->nequal = column;
	if (column < nkeys)
	{
		int attno = index->rd_index->indkey.values[column];

		path->ordered = single && request->sort->column == NULL &&
			attno == PFA_MIRROR_PFA_ID && index->rd_indoption[column] == 0 &&
			index->rd_indcollation[column] == C_COLLATION_OID &&
			has_default_family(index, column, PFA_KIND_TEXT);
		if (has_default_family(index, column, PFA_KIND_DATE))
			add_range_keys(path, index, column, filter, attno);
	}
	find_open_conditions(path, index, predicate, filter);
	/* An entry cannot be told to be excluded without its id. */
	if (request->nexcluded > 0 && path->id_column == 0)
		path->covers = false;
	path->plain = path->ordered && path->covers;
	/* The scan for a page in descending order begins behind the cursor. */
	if (path->plain && request->sort->descending && request->after != NULL)
		add_key(path, index, path->nequal, 0, BTLessStrategyNumber, F_TEXT_LT,
				PointerGetDatum(
					cstring_to_text_with_len(request->after->id,
											 request->after->id_len)));
	return true;
}

static bool
is_better(const Path *a, const Path *b)
{
	if (a->nequal != b->nequal)
		return a->nequal > b->nequal;
	if (a->has_range != b->has_range)
		return a->has_range;
	if (a->ordered != b->ordered)
		return a->ordered;
	if (a->covers != b->covers)
		return a->covers;
	return a->ncolumns < b->ncolumns;
}

static void
choose_path(MirrorScan *scan)
{
	List *indexes = RelationGetIndexList(scan->rel);
	ListCell *cell;

	scan->path.index = InvalidOid;
	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		Path path;

		if (make_path(&path, index, scan->request) &&
			(!OidIsValid(scan->path.index) || is_better(&path, &scan->path)))
			scan->path = path;
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (!OidIsValid(scan->path.index))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has no usable index",
						RelationGetRelationName(scan->rel)),
				 errhint(
					 "Restore its primary key (organization_id, pfa_id).")));
}

/* ---- entries of the index ---- */

static Datum
index_value(MirrorScan *scan, int column, bool *isnull)
{
	return index_getattr(scan->scan->xs_itup, column, scan->scan->xs_itupdesc,
						 isnull);
}

static void
index_id(MirrorScan *scan, const char **id, uint32 *id_len)
{
	bool isnull;
	text *value = DatumGetTextPP(
		index_value(scan, scan->path.id_column, &isnull));

	*id = VARDATA_ANY(value);
	*id_len = VARSIZE_ANY_EXHDR(value);
}

static bool
index_matches(MirrorScan *scan)
{
	for (int i = 0; i < scan->path.nopen; i++)
	{
		bool isnull;
		Datum value = index_value(scan, scan->path.open_columns[i], &isnull);

		if (!pfa_condition_matches(scan->path.open[i], value, isnull))
			return false;
	}
	return true;
}

/* Whether the entry's row exists for the snapshot, by the heap if need be. */
static bool
is_visible(MirrorScan *scan)
{
	bool fetched;

	return pfa_entry_visible(scan->scan, scan->slot, &scan->vmbuffer, &fetched);
}

/* ---- rows of the heap ---- */

static bool
row_matches(MirrorScan *scan)
{
	TupleTableSlot *slot = scan->slot;

	slot_getsomeattrs(slot, scan->last_attno);
	for (int i = 0; i < scan->path.nopen; i++)
	{
		const PfaCondition *condition = scan->path.open[i];
		int at = condition->column->attno - 1;

		if (!pfa_condition_matches(condition, slot->tts_values[at],
								   slot->tts_isnull[at]))
			return false;
	}
	if (scan->request->filter->search != NULL)
	{
		Jsonb *data = DatumGetJsonbP(slot->tts_values[PFA_MIRROR_DATA - 1]);
		bool found = pfa_filter_search(scan->request->filter, &data->root);

		if ((Pointer) data !=
			DatumGetPointer(slot->tts_values[PFA_MIRROR_DATA - 1]))
			pfree(data);
		return found;
	}
	return true;
}

/* Place of the row in the slot; points into it. */
static void
row_key(MirrorScan *scan, PfaSortKey *key)
{
	TupleTableSlot *slot = scan->slot;
	const PfaMirrorColumn *column = scan->request->sort->column;
	text *id = DatumGetTextPP(slot->tts_values[PFA_MIRROR_PFA_ID - 1]);

	key->id = VARDATA_ANY(id);
	key->id_len = VARSIZE_ANY_EXHDR(id);
	key->value = (Datum) 0;
	key->isnull = false;
	if (column != NULL)
	{
		key->value = slot->tts_values[column->attno - 1];
		key->isnull = slot->tts_isnull[column->attno - 1];
	}
}

static void
copy_row(MirrorScan *scan, const PfaSortKey *key, PfaScanRow *row)
{
	Datum *values = scan->slot->tts_values;
	MemoryContext entry = MemoryContextSwitchTo(scan->caller);

	row->key.id = pnstrdup(key->id, key->id_len);
	row->key.id_len = key->id_len;
	row->key.isnull = key->isnull;
	row->key.value = pfa_sort_copy_value(scan->request->sort, key->value,
										 key->isnull);
	row->record.id = row->key.id;
	row->record.id_len = row->key.id_len;
	row->record.version = DatumGetInt64(values[PFA_MIRROR_VERSION - 1]);
	row->record.synced_at = DatumGetTimestampTz(
		values[PFA_MIRROR_SYNCED_AT - 1]);
	row->record.data = DatumGetJsonbPCopy(values[PFA_MIRROR_DATA - 1]);
	MemoryContextSwitchTo(entry);
}

static void
free_row(MirrorScan *scan, PfaScanRow *row)
{
	const PfaMirrorColumn *column = scan->request->sort->column;

	pfree(unconstify(char *, row->key.id));
	pfree(row->record.data);
	if (column != NULL && !row->key.isnull &&
		(column->kind == PFA_KIND_TEXT || column->kind == PFA_KIND_NUMBER))
		pfree(DatumGetPointer(row->key.value));
}

/* ---- the page, where the index does not give its order ---- */

/* The heap's first row is the last one in order. */
static int
compare_in_heap(Datum a, Datum b, void *arg)
{
	const PfaScanRow *x = (const PfaScanRow *) DatumGetPointer(a);
	const PfaScanRow *y = (const PfaScanRow *) DatumGetPointer(b);

	return pfa_sort_compare(arg, &x->key, &y->key);
}

static void
keep_best(MirrorScan *scan)
{
	const PfaScanRequest *request = scan->request;
	PfaScanResult *result = scan->result;
	PfaScanRow *row;
	PfaSortKey key;

	row_key(scan, &key);
	if (request->after != NULL &&
		pfa_sort_compare(request->sort, &key, request->after) <= 0)
		return;
	if (result->nrows < request->limit)
	{
		row = &result->rows[result->nrows++];
		copy_row(scan, &key, row);
		binaryheap_add(scan->best, PointerGetDatum(row));
		return;
	}
	row = (PfaScanRow *) DatumGetPointer(binaryheap_first(scan->best));
	if (pfa_sort_compare(request->sort, &key, &row->key) > 0)
		return;
	free_row(scan, row);
	copy_row(scan, &key, row);
	binaryheap_replace_first(scan->best, PointerGetDatum(row));
}

static int
compare_rows(const void *a, const void *b, void *arg)
{
	return pfa_sort_compare(arg, &((const PfaScanRow *) a)->key,
							&((const PfaScanRow *) b)->key);
}

/* ---- the scan ---- */

/* Whether the id is excluded; ids come in order, or the other way round. */
static bool
skip_excluded(MirrorScan *scan, const char *id, uint32 id_len, bool descending)
{
	const PfaScanRequest *request = scan->request;

	while (scan->nskipped < request->nexcluded)
	{
		int at = descending ? request->nexcluded - 1 - scan->nskipped :
							  scan->nskipped;
		const PfaId *next = &request->excluded[at];
		int order = pfa_compare_ids(next->bytes, next->len, id, id_len);

		if (order == 0)
			return true;
		if ((order > 0) != descending)
			return false;
		scan->nskipped++;
	}
	return false;
}

static bool
is_excluded(MirrorScan *scan, const char *id, uint32 id_len)
{
	const PfaScanRequest *request = scan->request;

	if (scan->path.ordered)
		return skip_excluded(scan, id, id_len, request->sort->descending);
	return is_in(request->excluded, request->nexcluded, id, id_len);
}

/* Whether the entry is one of the page, where the index gives the order. */
static bool
on_page(MirrorScan *scan, const PfaSortKey *key)
{
	const PfaScanRequest *request = scan->request;

	if (scan->result->nrows == request->limit)
		return false;
	if (!scan->past)
		scan->past = request->after == NULL ||
			pfa_sort_compare(request->sort, key, request->after) > 0;
	return scan->past;
}

static void
visit_row(MirrorScan *scan, bool page)
{
	PfaSortKey key;

	if (!index_fetch_heap(scan->scan, scan->slot) || !row_matches(scan))
		return;
	if (scan->request->nexcluded > 0 && scan->path.id_column == 0)
	{
		row_key(scan, &key);
		if (is_excluded(scan, key.id, key.id_len))
			return;
	}
	scan->result->matching++;
	if (!scan->path.ordered)
		keep_best(scan);
	else if (page)
	{
		row_key(scan, &key);
		copy_row(scan, &key, &scan->result->rows[scan->result->nrows++]);
	}
}

/* In order, ids are of no interest behind the page and the last excluded. */
static bool
needs_id(const MirrorScan *scan)
{
	const PfaScanRequest *request = scan->request;

	if (scan->path.id_column == 0)
		return false;
	if (!scan->path.ordered)
		return request->nexcluded > 0;
	return scan->nskipped < request->nexcluded ||
		scan->result->nrows < request->limit;
}

static void
visit_entry(MirrorScan *scan)
{
	bool page = !scan->path.ordered && scan->request->limit > 0;

	if (needs_id(scan))
	{
		PfaSortKey key = {0};

		index_id(scan, &key.id, &key.id_len);
		if (is_excluded(scan, key.id, key.id_len))
			return;
		if (scan->path.ordered)
			page = on_page(scan, &key);
	}
	if (page || !scan->path.covers)
		visit_row(scan, page);
	else if (index_matches(scan) && is_visible(scan))
		scan->result->matching++;
}

static int
last_attno(const PfaScanRequest *request)
{
	int last = PFA_MIRROR_SYNCED_AT;

	if (request->sort->column != NULL)
		last = Max(last, (int) request->sort->column->attno);
	for (int i = 0; i < request->filter->nconditions; i++)
		last = Max(last, (int) request->filter->conditions[i].column->attno);
	return last;
}

static void
run(MirrorScan *scan)
{
	Relation index = index_open(scan->path.index, AccessShareLock);
	ScanDirection direction = scan->path.ordered &&
			scan->request->sort->descending ?
		BackwardScanDirection :
		ForwardScanDirection;

	scan->slot = table_slot_create(scan->rel, NULL);
	scan->scan = pfa_index_beginscan(scan->rel, index, scan->request->snapshot,
									 scan->path.nkeys);
	scan->scan->xs_want_itup = true;
	index_rescan(scan->scan, scan->path.keys, scan->path.nkeys, NULL, 0);
	while (!(scan->path.plain && scan->result->nrows == scan->request->limit) &&
		   index_getnext_tid(scan->scan, direction) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		/* A long text takes memory to be looked at. */
		MemoryContextSwitchTo(scan->entry);
		visit_entry(scan);
		MemoryContextSwitchTo(scan->caller);
		MemoryContextReset(scan->entry);
	}
	index_endscan(scan->scan);
	if (BufferIsValid(scan->vmbuffer))
		ReleaseBuffer(scan->vmbuffer);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(index, AccessShareLock);
}

/* ---- entries of the index by themselves ---- */

static bool
entry_matches(const Path *path, PfaRead *read)
{
	for (int i = 0; i < path->nopen; i++)
	{
		bool isnull;
		Datum value = pfa_read_entry_column(read, path->open_columns[i],
											&isnull);

		if (!pfa_condition_matches(path->open[i], value, isnull))
			return false;
	}
	return true;
}

static bool
add_row(MirrorScan *scan, PfaRead *read)
{
	PfaSortKey key;

	if (!pfa_read_fetch(read))
		return false;
	scan->slot = read->slot;
	slot_getsomeattrs(scan->slot, scan->last_attno);
	row_key(scan, &key);
	copy_row(scan, &key, &scan->result->rows[scan->result->nrows++]);
	return true;
}

/* Whether the entry's record is one of those that are counted. */
static bool
read_entry(MirrorScan *scan, PfaRead *read, bool page)
{
	const Path *path = &scan->path;

	page = page && scan->result->nrows < scan->request->limit;
	if (page || scan->nskipped < scan->request->nexcluded)
	{
		text *id = DatumGetTextPP(pfa_read_entry_value(read, path->id_column));
		PfaSortKey key = {.id = VARDATA_ANY(id),
						  .id_len = VARSIZE_ANY_EXHDR(id)};

		if (skip_excluded(scan, key.id, key.id_len, false))
			return false;
		page = page && on_page(scan, &key);
	}
	if (!entry_matches(path, read))
		return false;
	return page ? add_row(scan, read) : pfa_read_visible(read);
}

/* Count all that match, and find the page if it is asked for. */
static void
read_entries(MirrorScan *scan, bool page)
{
	const Path *path = &scan->path;
	NullableDatum values[INDEX_MAX_KEYS] = {0};
	PfaRead read;

	for (int i = 0; i < path->nequal; i++)
		values[i].value = path->keys[i].sk_argument;
	pfa_read_open_index(&read, RelationGetRelid(scan->rel), path->index,
						scan->request->snapshot);
	pfa_read_seek(&read, values, path->nequal);
	scan->result->matching = 0;
	scan->nskipped = 0;
	while ((path->nopen > 0 ||
			(page && scan->result->nrows < scan->request->limit)) &&
		   pfa_read_next_entry(&read))
	{
		MemoryContextSwitchTo(scan->entry);
		scan->result->matching += read_entry(scan, &read, page);
		MemoryContextSwitchTo(scan->caller);
		MemoryContextReset(scan->entry);
	}
	scan->result->matching +=
		pfa_read_count(&read, scan->request->excluded + scan->nskipped,
					   scan->request->nexcluded - scan->nskipped);
	pfa_read_close(&read);
}

void
pfa_scan(const PfaScanRequest *request, PfaScanResult *result)
{
	MirrorScan scan = {0};

	scan.request = request;
	scan.result = result;
	scan.vmbuffer = InvalidBuffer;
	scan.caller = CurrentMemoryContext;
	scan.entry = AllocSetContextCreate(CurrentMemoryContext,
									   "pfa_vanguard entry",
									   ALLOCSET_DEFAULT_SIZES);
	scan.last_attno = last_attno(request);
	scan.rel = table_open(pfa_relation_oid(PFA_REL_MIRROR), AccessShareLock);
	choose_path(&scan);

	memset(result, 0, sizeof(*result));
	result->rows = palloc(sizeof(PfaScanRow) * request->limit);
	if (!scan.path.ordered)
		scan.best = binaryheap_allocate(request->limit, compare_in_heap,
										unconstify(PfaSort *, request->sort));
	if (!scan.path.plain || request->sort->descending)
		run(&scan);
	if (scan.path.plain)
		read_entries(&scan, !request->sort->descending);
	if (!scan.path.ordered)
		qsort_arg(result->rows, result->nrows, sizeof(PfaScanRow), compare_rows,
				  unconstify(PfaSort *, request->sort));

	table_close(scan.rel, AccessShareLock);
	MemoryContextDelete(scan.entry);
}
