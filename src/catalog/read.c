/*
 * read.c
 *	  Rows of our tables read by B-tree, past the executor.
 *
 * A look-up of one row through SPI costs several times the look-up itself, and
 * pfa_record does four of them, pfa_get hundreds.  So the calls that users make
 * by the thousand read indexes themselves.
 *
 * They do it below index_getnext_tid, too, which puts each entry to each key
 * and looks through a whole page when it is only asked for its first match.
 * Here the entries of a leaf page that match are found by binary search, copied
 * with the page, and taken as they come: as they are sorted, all between the
 * first and the last match.  A count then costs little more than reading the
 * pages from memory.  And whoever seeks again and again finds the leaves in the
 * page above them, which is copied, too, without a descent for each.
 *
 * The rules are those of an index-only scan of nbtree:
 * - Whatever the snapshot sees is in the index when a page is copied.  What is
 *	 inserted, split off or deleted later is of no interest to it.
 * - The page stays pinned while its entries are in use, because VACUUM, which
 *	 waits for that pin, may else give the places of dead rows to new ones.
 * - Pages are left to the right only, by the link that was copied with them.
 *	 What a page says of those below it may be old: from where it leads, keys
 *	 that have moved since are found to the right.  A page that was deleted
 *	 stays what it was as long as the snapshot lives.
 * - A page is locked against phantoms, for SERIALIZABLE, before it is read.
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupmacs.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "catalog/read.h"
#include "compat.h"

/* ---- opening ---- */

/* Somebody has made an index of ours anew, in another way. */
static void
report_index(const PfaRead *read)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_WRONG_OBJECT_TYPE),
		 errmsg("index \"%s\" cannot be used",
				RelationGetRelationName(read->index)),
		 errdetail(
			 "It is not a B-tree with the columns that it has in the extension's script."),
		 errhint("Create it again as the script does.")));
}

/* As nbtree does where its pages lead nowhere. */
static void
report_corruption(const PfaRead *read)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is corrupted",
					RelationGetRelationName(read->index)),
			 errhint("REINDEX it.")));
}

/* Leading columns of varying length. */
static int
count_varlena(Relation index)
{
	TupleDesc desc = RelationGetDescr(index);
	int n = 0;

	while (n < desc->natts && TupleDescAttr(desc, n)->attlen == -1)
		n++;
	return n;
}

/* Leading columns that are texts in byte order. */
static int
count_texts(Relation index)
{
	int n = 0;

	while (n < IndexRelationGetNumberOfKeyAttributes(index) &&
		   index->rd_opfamily[n] == TEXT_BTREE_FAM_OID &&
		   TupleDescAttr(RelationGetDescr(index), n)->attlen == -1 &&
		   index->rd_indcollation[n] == C_COLLATION_OID &&
		   index->rd_indoption[n] == 0)
		n++;
	return n;
}

void
pfa_read_open_index(PfaRead *read, Oid table, Oid index, Snapshot snapshot)
{
	memset(read, 0, sizeof(*read));
	read->rel = table_open(table, AccessShareLock);
	read->index = index_open(index, AccessShareLock);
	if (read->index->rd_rel->relam != BTREE_AM_OID)
		report_index(read);
	read->snapshot = snapshot;
	read->slot = table_slot_create(read->rel, NULL);
	read->fetch = table_index_fetch_begin(read->rel);
	read->key = _bt_mkscankey(read->index, NULL);
	/* Which a key that is made without a tuple does not know. */
	_bt_metaversion(read->index, &read->key->heapkeyspace,
					&read->key->allequalimage);
	read->nvarlena = count_varlena(read->index);
	read->ntexts = count_texts(read->index);
	read->skip_dead = !TransactionStartedDuringRecovery();
	read->page = (Page) palloc(BLCKSZ);
	read->buffer = InvalidBuffer;
	read->vmbuffer = InvalidBuffer;
	read->block = InvalidBlockNumber;
	read->parent = InvalidBlockNumber;
}

void
pfa_read_open(PfaRead *read, PfaRelation table, PfaRelation index,
			  Snapshot snapshot)
{
	pfa_read_open_index(read, pfa_relation_oid(table), pfa_relation_oid(index),
						snapshot);
}

static void
leave_page(PfaRead *read)
{
	if (BufferIsValid(read->buffer))
		ReleaseBuffer(read->buffer);
	read->buffer = InvalidBuffer;
}

void
pfa_read_close(PfaRead *read)
{
	leave_page(read);
	pgstat_count_index_tuples(read->index, read->nentries);
	if (BufferIsValid(read->vmbuffer))
		ReleaseBuffer(read->vmbuffer);
	table_index_fetch_end(read->fetch);
	ExecDropSingleTupleTableSlot(read->slot);
	pfree(read->key);
	pfree(read->page);
	if (read->inner != NULL)
		pfree(read->inner);
	index_close(read->index, AccessShareLock);
	table_close(read->rel, AccessShareLock);
}

/* ---- pages ---- */

static Buffer
get_page(PfaRead *read, BlockNumber block)
{
	Buffer buffer = _bt_getbuf(read->index, block, BT_READ);

	pfa_test_for_old_snapshot(read->snapshot, read->index,
							  BufferGetPage(buffer));
	return buffer;
}

/* What is used of it: nothing is between lower and upper. */
static void
copy_page(Page to, Page from)
{
	LocationIndex lower = ((PageHeader) from)->pd_lower;
	LocationIndex upper = ((PageHeader) from)->pd_upper;

	memcpy(to, from, lower);
	memcpy(to + upper, from + upper, BLCKSZ - upper);
}

/*
 * Be on the leaf, which is pinned and locked, and unlock it.  The whole of it
 * is copied even for one entry: a search in a page that is not in the
 * processor's cache waits for memory as often as it compares.
 */
static void
enter_page(PfaRead *read, Buffer buffer)
{
	Page page = BufferGetPage(buffer);

	PredicateLockPage(read->index, BufferGetBlockNumber(buffer),
					  read->snapshot);
	copy_page(read->page, page);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	read->buffer = buffer;
	read->first = P_FIRSTDATAKEY(BTPageGetOpaque(read->page));
	read->last = PageGetMaxOffsetNumber(read->page);
	/* The visibility map is read after the entry that it is asked for. */
	read->block = InvalidBlockNumber;
}

/* Go to the leaf that the key belongs on; false where the index is empty. */
static bool
descend(PfaRead *read)
{
	Buffer buffer;
	BTStack stack;

	leave_page(read);
	read->key->keysz = read->nsought;
	read->key->nextkey = read->after;
	stack = pfa_bt_search(read->index, read->rel, read->key, &buffer,
						  read->snapshot);
	pgstat_count_index_scan(read->index);
	if (!BufferIsValid(buffer) && IsolationIsSerializable())
	{
		/* Whoever inserted a first entry meanwhile did not see the lock. */
		PredicateLockRelation(read->index, read->snapshot);
		stack = pfa_bt_search(read->index, read->rel, read->key, &buffer,
							  read->snapshot);
	}
	read->parent = stack == NULL ? InvalidBlockNumber : stack->bts_blkno;
	read->inner_read = false;
	_bt_freestack(stack);
	if (!BufferIsValid(buffer))
		return false;
	enter_page(read, buffer);
	return true;
}

static bool
step_right(PfaRead *read)
{
	BlockNumber block = BTPageGetOpaque(read->page)->btpo_next;

	leave_page(read);
	while (block != P_NONE)
	{
		Buffer buffer;
		BTPageOpaque opaque;

		CHECK_FOR_INTERRUPTS();
		buffer = get_page(read, block);
		opaque = BTPageGetOpaque(BufferGetPage(buffer));
		if (!P_IGNORE(opaque))
		{
			enter_page(read, buffer);
			return true;
		}
		/* It is being deleted. */
		block = opaque->btpo_next;
		_bt_relbuf(read->index, buffer);
	}
	return false;
}

/* ---- places on the page ---- */

static const char *
entry_data(IndexTuple entry)
{
	return (const char *) entry + IndexInfoFindDataOffset(entry->t_info);
}

/*
 * Order of the first ncolumns of the key and an entry, as _bt_compare has it,
 * without the calls that it makes for each text to come to memcmp.
 */
static int
compare(PfaRead *read, Page page, int ncolumns, OffsetNumber at)
{
	ItemId item = PageGetItemId(page, at);
	IndexTuple entry = (IndexTuple) PageGetItem(page, item);
	bool pivot = BTreeTupleIsPivot(entry);
	const char *text = entry_data(entry);
	int n = IndexTupleHasNulls(entry) ? 0 : Min(ncolumns, read->nkeytexts);

	if (pivot)
		n = Min(n, BTreeTupleGetNAtts(entry, read->index));

	for (int i = 0; i < n; i++, text += VARSIZE_ANY(text))
	{
		const char *key = DatumGetPointer(read->key->scankeys[i].sk_argument);
		int order;

		text = (const char *) att_align_pointer(text, TYPALIGN_INT, -1, text);
		if (VARATT_IS_COMPRESSED(text))
			break;
		order = pfa_compare_ids(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key),
								VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
		if (order != 0)
			return order;
		/* What of a pivot is cut off may decide. */
		if (i == ncolumns - 1 && !pivot)
			return 0;
	}
	read->key->keysz = ncolumns;
	return _bt_compare(read->index, read->key, page, at);
}

/*
 * The first entry from low to before high that equals the key or is behind it,
 * or only the latter.
 */
static OffsetNumber
search(PfaRead *read, Page page, OffsetNumber low, OffsetNumber high,
	   int ncolumns, bool after)
{
	while (low < high)
	{
		OffsetNumber middle = low + (high - low) / 2;

		if (compare(read, page, ncolumns, middle) >= (after ? 0 : 1))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static OffsetNumber
find_place(PfaRead *read, int ncolumns, bool after)
{
	return search(read, read->page, read->first, read->last + 1, ncolumns,
				  after);
}

/* Whether what is looked for is behind all that is on the page. */
static bool
is_behind(PfaRead *read, Page page)
{
	return !P_RIGHTMOST(BTPageGetOpaque(page)) &&
		compare(read, page, read->nsought, P_HIKEY) >= (read->after ? 0 : 1);
}

/* Have a copy of the page above; false where it is no use any more. */
static bool
read_inner(PfaRead *read)
{
	Buffer buffer;
	Page page;
	BTPageOpaque opaque;

	if (read->inner_read || read->parent == InvalidBlockNumber)
		return read->inner_read;
	if (read->inner == NULL)
		read->inner = (Page)
			MemoryContextAlloc(GetMemoryChunkContext(read->page), BLCKSZ);
	buffer = get_page(read, read->parent);
	page = BufferGetPage(buffer);
	opaque = BTPageGetOpaque(page);
	if (!P_IGNORE(opaque) && opaque->btpo_level == 1)
	{
		copy_page(read->inner, page);
		read->inner_read = true;
	}
	else
		read->parent = InvalidBlockNumber;
	_bt_relbuf(read->index, buffer);
	return read->inner_read;
}

/* Go to a leaf by the page above it, which has the leaf, too. */
static void
go_down(PfaRead *read)
{
	OffsetNumber first = P_FIRSTDATAKEY(BTPageGetOpaque(read->inner));
	OffsetNumber at;
	ItemId item;
	BlockNumber block;

	/* The first one's key is minus infinity, whatever is there. */
	at = search(read, read->inner, first + 1,
				PageGetMaxOffsetNumber(read->inner) + 1, read->nsought,
				read->after);
	item = PageGetItemId(read->inner, at - 1);
	block = BTreeTupleGetDownLink((IndexTuple) PageGetItem(read->inner, item));
	leave_page(read);
	for (;;)
	{
		Buffer buffer = get_page(read, block);
		Page page = BufferGetPage(buffer);
		BTPageOpaque opaque = BTPageGetOpaque(page);

		if (!P_ISLEAF(opaque) || (P_IGNORE(opaque) && P_RIGHTMOST(opaque)))
			report_corruption(read);
		if (!P_IGNORE(opaque) && !is_behind(read, page))
		{
			enter_page(read, buffer);
			return;
		}
		block = opaque->btpo_next;
		_bt_relbuf(read->index, buffer);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Many seeks go forward, and not far: what is not on this page is on one that
 * the page above leads to.
 */
static bool
go_forward(PfaRead *read)
{
	if (!BufferIsValid(read->buffer) || read->first > read->last ||
		compare(read, read->page, read->nsought, read->first) <= 0)
		return false;
	if (!is_behind(read, read->page))
		return true;
	if (!read_inner(read) || is_behind(read, read->inner))
		return false;
	go_down(read);
	return true;
}

/*
 * Find where to go on, on a page further right.  That is its first entry, unless
 * a page that was deleted in between has left it keys from before what is sought.
 */
static void
find_begin(PfaRead *read)
{
	read->next = read->first;
	if (read->first <= read->last &&
		compare(read, read->page, read->nsought, read->first) >=
			(read->after ? 0 : 1))
		read->next = find_place(read, read->nsought, read->after);
}

/* Find the end of what matches, which may be on a page further right. */
static void
find_end(PfaRead *read)
{
	if (read->first > read->last ||
		compare(read, read->page, read->nequal, read->last) >= 0)
		read->end = read->last + 1;
	else
		read->end = find_place(read, read->nequal, true);
}

static void
seek(PfaRead *read, const NullableDatum *values, int nvalues, bool after)
{
	if (nvalues > IndexRelationGetNumberOfKeyAttributes(read->index))
		report_index(read);
	read->nkeytexts = Min(read->ntexts, nvalues);
	for (int i = nvalues - 1; i >= 0; i--)
	{
		ScanKey key = &read->key->scankeys[i];

		key->sk_argument = values[i].value;
		key->sk_flags &= ~SK_ISNULL;
		if (values[i].isnull)
		{
			key->sk_flags |= SK_ISNULL;
			read->nkeytexts = Min(read->nkeytexts, i);
		}
	}
	read->nsought = nvalues;
	read->after = after;
	read->ntids = 0;
	if (go_forward(read) || descend(read))
	{
		read->next = find_place(read, nvalues, after);
		find_end(read);
	}
}

void
pfa_read_seek(PfaRead *read, const NullableDatum *values, int nvalues)
{
	read->nequal = nvalues;
	seek(read, values, nvalues, false);
}

void
pfa_read_seek_from(PfaRead *read, const NullableDatum *values, int nvalues,
				   bool after)
{
	read->nequal = nvalues - 1;
	seek(read, values, nvalues, after);
}

/* ---- entries ---- */

static inline void
enter_entry(PfaRead *read, IndexTuple entry)
{
	read->entry = entry;
	read->nentries++;
	if (BTreeTupleIsPosting(entry))
	{
		read->tids = BTreeTupleGetPosting(entry);
		read->ntids = BTreeTupleGetNPosting(entry);
	}
	else
	{
		read->tids = &entry->t_tid;
		read->ntids = 1;
	}
}

/* In line for pfa_read_count, and so is is_visible. */
static inline bool
next_entry(PfaRead *read)
{
	if (read->ntids > 1)
	{
		read->tids++;
		read->ntids--;
		return true;
	}
	while (BufferIsValid(read->buffer))
	{
		while (read->next < read->end)
		{
			ItemId item = PageGetItemId(read->page, read->next++);

			if (ItemIdIsDead(item) && read->skip_dead)
				continue;
			enter_entry(read, (IndexTuple) PageGetItem(read->page, item));
			return true;
		}
		/* Behind an entry that does not match, none does. */
		if (read->end <= read->last || !step_right(read))
			break;
		find_begin(read);
		find_end(read);
	}
	read->ntids = 0;
	return false;
}

bool
pfa_read_next_entry(PfaRead *read)
{
	return next_entry(read);
}

/*
 * What is behind the columns that entries must equal, if these are texts that
 * have their usual form; else NULL.  That is all there is to skip in nearly
 * every entry of ours, and index_getattr takes several times as long.
 */
static inline const char *
behind_equal(const PfaRead *read)
{
	const char *place = entry_data(read->entry);

	if (read->nequal > read->nvarlena || IndexTupleHasNulls(read->entry))
		return NULL;
	for (int i = 0; i < read->nequal; i++)
	{
		if (!VARATT_IS_SHORT(place))
			return NULL;
		place += VARSIZE_SHORT(place);
	}
	return place;
}

Datum
pfa_read_entry_column(PfaRead *read, int column, bool *isnull)
{
	TupleDesc desc = RelationGetDescr(read->index);
	const char *place = column > read->nequal ? behind_equal(read) : NULL;

	if (place == NULL)
		return index_getattr(read->entry, column, desc, isnull);
	for (int i = read->nequal;; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		place = (const char *) att_align_pointer(place, attribute->attalign,
												 attribute->attlen, place);
		if (i == column - 1)
		{
			*isnull = false;
			return fetchatt(attribute, place);
		}
		place = att_addlength_pointer(place, attribute->attlen, place);
	}
}

Datum
pfa_read_entry_value(PfaRead *read, int column)
{
	bool isnull;
	Datum value = pfa_read_entry_column(read, column, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d of \"%s\"", column,
			 RelationGetRelationName(read->index));
	return value;
}

/* ---- rows ---- */

bool
pfa_read_fetch(PfaRead *read)
{
	ItemPointerData tid = *read->tids;
	bool again = false;
	bool dead = false;

	if (!table_index_fetch_tuple(read->fetch, &tid, read->snapshot, read->slot,
								 &again, &dead))
		return false;
	pgstat_count_heap_fetch(read->index);
	return true;
}

static inline bool
is_visible(PfaRead *read)
{
	BlockNumber block = ItemPointerGetBlockNumber(read->tids);

	if (block != read->block)
	{
		CHECK_FOR_INTERRUPTS();
		read->block = block;
		read->all_visible = VM_ALL_VISIBLE(read->rel, block, &read->vmbuffer);
		/* What reading the row would have locked, under SERIALIZABLE. */
		if (read->all_visible && IsolationIsSerializable())
			PredicateLockPage(read->rel, block, read->snapshot);
	}
	return read->all_visible || pfa_read_fetch(read);
}

bool
pfa_read_visible(PfaRead *read)
{
	return is_visible(read);
}

bool
pfa_read_next(PfaRead *read)
{
	while (next_entry(read))
	{
		if (pfa_read_fetch(read))
			return true;
	}
	return false;
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

/* ---- counting ---- */

/* Order of the id and the text behind the columns that are equal. */
static inline int
compare_next_text(PfaRead *read, const PfaId *id)
{
	const char *place = behind_equal(read);
	Datum stored;
	text *value;
	int order;

	if (likely(place != NULL && VARATT_IS_SHORT(place)))
		return pfa_compare_ids(id->bytes, id->len, VARDATA_SHORT(place),
							   VARSIZE_SHORT(place) - VARHDRSZ_SHORT);
	stored = pfa_read_entry_value(read, read->nequal + 1);
	value = DatumGetTextPP(stored);
	order = pfa_compare_ids(id->bytes, id->len, VARDATA_ANY(value),
							VARSIZE_ANY_EXHDR(value));
	if ((Pointer) value != DatumGetPointer(stored))
		pfree(value);
	return order;
}

int64
pfa_read_count(PfaRead *read, const PfaId *without, int nwithout)
{
	int64 n = 0;
	int i = 0;

	while (next_entry(read))
	{
		int order = 1;

		while (i < nwithout &&
			   (order = compare_next_text(read, &without[i])) < 0)
			i++;
		if (i == nwithout || order != 0)
			n += is_visible(read);
	}
	return n;
}

/* ---- values ---- */

NullableDatum
pfa_text_value(const char *bytes, uint32 len)
{
	NullableDatum value = {PointerGetDatum(
							   cstring_to_text_with_len(bytes, len)),
						   false};

	return value;
}

NullableDatum
pfa_string_value(const char *string)
{
	return pfa_text_value(string, strlen(string));
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
