/*
 * overlay.c
 *	  Modifications, read for laying them over the mirror.
 *
 * A list of records asks two questions.  Which modifications move a record in
 * or out of the filter, or to another place in the order?  The column touched
 * answers it: it says which columns a delta can change, and its index is read
 * combination by combination, skipping from one to the next, so that a thousand
 * drafts of dates cost a list by category next to nothing.  Nor do drafts of
 * categories cost it much: the index has their records' ids, too, and mostly
 * enough of the texts to tell them from the one asked for.  And which
 * modifications do the records of this page have?  That is a merge of their
 * ids with an index in the order of ids, with a jump where the gap is wide.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/mirror.h"
#include "catalog/overlay.h"

/* Entries read in vain before the index is asked for the next id instead. */
#define ROWS_BEFORE_SEEK 16

const char *const pfa_state_names[PFA_NSTATES] =
	{[PFA_STATE_PRISTINE] = "pristine",
	 [PFA_STATE_MODIFIED] = "modified",
	 [PFA_STATE_PENDING_SYNC] = "pending_sync",
	 [PFA_STATE_SYNCING] = "syncing",
	 [PFA_STATE_SYNCED] = "synced",
	 [PFA_STATE_CONFLICT] = "conflict",
	 [PFA_STATE_ERROR] = "error"};

void
pfa_overlays_open(PfaOverlays *overlays, const char *organization_id,
				  const char *user_id, Snapshot snapshot)
{
	memset(overlays, 0, sizeof(*overlays));
	overlays->organization = pfa_string_value(organization_id);
	overlays->user = pfa_string_value(user_id);
	overlays->snapshot = snapshot;
	overlays->context = CurrentMemoryContext;
}

void
pfa_overlays_close(PfaOverlays *overlays)
{
	PfaRead *reads[] = {&overlays->draft, &overlays->draft_touched,
						&overlays->committed, &overlays->committed_touched};

	for (int i = 0; i < lengthof(reads); i++)
	{
		if (reads[i]->rel != NULL)
			pfa_read_close(reads[i]);
	}
}

static PfaRead *
open_read(PfaOverlays *overlays, PfaRead *read, PfaRelation index)
{
	MemoryContext caller;

	if (read->rel == NULL)
	{
		caller = MemoryContextSwitchTo(overlays->context);
		pfa_read_open(read, PFA_REL_MODIFICATION, index, overlays->snapshot);
		MemoryContextSwitchTo(caller);
	}
	return read;
}

/* ---- rows ---- */

static PfaSyncState
parse_state(Datum value)
{
	text *state = DatumGetTextPP(value);

	for (int i = 0; i < PFA_NSTATES; i++)
	{
		if (strlen(pfa_state_names[i]) == VARSIZE_ANY_EXHDR(state) &&
			memcmp(pfa_state_names[i], VARDATA_ANY(state),
				   VARSIZE_ANY_EXHDR(state)) == 0)
			return (PfaSyncState) i;
	}
	elog(ERROR, "unexpected sync_state");
	return PFA_STATE_ERROR; /* not reached */
}

static const char *
copy_text(Datum value, uint32 *len)
{
	text *source = DatumGetTextPP(value);

	*len = VARSIZE_ANY_EXHDR(source);
	return pnstrdup(VARDATA_ANY(source), *len);
}

/* An array of n items, with room for one more. */
static void *
grow(void *items, int n, int *room, Size size)
{
	if (n < *room)
		return items;
	*room = Max(8, *room * 2);
	return n == 0 ? palloc(size * *room) : repalloc(items, size * *room);
}

static void
add_overlay(PfaOverlayList *list, TupleTableSlot *slot)
{
	PfaOverlay *overlay;

	list->items = grow(list->items, list->n, &list->room, sizeof(PfaOverlay));
	overlay = &list->items[list->n++];
	slot_getallattrs(slot);
	overlay->modification_id = DatumGetInt64(
		slot->tts_values[PFA_MODIFICATION_ID - 1]);
	overlay->pfa_id = copy_text(slot->tts_values[PFA_MODIFICATION_PFA_ID - 1],
								&overlay->id_len);
	overlay->user_id = copy_text(slot->tts_values[PFA_MODIFICATION_USER_ID - 1],
								 &overlay->user_len);
	overlay->delta = DatumGetJsonbPCopy(
		slot->tts_values[PFA_MODIFICATION_DELTA - 1]);
	overlay->state = parse_state(
		slot->tts_values[PFA_MODIFICATION_SYNC_STATE - 1]);
	overlay->updated_at = DatumGetTimestampTz(
		slot->tts_values[PFA_MODIFICATION_UPDATED_AT - 1]);
	overlay->committed_at =
		slot->tts_isnull[PFA_MODIFICATION_COMMITTED_AT - 1] ?
		0 :
		DatumGetTimestampTz(
			slot->tts_values[PFA_MODIFICATION_COMMITTED_AT - 1]);
	overlay->touched = (uint64) DatumGetInt64(
		slot->tts_values[PFA_MODIFICATION_TOUCHED - 1]);
}

static int
compare_overlays(const void *a, const void *b)
{
	const PfaOverlay *x = a;
	const PfaOverlay *y = b;
	int order = pfa_compare_ids(x->pfa_id, x->id_len, y->pfa_id, y->id_len);

	if (order != 0)
		return order;
	if ((x->state == PFA_STATE_MODIFIED) != (y->state == PFA_STATE_MODIFIED))
		return x->state == PFA_STATE_MODIFIED ? 1 : -1;
	if (x->committed_at != y->committed_at)
		return x->committed_at < y->committed_at ? -1 : 1;
	return x->modification_id < y->modification_id ?
		-1 :
		x->modification_id > y->modification_id;
}

static void
sort_overlays(PfaOverlayList *list)
{
	if (list->n > 1)
		qsort(list->items, list->n, sizeof(PfaOverlay), compare_overlays);
}

static void
add_all(PfaOverlayList *list, PfaRead *read)
{
	while (pfa_read_next(read))
	{
		CHECK_FOR_INTERRUPTS();
		add_overlay(list, read->slot);
	}
}

/* ---- questions ---- */

void
pfa_overlays_of_record(PfaOverlays *overlays, const char *id, uint32 id_len,
					   PfaOverlayList *list)
{
	NullableDatum values[3] = {overlays->organization};
	PfaRead *read;

	read = open_read(overlays, &overlays->committed,
					 PFA_REL_MODIFICATION_COMMITTED);
	values[1] = pfa_text_value(id, id_len);
	pfa_read_seek(read, values, 2);
	add_all(list, read);
	sort_overlays(list);

	read = open_read(overlays, &overlays->draft, PFA_REL_MODIFICATION_DRAFT);
	values[2] = values[1];
	values[1] = overlays->user;
	pfa_read_seek(read, values, 3);
	add_all(list, read);
}

static void
seek_id(PfaRead *read, NullableDatum *values, int nvalues, const PfaId *id)
{
	values[nvalues - 1] = pfa_text_value(id->bytes, id->len);
	pfa_read_seek_from(read, values, nvalues, false);
}

/* Merge ids with a read whose last value is that of the id. */
static void
add_matching(PfaOverlayList *list, PfaRead *read, NullableDatum *values,
			 int nvalues, const PfaId *ids, int n)
{
	int i = 0;
	int passed = 0;

	seek_id(read, values, nvalues, &ids[0]);
	while (pfa_read_next_entry(read))
	{
		text *id = DatumGetTextPP(pfa_read_entry_value(read, nvalues));
		const char *bytes = VARDATA_ANY(id);
		uint32 len = VARSIZE_ANY_EXHDR(id);

		CHECK_FOR_INTERRUPTS();
		while (i < n &&
			   pfa_compare_ids(ids[i].bytes, ids[i].len, bytes, len) < 0)
			i++;
		if (i == n)
			break;
		if (ids[i].len == len && memcmp(ids[i].bytes, bytes, len) == 0)
		{
			if (pfa_read_fetch(read))
				add_overlay(list, read->slot);
			passed = 0;
		}
		else if (++passed > ROWS_BEFORE_SEEK)
		{
			seek_id(read, values, nvalues, &ids[i]);
			passed = 0;
		}
	}
}

void
pfa_overlays_of_records(PfaOverlays *overlays, const PfaId *ids, int n,
						PfaOverlayList *list)
{
	NullableDatum values[3] = {overlays->organization};

	if (n == 0)
		return;
	add_matching(list,
				 open_read(overlays, &overlays->committed,
						   PFA_REL_MODIFICATION_COMMITTED),
				 values, 2, ids, n);
	values[1] = overlays->user;
	add_matching(list,
				 open_read(overlays, &overlays->draft,
						   PFA_REL_MODIFICATION_DRAFT),
				 values, 3, ids, n);
	sort_overlays(list);
}

/* A read of what touches columns, by an index whose last key is touched. */
typedef struct Touching
{
	PfaRead *read;
	NullableDatum values[3];
	int nvalues;
	uint64 columns;
	uint64 touched; /* of the entry read last */
} Touching;

static void
seek_touching(Touching *touching, int64 after)
{
	touching->values[touching->nvalues - 1].value = Int64GetDatum(after);
	pfa_read_seek_from(touching->read, touching->values, touching->nvalues,
					   true);
}

static void
begin_touching(Touching *touching, PfaOverlays *overlays, bool drafts,
			   uint64 columns)
{
	uint64 lowest;

	memset(touching, 0, sizeof(*touching));
	touching->columns = columns;
	touching->nvalues = drafts ? 3 : 2;
	touching->read = drafts ? open_read(overlays, &overlays->draft_touched,
										PFA_REL_MODIFICATION_DRAFT_TOUCHED) :
							  open_read(overlays, &overlays->committed_touched,
										PFA_REL_MODIFICATION_COMMITTED_TOUCHED);
	touching->values[0] = overlays->organization;
	if (drafts)
		touching->values[1] = overlays->user;
	/* Nothing smaller touches one of the columns. */
	lowest = (columns & PFA_TOUCHED_ANY) != 0 ? 0 : columns & (~columns + 1);
	seek_touching(touching, (int64) ((PFA_TOUCHED_ANY | lowest) - 1));
}

/*
 * The next entry that touches the columns.  One that does not stands for all of
 * its combination, whatever the texts: the read jumps behind it.
 */
static bool
next_touching(Touching *touching)
{
	while (pfa_read_next_entry(touching->read))
	{
		CHECK_FOR_INTERRUPTS();
		touching->touched = (uint64) DatumGetInt64(
			pfa_read_entry_value(touching->read, touching->nvalues));
		if ((touching->touched & touching->columns) != 0)
			return true;
		seek_touching(touching,
					  (int64) (touching->touched | PFA_TOUCHED_TEXTS));
	}
	return false;
}

void
pfa_overlays_touching(PfaOverlays *overlays, uint64 columns,
					  PfaOverlayList *list)
{
	Touching touching;

	if (columns == 0)
		return;
	for (int drafts = 0; drafts <= 1; drafts++)
	{
		begin_touching(&touching, overlays, drafts == 1, columns);
		while (next_touching(&touching))
		{
			if (pfa_read_fetch(touching.read))
				add_overlay(list, touching.read->slot);
		}
	}
	sort_overlays(list);
}

/* The first bytes of an id as a number, which orders as they do. */
static uint64
make_prefix(const PfaId *id)
{
	uint64 prefix = 0;

	memcpy(&prefix, id->bytes, Min(id->len, sizeof(prefix)));
	return pg_ntoh64(prefix);
}

static void
add_move(PfaMoveList *list, const Touching *touching)
{
	PfaMove *move;

	list->items = grow(list->items, list->n, &list->room, sizeof(PfaMove));
	move = &list->items[list->n++];
	move->id.bytes = copy_text(pfa_read_entry_value(touching->read,
													touching->nvalues + 1),
							   &move->id.len);
	move->prefix = make_prefix(&move->id);
	move->touched = touching->touched;
}

static inline int
compare_moves(const PfaMove *a, const PfaMove *b)
{
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix ? -1 : 1;
	return pfa_compare_ids(a->id.bytes, a->id.len, b->id.bytes, b->id.len);
}

/* qsort with the comparison in line. */
#define ST_SORT          sort_moves
#define ST_ELEMENT_TYPE  PfaMove
#define ST_COMPARE(a, b) compare_moves(a, b)
#define ST_SCOPE         static
#define ST_DEFINE
#include "lib/sort_template.h"

void
pfa_overlays_moving(PfaOverlays *overlays, uint64 columns, PfaMoveList *list)
{
	Touching touching;

	if (columns == 0)
		return;
	for (int drafts = 0; drafts <= 1; drafts++)
	{
		begin_touching(&touching, overlays, drafts == 1, columns);
		while (next_touching(&touching))
		{
			if (pfa_read_visible(touching.read))
				add_move(list, &touching);
		}
	}
	if (list->n > 1)
		sort_moves(list->items, list->n);
}

void
pfa_overlays_all(PfaOverlays *overlays, PfaOverlayList *list)
{
	NullableDatum values[2] = {overlays->organization, overlays->user};
	PfaRead *read;

	read = open_read(overlays, &overlays->committed,
					 PFA_REL_MODIFICATION_COMMITTED);
	pfa_read_seek(read, values, 1);
	add_all(list, read);
	read = open_read(overlays, &overlays->draft, PFA_REL_MODIFICATION_DRAFT);
	pfa_read_seek(read, values, 2);
	add_all(list, read);
	sort_overlays(list);
}
