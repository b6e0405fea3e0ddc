/*
 * page.c
 *	  One page of an organization's records as a user sees them.
 *
 * Filters, order and total are those of the merged record.  Of the many
 * modifications that a user may have, few change what these depend on: only
 * records with such a one are "moved".  They are left out of the scan of the
 * mirror, merged, put to the filter and the order as what they have become, and
 * mixed in.  All other records are where the mirror has them, and get their
 * overlays when the page is known.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/jsonb_items.h"
#include "catalog/merged.h"
#include "catalog/mirror.h"
#include "catalog/read.h"
#include "memory.h"
#include "merge/page.h"
#include "merge/record.h"
#include "merge/scan.h"

/* Attribute number of pfa_sync_state. */
#define STATE_LAST_SUCCESS 3

/* A record of the page, or one that may become one. */
typedef struct Row
{
	PfaScanRow scan;
	const PfaOverlay *layers;
	int nlayers;
} Row;

typedef struct Listing
{
	const PfaPageRequest *request;
	Snapshot snapshot;
	PfaOverlays overlays;
	PfaSortKey after;
	bool has_after;

	/* records with overlays that move them, by id */
	PfaId *moved;
	int nmoved;

	/* those of them that the filter may let through */
	PfaId *candidates;
	int ncandidates;

	/* those of them that the filter lets through, in order */
	Row *passed;
	int npassed;
	int nelsewhere; /* and that are on other pages: not among passed */

	Row *rows; /* one more than the page has, if there is one */
	int nrows;
	int64 total;
} Listing;

/* ---- moved records ---- */

static uint64
moving_columns(const PfaPageRequest *request)
{
	uint64 columns = request->filter.columns;

	if (request->sort.column != NULL)
		columns |= PFA_TOUCHED_COLUMN(
			pfa_mirror_column_number(request->sort.column));
	return columns;
}

/* The state that pfa_merge gives the record, if these are all its overlays. */
static PfaSyncState
top_state(const PfaOverlay *layers, int nlayers)
{
	int top = nlayers - 1;

	while (top > 0 && layers[top].state == PFA_STATE_SYNCED)
		top--;
	return layers[top].state;
}

typedef enum Verdict
{
	VERDICT_NO,
	VERDICT_OPEN, /* the record has to be read */
	VERDICT_YES
} Verdict;

/*
 * What a record's overlays alone say of whether it passes, if there is one: the
 * topmost value of a column is the merged one.
 */
static Verdict
judge_overlays(const PfaFilter *filter, const PfaOverlay *layers, int nlayers)
{
	Verdict verdict = filter->search == NULL ? VERDICT_YES : VERDICT_OPEN;

	/* With a filter by state all overlays are here. */
	if (filter->states != 0 &&
		!pfa_filter_state(filter, top_state(layers, nlayers)))
		return VERDICT_NO;
	for (int i = 0; i < filter->nconditions; i++)
	{
		const PfaCondition *condition = &filter->conditions[i];
		const char *key = condition->column->key;
		JsonbValue buffer;
		JsonbValue *value = NULL;
		Datum datum;
		bool isnull;

		for (int j = nlayers - 1; j >= 0 && value == NULL; j--)
		{
			if (layers[j].state != PFA_STATE_SYNCED)
				value = getKeyJsonValueFromContainer(&layers[j].delta->root,
													 key, strlen(key), &buffer);
		}
		if (value == NULL)
		{
			verdict = VERDICT_OPEN;
			continue;
		}
		datum = pfa_mirror_derive_column(condition->column, value, &isnull);
		if (!pfa_condition_matches(condition, datum, isnull))
			return VERDICT_NO;
	}
	return verdict;
}

static Datum
merged_column(const PfaMerged *merged, const PfaMirrorColumn *column,
			  bool *isnull)
{
	const PfaJsonbItem *item = pfa_jsonb_find(merged->items, merged->nitems,
											  column->key);
	JsonbValue value;

	if (item == NULL)
		return pfa_mirror_derive_column(column, NULL, isnull);
	pfa_jsonb_get_value(item, &value);
	return pfa_mirror_derive_column(column, &value, isnull);
}

static bool
merged_matches(const PfaFilter *filter, const PfaMerged *merged)
{
	if (!pfa_filter_state(filter,
						  merged->top == NULL ? PFA_STATE_PRISTINE :
												merged->top->state))
		return false;
	for (int i = 0; i < filter->nconditions; i++)
	{
		bool isnull;
		Datum value = merged_column(merged, filter->conditions[i].column,
									&isnull);

		if (!pfa_condition_matches(&filter->conditions[i], value, isnull))
			return false;
	}
	return pfa_filter_search_items(filter, merged->items, merged->nitems);
}

/* Merge the record, and keep it if it passes. */
static void
judge_moved(Listing *listing, const PfaMirrorRecord *record,
			const PfaOverlay *layers, int nlayers)
{
	const PfaPageRequest *request = listing->request;
	PfaMerged merged;
	Row *row;

	pfa_merge(&merged, request->organization_id, &record->data->root, layers,
			  nlayers);
	if (!merged_matches(&request->filter, &merged))
		return;
	row = &listing->passed[listing->npassed++];
	row->scan.record = *record;
	row->layers = layers;
	row->nlayers = nlayers;
	row->scan.key.id = record->id;
	row->scan.key.id_len = record->id_len;
	row->scan.key.value = (Datum) 0;
	row->scan.key.isnull = false;
	if (request->sort.column != NULL)
		row->scan.key.value = merged_column(&merged, request->sort.column,
											&row->scan.key.isnull);
}

/* Whether one of the texts can be among those that the change gives a column. */
static bool
can_be_among(const PfaCondition *condition, uint64 touched)
{
	if (condition->texts == NULL)
		return true;
	for (int i = 0; i < condition->nvalues; i++)
	{
		if ((touched & condition->texts[i]) == condition->texts[i])
			return true;
	}
	return false;
}

/*
 * Whether a record with these changes can meet the conditions on texts, as far
 * as their masks tell: one of the changes to a column must give it one of the
 * texts.
 */
static bool
can_match(const PfaFilter *filter, const PfaMove *moves, int n)
{
	for (int i = 0; i < filter->nconditions; i++)
	{
		const PfaCondition *condition = &filter->conditions[i];
		uint64 column = PFA_TOUCHED_COLUMN(
			pfa_mirror_column_number(condition->column));
		bool touched = false;
		bool possible = false;

		for (int j = 0; j < n; j++)
		{
			if ((moves[j].touched & column) == 0)
				continue;
			touched = true;
			possible |= can_be_among(condition, moves[j].touched);
		}
		if (touched && !possible)
			return false;
	}
	return true;
}

static void
make_room(Listing *listing, int n)
{
	listing->moved = palloc(sizeof(PfaId) * Max(n, 1));
	listing->candidates = palloc(sizeof(PfaId) * Max(n, 1));
}

static void
add_moved(Listing *listing, PfaId id, bool candidate)
{
	listing->moved[listing->nmoved++] = id;
	if (candidate)
		listing->candidates[listing->ncandidates++] = id;
}

/* With a filter by state: any change gives a record another one. */
static void
find_changed(Listing *listing)
{
	PfaOverlayList list = {0};
	int end;

	pfa_overlays_all(&listing->overlays, &list);
	make_room(listing, list.n);
	for (int first = 0; first < list.n; first = end)
	{
		PfaId id = {list.items[first].pfa_id, list.items[first].id_len};

		end = pfa_overlay_end(&list, first);
		add_moved(listing, id,
				  judge_overlays(&listing->request->filter, &list.items[first],
								 end - first) != VERDICT_NO);
	}
}

static void
find_moved(Listing *listing)
{
	PfaMoveList list = {0};
	int end;

	pfa_overlays_moving(&listing->overlays, moving_columns(listing->request),
						&list);
	make_room(listing, list.n);
	for (int first = 0; first < list.n; first = end)
	{
		end = pfa_move_end(&list, first);
		add_moved(listing, list.items[first].id,
				  can_match(&listing->request->filter, &list.items[first],
							end - first));
	}
}

static int
compare_passed(const void *a, const void *b, void *arg)
{
	return pfa_sort_compare(arg, &((const Row *) a)->scan.key,
							&((const Row *) b)->scan.key);
}

/* Whether the record cannot be on the page, by its id. */
static bool
is_elsewhere(const Listing *listing, const PfaScanResult *unmoved,
			 const PfaOverlay *overlay)
{
	const PfaSort *sort = &listing->request->sort;
	PfaSortKey key = {0};

	if (sort->column != NULL)
		return false;
	key.id = overlay->pfa_id;
	key.id_len = overlay->id_len;
	if (listing->has_after &&
		pfa_sort_compare(sort, &key, &listing->after) <= 0)
		return true;
	return unmoved->nrows > listing->request->page_size &&
		pfa_sort_compare(sort, &key, &unmoved->rows[unmoved->nrows - 1].key) >
		0;
}

/*
 * Judge the candidates, each with all overlays that it has.  Many pass by what
 * the user has changed, and are on other pages: these are only counted.
 */
static void
judge_candidates(Listing *listing, const PfaScanResult *unmoved)
{
	const PfaFilter *filter = &listing->request->filter;
	PfaOverlayList list = {0};
	PfaMirrorReader reader;
	int end;

	if (listing->ncandidates == 0)
		return;
	pfa_overlays_of_records(&listing->overlays, listing->candidates,
							listing->ncandidates, &list);
	pfa_mirror_reader_open(&reader, listing->request->organization_id,
						   listing->snapshot);
	listing->passed = palloc(sizeof(Row) * listing->ncandidates);
	for (int first = 0; first < list.n; first = end)
	{
		const PfaOverlay *layers = &list.items[first];
		PfaMirrorRecord record;
		Verdict verdict;

		CHECK_FOR_INTERRUPTS();
		end = pfa_overlay_end(&list, first);
		verdict = judge_overlays(filter, layers, end - first);
		if (verdict == VERDICT_NO)
			continue;
		if (verdict == VERDICT_YES && is_elsewhere(listing, unmoved, layers))
			listing->nelsewhere += pfa_mirror_reader_exists(&reader,
															layers->pfa_id,
															layers->id_len);
		else if (pfa_mirror_reader_find(&reader, &record, layers->pfa_id,
										layers->id_len))
			judge_moved(listing, &record, layers, end - first);
	}
	pfa_mirror_reader_close(&reader);
	qsort_arg(listing->passed, listing->npassed, sizeof(Row), compare_passed,
			  unconstify(PfaSort *, &listing->request->sort));
}

/* ---- the page ---- */

/* Mix what was moved with what was not, both in order. */
static void
mix(Listing *listing, const PfaScanResult *unmoved)
{
	const PfaSort *sort = &listing->request->sort;
	int limit = listing->request->page_size + 1;
	int i = 0;
	int j = 0;

	while (listing->has_after && i < listing->npassed &&
		   pfa_sort_compare(sort, &listing->passed[i].scan.key,
							&listing->after) <= 0)
		i++;
	listing->rows = palloc0(sizeof(Row) * limit);
	while (listing->nrows < limit &&
		   (i < listing->npassed || j < unmoved->nrows))
	{
		if (j == unmoved->nrows ||
			(i < listing->npassed &&
			 pfa_sort_compare(sort, &listing->passed[i].scan.key,
							  &unmoved->rows[j].key) < 0))
			listing->rows[listing->nrows++] = listing->passed[i++];
		else
			listing->rows[listing->nrows++].scan = unmoved->rows[j++];
	}
}

static void
find_rows(Listing *listing)
{
	const PfaPageRequest *request = listing->request;
	PfaScanRequest scan = {0};
	PfaScanResult unmoved = {0};

	if (request->filter.states != 0)
		find_changed(listing);
	else
		find_moved(listing);
	/* All that is not pristine has been moved. */
	if (pfa_filter_state(&request->filter, PFA_STATE_PRISTINE))
	{
		scan.organization_id = request->organization_id;
		scan.filter = &request->filter;
		scan.sort = &request->sort;
		scan.after = listing->has_after ? &listing->after : NULL;
		scan.limit = request->page_size + 1;
		scan.excluded = listing->moved;
		scan.nexcluded = listing->nmoved;
		scan.snapshot = listing->snapshot;
		pfa_scan(&scan, &unmoved);
	}
	judge_candidates(listing, &unmoved);
	listing->total = unmoved.matching + listing->npassed + listing->nelsewhere;
	mix(listing, &unmoved);
}

/* ---- overlays of the page ---- */

static int
compare_row_ids(const void *a, const void *b)
{
	const Row *x = *(Row *const *) a;
	const Row *y = *(Row *const *) b;

	return pfa_compare_ids(x->scan.record.id, x->scan.record.id_len,
						   y->scan.record.id, y->scan.record.id_len);
}

/* Rows of the page that were not moved may have overlays, too. */
static void
find_overlays(Listing *listing, int nrows)
{
	Row **plain = palloc(sizeof(Row *) * Max(nrows, 1));
	PfaId *ids = palloc(sizeof(PfaId) * Max(nrows, 1));
	PfaOverlayList list = {0};
	int n = 0;
	int first = 0;

	for (int i = 0; i < nrows; i++)
	{
		if (listing->rows[i].layers == NULL)
			plain[n++] = &listing->rows[i];
	}
	qsort(plain, n, sizeof(Row *), compare_row_ids);
	for (int i = 0; i < n; i++)
	{
		ids[i].bytes = plain[i]->scan.record.id;
		ids[i].len = plain[i]->scan.record.id_len;
	}
	pfa_overlays_of_records(&listing->overlays, ids, n, &list);
	for (int i = 0; i < n && first < list.n; i++)
	{
		if (pfa_compare_ids(ids[i].bytes, ids[i].len, list.items[first].pfa_id,
							list.items[first].id_len) != 0)
			continue;
		plain[i]->layers = &list.items[first];
		plain[i]->nlayers = pfa_overlay_end(&list, first) - first;
		first += plain[i]->nlayers;
	}
}

/* ---- the answer ---- */

/* Room of the answer beside its records and the cursor. */
#define ANSWER_ROOM 512

static const char *const answer_keys[] = {"data", "pagination", "lastSyncedAt"};
static const char *const pagination_keys[] = {"pageSize", "nextCursor",
											  "totalRecords"};

static PfaElement *
prepare_elements(Listing *listing, int nrows, Size *room)
{
	PfaElement *elements = palloc(sizeof(PfaElement) * Max(nrows, 1));

	for (int i = 0; i < nrows; i++)
	{
		Row *row = &listing->rows[i];

		pfa_element_prepare(&elements[i], listing->request->organization_id,
							&row->scan.record, row->layers, row->nlayers);
		*room += elements[i].room + sizeof(JEntry);
	}
	pfa_jsonb_check_size(*room);
	return elements;
}

static Size
write_data(char *out, const PfaElement *elements, int n)
{
	PfaJsonbTarget target;

	pfa_jsonb_begin_array(&target, out, n);
	for (int i = 0; i < n; i++)
		pfa_jsonb_placed(&target,
						 pfa_element_write(&elements[i],
										   pfa_jsonb_place(&target)));
	return pfa_jsonb_end(&target);
}

static Size
write_pagination(char *out, const Listing *listing, const char *next)
{
	PfaJsonbTarget target;
	PfaJsonbItem item;

	pfa_jsonb_begin_object(&target, out, pagination_keys,
						   lengthof(pagination_keys));
	pfa_jsonb_set_numeric(&item, NULL,
						  int64_to_numeric(listing->request->page_size));
	pfa_jsonb_put(&target, &item);
	if (next == NULL)
		pfa_jsonb_set_null(&item, NULL);
	else
		pfa_jsonb_set_string(&item, NULL, next, strlen(next));
	pfa_jsonb_put(&target, &item);
	pfa_jsonb_set_numeric(&item, NULL, int64_to_numeric(listing->total));
	pfa_jsonb_put(&target, &item);
	return pfa_jsonb_end(&target);
}

static void
set_last_synced(Listing *listing, PfaJsonbItem *item)
{
	const char *organization_id = listing->request->organization_id;
	PfaRead read;
	NullableDatum key = pfa_string_value(organization_id);
	bool isnull = true;
	Datum time = (Datum) 0;

	pfa_read_open(&read, PFA_REL_SYNC_STATE, PFA_REL_SYNC_STATE_KEY,
				  listing->snapshot);
	pfa_read_seek(&read, &key, 1);
	if (pfa_read_next(&read))
		time = slot_getattr(read.slot, STATE_LAST_SUCCESS, &isnull);
	if (isnull)
		pfa_jsonb_set_null(item, NULL);
	else
	{
		const char *text = pfa_merge_time(DatumGetTimestampTz(time));

		pfa_jsonb_set_string(item, NULL, text, strlen(text));
	}
	pfa_read_close(&read);
}

/* What a cursor is good for. */
static uint64
hash_listing(const PfaPageRequest *request)
{
	const unsigned char *organization = (const unsigned char *)
											request->organization_id;

	return hash_combine64(hash_bytes_extended(organization,
											  strlen(request->organization_id),
											  0),
						  hash_bytes_extended((const unsigned char *) &request
												  ->filters->root,
											  VARSIZE(request->filters) -
												  VARHDRSZ,
											  0));
}

/* The answer is written in one piece, each record straight to its place. */
static Jsonb *
make_answer(Listing *listing, int nrows, const char *next, MemoryContext caller)
{
	Size room = ANSWER_ROOM + (next == NULL ? 0 : strlen(next));
	PfaElement *elements = prepare_elements(listing, nrows, &room);
	Jsonb *answer = MemoryContextAlloc(caller, VARHDRSZ + room);
	PfaJsonbTarget target;
	PfaJsonbItem item;

	pfa_jsonb_begin_object(&target, VARDATA(answer), answer_keys,
						   lengthof(answer_keys));
	pfa_jsonb_placed(&target,
					 write_data(pfa_jsonb_place(&target), elements, nrows));
	pfa_jsonb_placed(&target,
					 write_pagination(pfa_jsonb_place(&target), listing, next));
	set_last_synced(listing, &item);
	pfa_jsonb_put(&target, &item);
	SET_VARSIZE(answer, VARHDRSZ + pfa_jsonb_end(&target));
	return answer;
}

Jsonb *
pfa_page_get(const PfaPageRequest *request)
{
	uint64 hash = hash_listing(request);
	Listing listing = {0};
	char *next = NULL;
	int nrows;
	/* Freed before the answer becomes text, which then has its memory. */
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(caller, "pfa_vanguard page",
											   ALLOCSET_DEFAULT_SIZES);
	Jsonb *answer;

	pfa_keep_memory();
	MemoryContextSwitchTo(work);
	listing.request = request;
	listing.snapshot = GetActiveSnapshot();
	listing.has_after = request->cursor != NULL;
	if (listing.has_after)
		pfa_cursor_decode(&request->sort, hash, request->cursor,
						  &listing.after);
	pfa_overlays_open(&listing.overlays, request->organization_id,
					  request->user_id, listing.snapshot);
	find_rows(&listing);
	nrows = Min(listing.nrows, request->page_size);
	if (listing.nrows > nrows)
		next = pfa_cursor_encode(&request->sort, hash,
								 &listing.rows[nrows - 1].scan.key);
	/* With a filter by state, a row without overlays has none. */
	if (request->filter.states == 0)
		find_overlays(&listing, nrows);
	pfa_overlays_close(&listing.overlays);
	answer = make_answer(&listing, nrows, next, caller);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	return answer;
}
